"""Discovery requests read, with the node that says who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from controlplane.errors import ProtocolError
from controlplane.resources.generations import generation_of
from controlplane.resources.names import ROLE_GRPC
from controlplane.xds.types import DeltaRequest, Rejection, SotwRequest

MAX_REFUSAL = 1_000
"""Characters kept of a refusal: Envoy's texts hold the whole offending message."""

_REFUSAL_MARK = "Proto constraint validation failed"
"""Envoy puts the reason behind this, after a dump of the message."""

_LARGE = 4_096
"""Bytes of a request from which the node is cut out before parsing, once it is known."""

_SOTW_NODE = 2
_DELTA_NODE = 1


@dataclass(frozen=True, slots=True)
class Node:
    """Who the client says it is."""

    id: str
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
    """Read what we use of an ``envoy.config.core.v3.Node``."""
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
