"""``network``: what is known of paths between sites before they are measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import Name, Settings
from controlplane.config.units import Bandwidth, Duration


class Path(Settings):
    """What is known beforehand of the network from one site to another; both ways."""

    source: Annotated[Name, Field(alias="from")]
    target: Annotated[Name, Field(alias="to")]
    rtt: Duration | None = None
    """Round-trip time."""
    bandwidth: Bandwidth | None = None
    """Of the path, in both directions."""


class Network(Settings):
    """The network between sites; measured values replace these."""

    default_rtt: Duration = 0.04
    """Round-trip time of every path that is not listed or measured."""
    local_rtt: Duration = 0.0005
    """Within one site."""
    default_bandwidth: Bandwidth | None = None
    """Bandwidth of every path that is not listed or measured; unlimited if it is left out."""
    paths: tuple[Path, ...] = ()
