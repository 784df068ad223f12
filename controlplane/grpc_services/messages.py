"""Discovery messages as bytes: requests are parsed, responses are joined from bytes made once.

Responses are framed by hand: the protobuf runtime would copy and check megabytes for every stream.
A field is a varint key ``number << 3 | wire type``, for bytes followed by a varint length
[Protocol Buffers Encoding]; fields may come in any order, so the nonce, the only part that differs
between streams, comes last and the rest is shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from controlplane.errors import ProtocolError
from controlplane.resources.names import ROLE_GRPC
from controlplane.resources.versions import generation_of
from controlplane.xds.types import (
    PREFIX,
    DeltaRequest,
    Push,
    Rejection,
    Resource,
    Response,
    SotwRequest,
)

NOT_FOUND = 5
"""google.rpc.Code."""

MAX_REFUSAL = 1_000
"""Characters kept of a refusal: Envoy's texts hold the whole offending message."""

_REFUSAL_MARK = "Proto constraint validation failed"
"""Envoy puts the reason behind this, after a dump of the message."""

RESOURCE_WRAPPER = PREFIX + "envoy.service.discovery.v3.Resource"

_LARGE = 4_096
"""Bytes of a request from which the node is cut out before parsing, once it is known."""

_SOTW_NODE = 2
_DELTA_NODE = 1


@dataclass(frozen=True, slots=True)
class Node:
    """Who the client says it is."""

    id: str
    cluster: str = ""
    site: str = ""
    """``metadata.site``."""
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    features: frozenset[str] = frozenset()
    """``client_features``."""
    agent: str = ""
    """User agent and version, for people."""
    role: str = ""
    """What kind of client it is, where kinds get different resources; a sidecar has none."""


def parse_sotw_request(body: bytes, *, with_node: bool) -> tuple[SotwRequest, Node | None]:
    """Read a ``DiscoveryRequest``; its node only if *with_node*.

    Raises:
        ProtocolError: it is not one.
    """
    message = _parse(discovery_pb2.DiscoveryRequest, body, _SOTW_NODE, with_node=with_node)
    request = SotwRequest(
        message.type_url,
        _parse_names(message.resource_names, message.resource_locators),
        message.version_info,
        message.response_nonce,
        _parse_rejection(message),
    )
    return request, parse_node(message.node) if with_node and message.HasField("node") else None


def parse_delta_request(body: bytes, *, with_node: bool) -> tuple[DeltaRequest, Node | None]:
    """Read a ``DeltaDiscoveryRequest``; its node only if *with_node*.

    Raises:
        ProtocolError: it is not one.
    """
    message = _parse(discovery_pb2.DeltaDiscoveryRequest, body, _DELTA_NODE, with_node=with_node)
    request = DeltaRequest(
        message.type_url,
        _parse_names(message.resource_names_subscribe, message.resource_locators_subscribe),
        _parse_names(message.resource_names_unsubscribe, message.resource_locators_unsubscribe),
        dict(message.initial_resource_versions),
        message.response_nonce,
        _parse_rejection(message),
    )
    return request, parse_node(message.node) if with_node and message.HasField("node") else None


def _parse_names(names: Any, locators: Any) -> tuple[str, ...]:
    if locators:
        names = (*names, *(locator.name for locator in locators))
    return tuple(canonical_name(name) if "&" in name else name for name in names)


def canonical_name(name: str) -> str:
    """Put the context parameters of an ``xdstp`` name in order: they are a map [xRFC TP1]."""
    path, mark, parameters = name.partition("?")
    if not mark or not path.startswith("xdstp:"):
        return name
    parameters, mark, directives = parameters.partition("#")
    return f"{path}?{'&'.join(sorted(parameters.split('&')))}{mark}{directives}"


def _parse(kind: Any, body: bytes, node_field: int, *, with_node: bool) -> Any:
    if not with_node and len(body) > _LARGE:
        body = without_field(body, node_field)
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise ProtocolError(f"a request that is no {kind.DESCRIPTOR.name}: {error}") from None


def _parse_rejection(message: Any) -> Rejection | None:
    if not message.HasField("error_detail"):
        return None
    return Rejection(message.error_detail.code, trim_refusal(message.error_detail.message))


def trim_refusal(text: str) -> str:
    """Keep the part of a refusal that says the reason."""
    mark = text.rfind(_REFUSAL_MARK)
    if mark >= 0:
        text = text[mark:]
    return text if len(text) <= MAX_REFUSAL else "…" + text[-MAX_REFUSAL:]


def parse_node(node: Any) -> Node:
    """Receive what we use out of an ``envoy.config.core.v3.Node``."""
    fields = node.metadata.fields
    site = fields["site"].string_value if "site" in fields else ""
    version = node.user_agent_build_version.version
    number = (
        f"{version.major_number}.{version.minor_number}.{version.patch}"
        if node.HasField("user_agent_build_version")
        else node.user_agent_version
    )
    return Node(
        id=node.id,
        cluster=node.cluster,
        site=site,
        region=node.locality.region,
        zone=node.locality.zone,
        sub_zone=node.locality.sub_zone,
        features=frozenset(node.client_features),
        agent=f"{node.user_agent_name} {number}".strip(),
        role=_role(fields["role"].string_value if "role" in fields else "", node),
    )


