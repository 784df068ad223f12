"""xDS over gRPC: aggregated and single-type streams, state of the world and delta.

This module moves bytes between our transport and the protocol core; what is sent when is decided in
`controlplane.xds`.
Methods take and give bytes, so that gRPC serialises nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from functools import partial

import structlog

from controlplane.auth.identity import OPEN, IdentityCheck
from controlplane.errors import IdentityError, ProtocolError
from controlplane.grpc_services.envoys import EnvoyRegistry, XdsEvent, XdsEventKind
from controlplane.grpc_services.messages import Encoder
from controlplane.grpc_services.requests import Node
from controlplane.grpc_services.session import Session
from controlplane.grpc_services.views import ViewStore
from controlplane.grpc_services.xds_settings import MAX_CONNECTIONS, XdsSettings
from controlplane.grpc_transport.calls import OVERHEAD, Call, Serves
from controlplane.grpc_transport.limits import Cut
from controlplane.grpc_transport.status import StatusCode
from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.throttle import TokenBucket
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE

log = structlog.get_logger("xds")

SERVICES = {
    "envoy.service.discovery.v3.AggregatedDiscoveryService": ("AggregatedResources", ""),
    "envoy.service.cluster.v3.ClusterDiscoveryService": ("Clusters", CLUSTER),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": ("Endpoints", ENDPOINT),
    "envoy.service.listener.v3.ListenerDiscoveryService": ("Listeners", LISTENER),
    "envoy.service.route.v3.RouteDiscoveryService": ("Routes", ROUTE),
}
"""Service -> what its method names end in, and the type it serves; none: any."""

ResolveSite = Callable[[Node], str | None]
"""Node -> name of its site; None when it names no site that is configured."""


class XdsCall:
    """One xDS call on our own transport: driven by the socket's callbacks alone."""

    __slots__ = ("_beat", "_due", "_held", "_loop", "_service", "_session", "_stream")

    def __init__(
        self,
        service: XdsService,
        stream: Call,
        *,
        type_url: str,
        delta: bool,
        wait: float = 0.0,
    ) -> None:
        self._service = service
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._beat: asyncio.TimerHandle | None = None
        self._session = Session(
            service,
            delta=delta,
            type_url=type_url,
            wake=self._woken,
            names=stream.names,
            host=stream.host,
        )
        self._held: list[bytes] | None = None
        if wait > 0:
            self._held = []
            self._loop.call_later(wait, self._start)

    def message_received(self, message: bytes) -> None:
        """Receive a request and answer it."""
        service = self._service
        if self._held is not None:
            # Unread, so that the client is granted no more while it waits.
            self._held.append(message)
            self._stream.hold(len(message) + OVERHEAD)
            return
        try:
            if self._session.receive(message, now=service.clock()):
                self._loop.call_later(service.settings.isolation_delay, self._isolate)
        except Exception as error:  # noqa: BLE001 -- the loop that serves everyone must go on
            self._stream.finish(*service.explain(self._session, error))
        else:
            self._push()

    def _start(self) -> None:
        held, self._held = self._held or [], None
        for message in held:
            self._stream.hold(-len(message) - OVERHEAD)
            if not self._stream.is_over:
                self.message_received(message)

    def half_closed(self) -> None:
        """End the call as the client did."""
        self._stream.finish(StatusCode.OK)

    def closed(self) -> None:
        """Remove the stream from the registry."""
        if self._stream.cut is Cut.SLOW_READER:
            self._service.explain(self._session, TimeoutError())
        if self._beat is not None:
            self._beat.cancel()
        self._session.close(now=self._service.clock())

    def drained(self) -> None:
        """Send what came due while the client read."""
        if self._due:
            self._push()

    def _woken(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._push)

    def _isolate(self) -> None:
        self._session.isolate()
        self._push()

    def _push(self) -> None:
        """Send what is due, unless the client still reads: then the latest goes when it is done."""
        stream = self._stream
        if not stream.is_drained:
            self._due = True
            return
        self._due = False
        self._send(self._session.messages_to_send)
        if self._beat is None and (period := self._session.heartbeat_period) is not None:
            self._beat = self._loop.call_later(period, self._renew)

    def _renew(self) -> None:
        """Send heartbeats, unless the client still reads."""
        self._beat = None
        if self._stream.is_drained:
            self._send(self._session.heartbeats_to_send)
        if (period := self._session.heartbeat_period) is not None:
            self._beat = self._loop.call_later(period, self._renew)

    def _send(self, messages: Callable[..., list[tuple[bytes, bytes]]]) -> None:
        try:
            for head, body in messages(now=self._service.clock()):
                self._stream.send(head, body)
        except Exception as error:  # noqa: BLE001 -- the loop that serves everyone must go on
            self._stream.finish(*self._service.explain(self._session, error))


