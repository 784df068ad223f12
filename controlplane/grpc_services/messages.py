"""Discovery responses as bytes, joined from bytes made once; see `requests` for what is parsed.

Responses are framed by hand: the protobuf runtime would copy and check megabytes for every stream.
Fields (`controlplane.resources.wire_format`) may come in any order, so the nonce, the only part
that differs between streams, comes last and the rest is shared.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from controlplane.resources.wire_format import field, varint
from controlplane.xds.types import PREFIX, Push, Resource, Response

NOT_FOUND = 5
"""google.rpc.Code."""

RESOURCE_WRAPPER = PREFIX + "envoy.service.discovery.v3.Resource"


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