def _role(claimed: str, node: Any) -> str:
    """Return gRPC's role for its own clients, such as ``gRPC C-core``, and that of older Envoys."""
    if claimed == ROLE_GRPC or node.user_agent_name.startswith("gRPC"):
        return ROLE_GRPC
    if node.user_agent_name != "envoy" or not node.HasField("user_agent_build_version"):
        return ""
    version = node.user_agent_build_version.version
    return generation_of(version.major_number, version.minor_number).role


def _varint_at(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ProtocolError("a request with a number of more than 64 bits")


def without_field(body: bytes, number: int) -> bytes:
    """Cut a length-delimited field out of a message, without looking into it.

    Raises:
        ProtocolError: it is no message.
    """
    parts = []
    start = at = 0
    try:
        while at < len(body):
            begin = at
            key, at = _varint_at(body, at)
            kind = key & 7
            if kind == 0:
                _, at = _varint_at(body, at)
            elif kind == 1:
                at += 8
            elif kind == 2:
                length, at = _varint_at(body, at)
                at += length
            elif kind == 5:
                at += 4
            else:
                raise ProtocolError(f"a request with a field of wire type {kind}")
            if key >> 3 == number:
                parts.append(body[start:begin])
                start = at
    except IndexError:
        raise ProtocolError("a request that ends in the middle of a field") from None
    if at > len(body):
        raise ProtocolError("a request that ends in the middle of a field")
    parts.append(body[start:])
    return b"".join(parts)


def varint(value: int) -> bytes:
    """Write an unsigned number in base 128, least significant group first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """Write a length-delimited field; proto3 leaves out what is empty unless it is a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def _text(number: int, content: str) -> bytes:
    return field(number, content.encode()) if content else b""


def _duration(seconds: float) -> bytes:
    whole, rest = divmod(round(seconds * 1_000_000_000), 1_000_000_000)
    return (b"\x08" + varint(whole) if whole else b"") + (b"\x10" + varint(rest) if rest else b"")


class Encoder:
    """Writes responses; remembers the part that streams share as long as one of them needs it."""

    def __init__(self, identifier: str) -> None:
        self._control_plane = _text(1, identifier)
        self._bodies: tuple[WeakKeyDictionary[Push, bytes], ...] = tuple(
            WeakKeyDictionary() for _ in range(4)
        )

    def encode(self, response: Response, *, delta: bool, ttl: bool = False) -> bytes:
        """Write a response as bytes.

        Args:
            response: what to write.
            delta: as ``DeltaDiscoveryResponse``, else as ``DiscoveryResponse``.
            ttl: whether the client understands a time to live.
        """
        return self.shared_part(response, delta=delta, ttl=ttl) + nonce_part(response.nonce)

    def shared_part(self, response: Response, *, delta: bool, ttl: bool = False) -> bytes:
        """Return everything but the nonce; the same object for equal pushes."""
        bodies = self._bodies[delta * 2 + ttl]
        body = bodies.get(response.push)
        if body is None:
            write = self._delta_body if delta else self._sotw_body
            body = bodies[response.push] = write(response.type_url, response.push, ttl=ttl)
        return body

    def _sotw_body(self, type_url: str, push: Push, *, ttl: bool) -> bytes:
        parts = [_text(1, push.version)]
        for resource in push.resources:
            body = resource.body
            if ttl and resource.ttl is not None:
                wrapped = _wrapper(resource, ttl=True, heartbeat=push.heartbeat)
                body = _text(1, RESOURCE_WRAPPER) + field(2, wrapped)
            parts.append(field(2, body))
        parts.append(_text(4, type_url))
        parts.append(field(6, self._control_plane))
        parts += _resource_errors(7, push)
        return b"".join(parts)

    def _delta_body(self, type_url: str, push: Push, *, ttl: bool) -> bytes:
        parts = [_text(1, push.version)]
        parts += [
            field(2, _wrapper(resource, ttl=ttl, heartbeat=push.heartbeat))
            for resource in push.resources
        ]
        parts.append(_text(4, type_url))
        parts += [field(6, name.encode()) for name in push.removed]
        parts.append(field(7, self._control_plane))
        parts += _resource_errors(9, push)
        return b"".join(parts)


def _resource_errors(number: int, push: Push) -> list[bytes]:
    """Write which names do not exist, as ``ResourceError`` messages [xRFC TP3]."""
    errors = []
    for name in push.missing:
        status = b"\x08" + varint(NOT_FOUND) + _text(2, f"there is no resource {name}")
        errors.append(field(number, field(1, _text(1, name)) + field(2, status)))
    return errors


def nonce_part(nonce: str) -> bytes:
    """Write the nonce, which has the same field number in both modes."""
    return _text(5, nonce)


def _wrapper(resource: Resource, *, ttl: bool, heartbeat: bool) -> bytes:
    return b"".join(
        (
            _text(1, resource.version),
            b"" if heartbeat else field(2, resource.body),
            _text(3, resource.name),
            field(6, _duration(resource.ttl)) if ttl and resource.ttl is not None else b"",
        )
    )
