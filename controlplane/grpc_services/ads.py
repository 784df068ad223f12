"""xDS over gRPC: aggregated and single-type streams, state of the world and delta.

This module moves bytes between our transport and the protocol core; what is sent when is decided in
`controlplane.xds`.
Methods take and give bytes, so that gRPC serialises nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from controlplane.auth.identity import OPEN, IdentityCheck
from controlplane.config import Role
from controlplane.errors import IdentityError, ProtocolError
from controlplane.grpc_services.envoys import EnvoyRegistry, StreamRecord, XdsEvent, XdsEventKind
from controlplane.grpc_services.messages import (
    Encoder,
    Node,
    nonce_part,
    parse_delta_request,
    parse_sotw_request,
)
from controlplane.grpc_services.views import DEFAULT_VIEW, ViewStore
from controlplane.grpc_transport.calls import OVERHEAD, Call, Serves
from controlplane.grpc_transport.limits import Cut, Limits
from controlplane.grpc_transport.status import StatusCode
from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.throttle import TokenBucket
from controlplane.xds.delta import DeltaStream
from controlplane.xds.snapshot import view_key
from controlplane.xds.sotw import SotwStream
from controlplane.xds.stream import XdsStream
from controlplane.xds.types import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    DeltaRequest,
    Nacked,
    Response,
    SotwRequest,
)

log = structlog.get_logger("xds")

SERVICES = {
    "envoy.service.discovery.v3.AggregatedDiscoveryService": ("AggregatedResources", ""),
    "envoy.service.cluster.v3.ClusterDiscoveryService": ("Clusters", CLUSTER),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": ("Endpoints", ENDPOINT),
    "envoy.service.listener.v3.ListenerDiscoveryService": ("Listeners", LISTENER),
    "envoy.service.route.v3.RouteDiscoveryService": ("Routes", ROUTE),
}
"""Service -> what its method names end in, and the type it serves; none: any."""

MAX_CONNECTIONS = 20_000
"""Connections whose starts are remembered."""

TTL_FEATURE = "xds.config.supports-resource-ttl"
SOTW_TTL_FEATURE = "xds.config.supports-resource-in-sotw"

ResolveSite = Callable[[Node], str | None]
"""Node -> name of its site; None when it names no site that is configured."""


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


class Session:
    """One stream from its first request on: bytes in, bytes out, and an account of both.

    Knows no transport; anyone who drives it calls `receive` for each message, `messages_to_send`
    after each of these and whenever it is woken, and `close` at the end.
    """

    __slots__ = (
        "_client_log",
        "_encoder",
        "_identities",
        "_names",
        "_record",
        "_registry",
        "_resolve_site",
        "_stream",
        "_ttl",
        "_type_url",
        "_unwatch",
        "_view",
        "_views",
        "_wake",
        "delta",
        "host",
    )

    def __init__(
        self,
        service: XdsService,
        *,
        delta: bool,
        type_url: str,
        wake: Callable[[], None],
        names: Sequence[str] = (),
        host: str = "",
    ) -> None:
        self.delta, self.host = delta, host
        self._client_log = service.client_log
        self._names = names
        self._identities = service.identities
        self._type_url = type_url
        self._views = service.views
        self._registry = service.registry
        self._encoder = service.encoder
        self._resolve_site = service.resolve_site
        stream_id = service.next_stream_id()
        kind = DeltaStream if delta else SotwStream
        self._stream: DeltaStream | SotwStream = kind(None, stream_id=stream_id)
        self._wake = wake
        self._record: StreamRecord | None = None
        self._unwatch: Callable[[], None] | None = None
        self._view = DEFAULT_VIEW
        self._ttl = False

    @property
    def stream(self) -> XdsStream:
        """Return the protocol's state."""
        return self._stream

    @property
    def record(self) -> StreamRecord | None:
        """Return the account of the stream; None before its first request."""
        return self._record

    def receive(self, message: bytes, *, now: float) -> bool:
        """Receive a message, and say whether something was refused in company.

        Raises:
            ProtocolError: the stream must end.
            IdentityError: it must end, since the client is not who it says.
        """
        record = self._record
        first = record is None
        request: SotwRequest | DeltaRequest
        if isinstance(self._stream, DeltaStream):
            request, node = parse_delta_request(message, with_node=first)
            self._check_type(request.type_url)
            if record is None:
                record = self._connect(node, now=now)
            events = self._stream.receive(self._typed_delta(request))
        else:
            request, node = parse_sotw_request(message, with_node=first)
            self._check_type(request.type_url)
            if record is None:
                record = self._connect(node, now=now)
            events = self._stream.receive(self._typed_sotw(request))
        for event in events:
            record.answered(event, now=now)
            if isinstance(event, Nacked):
                self._log_refusal(event, record)
        return bool(events) and self._stream.has_suspects

    def messages_to_send(self, *, now: float) -> list[tuple[bytes, bytes]]:
        """Return the messages that are due, in order: each a head of its own and a shared body."""
        record = self._record
        if record is None:
            return []
        snapshot = self._views.snapshot(self._view)
        if snapshot is None:
            return []
        self._stream.publish(snapshot)
        responses = self._stream.responses_to_send()
        return [self._encode(response, record, now=now) for response in responses]

    def heartbeats_to_send(self, *, now: float) -> list[tuple[bytes, bytes]]:
        """Return messages that renew what has a time to live."""
        if self._record is None or not self._ttl:
            return []
        responses = self._stream.heartbeats_to_send()
        return [self._encode(response, self._record, now=now) for response in responses]

    @property
    def heartbeat_period(self) -> float | None:
        """Return the seconds between heartbeats; None where nothing needs one."""
        ttl = self._stream.shortest_ttl if self._ttl else None
        return None if ttl is None else ttl / 3

    def isolate(self) -> None:
        """Let what was refused in company go once more, one by one."""
        self._stream.isolate()

    def close(self, *, now: float) -> None:
        """Remove the stream out of the books."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._record is not None:
            self._registry.disconnect(self._record, now=now)
            self._record = None

    def _check_type(self, type_url: str) -> None:
        if self._type_url and type_url and type_url != self._type_url:
            raise ProtocolError(f"a request for {type_url} on a stream of {self._type_url}")

    def _typed_sotw(self, request: SotwRequest) -> SotwRequest:
        if request.type_url or not self._type_url:
            return request
        return SotwRequest(
            self._type_url, request.names, request.version, request.nonce, request.rejection
        )

    def _typed_delta(self, request: DeltaRequest) -> DeltaRequest:
        if request.type_url or not self._type_url:
            return request
        return DeltaRequest(
            self._type_url,
            request.subscribe,
            request.unsubscribe,
            request.initial_versions,
            request.nonce,
            request.rejection,
        )

    def _connect(self, node: Node | None, *, now: float) -> StreamRecord:
        if node is None or not node.id:
            raise ProtocolError("the first request of a stream must carry a node with an id")
        site = self._resolve_site(node)
        # A site that is claimed and not known gets its own view as soon as it is configured.
        place = site if site is not None else node.site or DEFAULT_VIEW
        self._identities.check(self._names, Role.ENVOY, id=node.id, site=place)
        self._view = view_key(place, node.role)
        self._ttl = TTL_FEATURE in node.features and (
            self.delta or SOTW_TTL_FEATURE in node.features
        )
        self._record = self._registry.connect(
            node,
            site=place,
            known_site=site is not None,
            delta=self.delta,
            now=now,
            stream=self._stream,
        )
        if site is None:
            self._client_log.warning(
                "Envoy of unknown site served the default view",
                node.id[:256],
                envoy=node.id[:256],
                site=node.site[:256],
                region=node.region[:256],
                zone=node.zone[:256],
                remedy="set node.metadata.site to a site of the configuration",
            )
            self._registry.observe(
                XdsEvent(XdsEventKind.UNKNOWN_SITE, node.id[:256], node.site[:256], self.delta)
            )
        self._unwatch = self._views.watch(self._view, self._wake)
        return self._record

    def _encode(
        self, response: Response, record: StreamRecord, *, now: float
    ) -> tuple[bytes, bytes]:
        head = nonce_part(response.nonce)
        body = self._encoder.shared_part(response, delta=self.delta, ttl=self._ttl)
        record.sent(response, size=len(head) + len(body), now=now)
        return head, body

    def _log_refusal(self, event: Nacked, record: StreamRecord) -> None:
        self._client_log.warning(
            "resources rejected",
            (record.envoy.id, event.type_url),
            envoy=record.envoy.id,
            site=record.envoy.site,
            type=event.type_url.rpartition(".")[2],
            version=event.version,
            reason=event.rejection.message,
            remedy="see the reason; Envoy keeps the last version that it acknowledged",
        )


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
        """Remove the stream out of the books."""
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
        """Return the status for what ended a stream, and say whom it concerns."""
        if isinstance(error, IdentityError):
            return StatusCode.PERMISSION_DENIED, str(error)
        if isinstance(error, ProtocolError):
            self._observe_end(session, XdsEventKind.PROTOCOL_ERROR, str(error))
            self.client_log.warning(
                "xDS protocol violated",
                session.host,
                reason=str(error),
                remedy="check the client: it is no Envoy or gRPC client of a supported version",
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