class XdsService:
    """All xDS methods of one server."""

    def __init__(
        self,
        views: ViewStore,
        registry: EnvoyRegistry,
        *,
        resolve_site: ResolveSite,
        settings: XdsSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        identities: IdentityCheck = OPEN,
    ) -> None:
        self.identities = identities
        self.views = views
        self.registry = registry
        self.resolve_site = resolve_site
        self.settings = settings or XdsSettings()
        self.encoder = Encoder(self.settings.identifier)
        self.clock = clock
        self.client_log = ClientLog(log, clock=clock)
        self._stream_numbers = itertools.count()
        self._per_connection: dict[str, TokenBucket] = {}
        """Peer -> what it may start; the one that started last is last."""
        self._starts = TokenBucket(
            rate=self.settings.streams_rate, burst=self.settings.streams_burst, now=clock()
        )

    def serve_on(self, server: Serves) -> None:
        """Serve the methods of all services on our own transport."""
        for service, (suffix, type_url) in SERVICES.items():
            for prefix, delta in (("Stream", False), ("Delta", True)):
                server.add_method(
                    f"/{service}/{prefix}{suffix}",
                    partial(self._call, type_url=type_url, delta=delta),
                )

    def next_stream_id(self) -> str:
        """Return what the nonces of a new stream begin with: no two streams share a nonce."""
        return f"{next(self._stream_numbers):x}-"

    def _call(self, stream: Call, *, type_url: str, delta: bool) -> XdsCall | None:
        code, text, wait = self._reserve(stream.peer)
        if code is not None:
            stream.finish(code, text)
            return None
        return XdsCall(self, stream, type_url=type_url, delta=delta, wait=wait)

    def _reserve(self, peer: str) -> tuple[StatusCode | None, str, float]:
        """Return why a stream may not start, or the seconds that it must wait."""
        if not self.views.ready:
            self.registry.observe(XdsEvent(XdsEventKind.REFUSED_STREAM, text="not ready"))
            return StatusCode.UNAVAILABLE, "no plan is loaded yet", 0.0
        now, patience = self.clock(), self.settings.streams_patience
        bucket = self._per_connection.pop(peer, None) or TokenBucket(
            rate=self.settings.connection_streams_rate,
            burst=self.settings.connection_streams_burst,
            now=now,
        )
        self._per_connection[peer] = bucket
        if len(self._per_connection) > MAX_CONNECTIONS:
            del self._per_connection[next(iter(self._per_connection))]
        wait = bucket.reserve(now=now, patience=patience)
        if wait is not None:
            others = self._starts.reserve(now=now, patience=patience)
            wait = None if others is None else max(wait, others)
        if wait is None:
            self.registry.observe(XdsEvent(XdsEventKind.REFUSED_STREAM, text="too many streams"))
            return StatusCode.RESOURCE_EXHAUSTED, "too many streams start at once", 0.0
        return None, "", wait

    def explain(self, session: Session, error: Exception) -> tuple[StatusCode, str]:
        """Return the status for what ended a stream, and log whom it concerns."""
        if isinstance(error, IdentityError):
            return StatusCode.PERMISSION_DENIED, str(error)
        if isinstance(error, ProtocolError):
            self._observe_end(session, XdsEventKind.PROTOCOL_ERROR, str(error))
            self.client_log.warning(
                "xDS protocol violated",
                session.host,
                reason=str(error),
                remedy="check the client: it is not an Envoy or gRPC client of a supported version",
            )
            return StatusCode.INVALID_ARGUMENT, str(error)
        if isinstance(error, TimeoutError):
            self._observe_end(session, XdsEventKind.SEND_TIMEOUT, "send timeout")
            return StatusCode.UNAVAILABLE, "the client does not read"
        self._observe_end(session, XdsEventKind.BUG, repr(error))
        self.client_log.error("xDS stream failed", type(error).__name__, exc_info=error)
        return StatusCode.INTERNAL, "internal error"

    def _observe_end(self, session: Session, what: XdsEventKind, text: str) -> None:
        record = session.record
        envoy = record.envoy if record is not None else None
        self.registry.observe(
            XdsEvent(
                what,
                envoy.id if envoy else "",
                envoy.site if envoy else "",
                session.delta,
                text=text,
            )
        )
