"""Who has what: the client status discovery service (CSDS), for people and their tools.

Answers from the books of the streams that are open here: for each client, each resource it was
sent, whether it took it, and why not [csds.proto].
It says every address of the fleet, so only this machine's own users are answered; where clients
show certificates, only those that ``server.identities`` gives the role ``observer``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.service.status.v3 import csds_pb2
from google.protobuf.message import DecodeError

from controlplane.auth.identity import OPEN, IdentityCheck
from controlplane.config import Role
from controlplane.config.addresses import is_loopback
from controlplane.errors import IdentityError
from controlplane.grpc_services.envoys import EnvoyRecord, EnvoyRegistry, TypeRecord
from controlplane.grpc_transport.calls import Call, Conversation, Serves, conversing
from controlplane.grpc_transport.status import CallError, StatusCode
from controlplane.resources.names import ROLE_GRPC
from controlplane.resources.wire_format import field
from controlplane.runtime.throttle import TokenBucket
from controlplane.xds.type_state import ClientResource, ResourceStatus

SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"

_CLIENTS_AT_ONCE = 16
"""Clients written before the loop may serve others."""

_STATUS = {
    ResourceStatus.TAKEN: csds_pb2.SYNCED,
    ResourceStatus.UNDER_WAY: csds_pb2.STALE,
    ResourceStatus.REFUSED: csds_pb2.ERROR,
    ResourceStatus.NOT_SENT: csds_pb2.NOT_SENT,
}
"""``ConfigStatus``, the view of a management server."""


@dataclass(frozen=True, slots=True)
class StatusSettings:
    """What those who ask may cost."""

    max_request: int = 65_536
    """Bytes of one request."""
    max_matchers: int = 100
    """Node matchers of one request."""
    max_response: int = 4_000_000
    """Bytes of one response; clients of gRPC refuse larger ones than 4 MiB unless reported."""
    max_calls: int = 16
    requests_rate: float = 2.0
    """Requests a second of one stream; a faster one is held back."""
    requests_burst: float = 10.0


Matches = Callable[[str, dict[str, str]], bool]
"""Node id and metadata -> whether the node is meant."""


class ClientStatusService:
    """Both methods of CSDS.

    Args:
        registry: who is connected.
        epoch: gives the Unix time of the clock's zero.
        settings: bounds.
        clock: seconds, monotonic; the registry's.
        identities: whom a client's certificate lets it be.
    """

    def __init__(
        self,
        registry: EnvoyRegistry,
        *,
        epoch: Callable[[], float],
        settings: StatusSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        identities: IdentityCheck = OPEN,
    ) -> None:
        self._identities = identities
        self._registry = registry
        self._epoch = epoch
        self._settings = settings or StatusSettings()
        self._clock = clock
        self._calls = 0

    def serve_on(self, server: Serves) -> None:
        """Serve both methods on *server*."""
        server.add_method(f"/{SERVICE}/StreamClientStatus", conversing(self._stream))
        server.add_method(f"/{SERVICE}/FetchClientStatus", conversing(self._fetch))

    async def _fetch(self, call: Conversation) -> None:
        self._admit(call.call)
        message = await call.read()
        if message is None:
            raise CallError(StatusCode.INTERNAL, "the request is missing")
        await call.write(await self._answer(message))

    async def _stream(self, call: Conversation) -> None:
        settings = self._settings
        bucket = TokenBucket(
            rate=settings.requests_rate, burst=settings.requests_burst, now=self._clock()
        )
        self._admit(call.call)
        self._calls += 1
        try:
            while (message := await call.read()) is not None:
                await call.write(await self._answer(message))
                wait = bucket.reserve(now=self._clock(), patience=3600.0)
                if wait:
                    await asyncio.sleep(wait)
        finally:
            self._calls -= 1

    def _admit(self, call: Call) -> None:
        if self._calls >= self._settings.max_calls:
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, "too many ask at once")
        if self._identities.enforced:
            try:
                self._identities.check(call.names, Role.OBSERVER)
            except IdentityError as error:
                raise CallError(StatusCode.PERMISSION_DENIED, str(error)) from error
        elif not is_loopback(call.host):
            raise CallError(
                StatusCode.PERMISSION_DENIED,
                "client status is served on loopback, or to an observer of server.identities",
            )

    async def _answer(self, message: bytes) -> bytes:
        if len(message) > self._settings.max_request:
            raise CallError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"a request of {len(message)} bytes; the most is {self._settings.max_request}",
            )
        try:
            request = csds_pb2.ClientStatusRequest.FromString(message)
        except DecodeError as error:
            raise CallError(
                StatusCode.INVALID_ARGUMENT, f"no ClientStatusRequest: {error}"
            ) from None
        if len(request.node_matchers) > self._settings.max_matchers:
            raise CallError(StatusCode.INVALID_ARGUMENT, "too many node matchers")
        matchers = [_parse_node_matcher(each) for each in request.node_matchers]
        parts: list[bytes] = []
        size = 0
        epoch = self._epoch()
        for number, envoy in enumerate(list(self._registry.envoys)):
            metadata = {
                "site": envoy.site,
                "role": ROLE_GRPC if envoy.role == ROLE_GRPC else "envoy",
            }
            if envoy.connected and (
                not matchers or any(matches(envoy.id, metadata) for matches in matchers)
            ):
                contents = not request.exclude_resource_contents
                parts.append(field(1, _client(envoy, metadata, contents=contents, epoch=epoch)))
                size += len(parts[-1])
                if size > self._settings.max_response:
                    raise CallError(
                        StatusCode.RESOURCE_EXHAUSTED,
                        f"more than {self._settings.max_response} bytes of status; name fewer"
                        " nodes with node_matchers, or set exclude_resource_contents",
                    )
            if number % _CLIENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return b"".join(parts)


def _client(envoy: EnvoyRecord, metadata: dict[str, str], *, contents: bool, epoch: float) -> bytes:
    config = csds_pb2.ClientConfig(
        node=base_pb2.Node(id=envoy.id, user_agent_name=envoy.agent), client_scope=envoy.mode
    )
    config.node.metadata.update(metadata)
    for stream in envoy.open_streams:
        for held in stream.held_resources():
            kind = envoy.types.get(held.type_url)
            _write(config.generic_xds_configs.add(), held, kind, contents=contents, epoch=epoch)
    serialised: bytes = config.SerializeToString()
    return serialised


def _write(
    to: Any, held: ClientResource, kind: TypeRecord | None, *, contents: bool, epoch: float
) -> None:
    to.type_url, to.name = held.type_url, held.name
    to.config_status = _STATUS[held.standing]
    if held.resource is not None:
        to.version_info = held.resource.version
        if contents:
            to.xds_config.MergeFromString(held.resource.body)
    if kind is None:
        return
    if held.standing is ResourceStatus.TAKEN and kind.acked_at is not None:
        to.last_updated.FromNanoseconds(round((kind.acked_at + epoch) * 1e9))
    if held.standing is ResourceStatus.REFUSED and kind.refused_at is not None:
        to.error_state.details = kind.refusal
        to.error_state.version_info = to.version_info
        to.error_state.last_update_attempt.FromNanoseconds(round((kind.refused_at + epoch) * 1e9))


def _parse_node_matcher(message: Any) -> Matches:
    """Read a ``NodeMatcher``: its id and all of its metadata must match."""
    conditions = list(_conditions(message))
    return lambda node_id, metadata: all(holds(node_id, metadata) for holds in conditions)


def _conditions(message: Any) -> Iterator[Matches]:
    if message.HasField("node_id"):
        matches_id = _parse_string_matcher(message.node_id)
        yield lambda node_id, _metadata: matches_id(node_id)
    for each in message.node_metadatas:
        keys = [segment.key for segment in each.path]
        kind = each.value.WhichOneof("match_pattern")
        if len(keys) != 1 or kind not in {"string_match", "present_match"}:
            raise CallError(
                StatusCode.INVALID_ARGUMENT,
                "node_metadatas: one key and a string_match or present_match are understood",
            )
        (key,) = keys
        if kind == "present_match":
            yield _presence(key, wanted=each.value.present_match)
        else:
            yield _value(key, _parse_string_matcher(each.value.string_match))


def _presence(key: str, *, wanted: bool) -> Matches:
    return lambda _id, metadata: (key in metadata) == wanted


def _value(key: str, test: Callable[[str], bool]) -> Matches:
    return lambda _id, metadata: key in metadata and test(metadata[key])


def _parse_string_matcher(message: Any) -> Callable[[str], bool]:
    kind = message.WhichOneof("match_pattern")
    tests: dict[str, Callable[[str, str], bool]] = {
        "exact": str.__eq__,
        "prefix": str.startswith,
        "suffix": str.endswith,
        "contains": str.__contains__,
    }
    if kind not in tests:
        # An expression that backtracks would stop the loop that serves everyone.
        raise CallError(
            StatusCode.INVALID_ARGUMENT,
            "exact, prefix, suffix and contains are understood, other matches are not",
        )
    test, pattern = tests[kind], getattr(message, kind)
    if message.ignore_case:
        return lambda text: test(text.casefold(), pattern.casefold())
    return lambda text: test(text, pattern)
