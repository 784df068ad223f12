"""How xDS streams are served, and what bounds their clients."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.grpc_transport.limits import Limits

MAX_CONNECTIONS = 20_000
"""Connections whose starts are remembered."""


@dataclass(frozen=True, slots=True)
class XdsSettings:
    """How streams are served."""

    identifier: str = "cats"
    """``control_plane.identifier``: Envoy shows it as a statistic."""
    send_timeout: float = 20.0
    """Seconds that a client may take to read one response before its stream is closed."""
    isolation_delay: float = 2.0
    """Seconds after which resources that were refused together are sent one by one."""
    streams_rate: float = 2_000.0
    """Streams that may start a second."""
    streams_burst: float = 4_000.0
    """Streams that may start at once."""
    streams_patience: float = 5.0
    """Seconds that a stream may wait to start before it is refused with RESOURCE_EXHAUSTED."""
    connection_streams_rate: float = 5.0
    """Streams that one connection may start a second: it leaves the rest to the others."""
    connection_streams_burst: float = 100.0
    max_age: float = 1_800.0
    """Seconds after which a connection is asked to move on, a tenth more or less, so that clients
    spread over replicas again; istio takes half an hour too."""
    max_age_grace: float = 10.0
    """Seconds that its streams may then go on."""
    keepalive_period: float = 30.0
    """Seconds without traffic before a client is pinged."""
    keepalive_timeout: float = 10.0
    """Seconds that it may take to answer."""
    max_request: int = 4 << 20
    """Bytes of one request."""


def limits(settings: XdsSettings) -> Limits:
    """Return the limits of our own transport for connections that are served xDS."""
    return Limits(
        max_message=settings.max_request,
        send_timeout=settings.send_timeout,
        keepalive_period=settings.keepalive_period,
        keepalive_timeout=settings.keepalive_timeout,
        max_age=settings.max_age,
        max_age_grace=settings.max_age_grace,
    )
