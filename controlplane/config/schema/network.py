"""``network``: what is known of paths between sites before they are measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import Name, Settings
from controlplane.config.units import Bandwidth, Duration


class Path(Settings):
    """What is known of the path between two sites before it is measured; in both directions."""

    source: Annotated[Name, Field(alias="from")]
    target: Annotated[Name, Field(alias="to")]
    rtt: Duration | None = None
    """Round-trip time."""
    bandwidth: Bandwidth | None = None
    """Bandwidth of the path, in each direction."""


class Network(Settings):
    """The network between sites, as far as it is not measured."""

    default_rtt: Duration = 0.04
    """Round-trip time of every path that is not listed or measured."""
    local_rtt: Duration = 0.0005
    """Round-trip time within one site."""
    default_bandwidth: Bandwidth | None = None
    """Bandwidth of every path that is not listed or measured; unlimited if it is left out."""
    paths: tuple[Path, ...] = ()
