"""One xDS stream: bytes in, bytes out, and an account of both; knows no transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from controlplane.config import Role
from controlplane.errors import ProtocolError
from controlplane.grpc_services.envoys import EnvoyRecord, StreamRecord, XdsEvent, XdsEventKind
from controlplane.grpc_services.messages import nonce_part
from controlplane.grpc_services.requests import Node, parse_delta_request, parse_sotw_request
from controlplane.grpc_services.views import DEFAULT_VIEW
from controlplane.xds.delta import DeltaStream
from controlplane.xds.snapshot import view_key
from controlplane.xds.sotw import SotwStream
from controlplane.xds.types import DeltaRequest, Nacked, Response, SotwRequest

if TYPE_CHECKING:
    from controlplane.grpc_services.ads import XdsService

TTL_FEATURE = "xds.config.supports-resource-ttl"
SOTW_TTL_FEATURE = "xds.config.supports-resource-in-sotw"


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
    def record(self) -> StreamRecord | None:
        """Return the account of the stream; None before its first request."""
        return self._record

    def receive(self, message: bytes, *, now: float) -> bool:
        """Receive a message, and return whether something was refused in company.

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
        snapshot = self._views.snapshot(self._current_view(record.envoy))
        if snapshot is None:
            return []
        self._stream.publish(snapshot)
        responses = self._stream.responses_to_send()
        return [self._encode(response, record, now=now) for response in responses]

    def _current_view(self, envoy: EnvoyRecord) -> str:
        """Return the key of the view that the client gets now; noted for those who show it."""
        envoy.variant = self._views.variant(envoy.site, envoy.role, envoy.id)
        return view_key(envoy.site, envoy.role, envoy.variant) if envoy.variant else self._view

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
        """Remove the stream from the registry."""
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
