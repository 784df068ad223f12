"""``network``: what is known of paths between sites before they are measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import Name, Settings
from controlplane.config.units import Bandwidth, Duration


class Path(Settings):
    """Prior for the path between two sites, in both directions; measurements replace it."""

    source: Annotated[Name, Field(alias="from")]
    """Site at one end."""
    target: Annotated[Name, Field(alias="to")]
    """Site at the other end."""
    rtt: Duration | None = None
    """Round-trip time; by default ``network.default_rtt``."""
    bandwidth: Bandwidth | None = None
    """Bandwidth in each direction; by default ``network.default_bandwidth``."""


class Network(Settings):
    """Network between sites, for paths that are not measured."""

    default_rtt: Duration = 0.04
    """Round-trip time between two sites whose path is neither listed nor measured."""
    local_rtt: Duration = 0.0005
    """Round-trip time within a site."""
    default_bandwidth: Bandwidth | None = None
    """Bandwidth between two sites whose path is neither listed nor measured; unlimited by
    default."""
    paths: tuple[Path, ...] = ()
