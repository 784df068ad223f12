"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6), and gRPC's fixed header blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from urllib.parse import quote

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
DEFAULT_FRAME_SIZE = 16_384
MAX_FRAME_SIZE = 2**24 - 1
DEFAULT_TABLE_SIZE = 4_096

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20


class Setting(IntEnum):
    """RFC 9113, section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):  # noqa: N818 -- a fault of the peer, not of ours
    """The peer broke HTTP/2 in a way that ends the connection (RFC 9113, section 5.4.1)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):  # noqa: N818 -- a fault of the peer, not of ours
    """The peer broke HTTP/2 in a way that ends one stream (RFC 9113, section 5.4.2)."""

    def __init__(self, stream_id: int, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.stream_id = stream_id
        self.code = code


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Give the nine bytes before a frame's payload."""
    return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Give a whole frame."""
    return frame_header(len(payload), kind, flags, stream_id) + payload


def settings(values: Mapping[Setting, int]) -> bytes:
    """Give a SETTINGS frame."""
    payload = b"".join(struct.pack(">HI", key, value) for key, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def parse_settings(payload: bytes) -> Iterable[tuple[int, int]]:
    """Give the pairs of a SETTINGS payload.

    Raises:
        ConnectionFault: its length is no multiple of six.
    """
    if len(payload) % 6:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS is not made of pairs")
    return struct.iter_unpack(">HI", payload)


def window_update(stream_id: int, increment: int) -> bytes:
    """Give a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def reset(stream_id: int, code: ErrorCode) -> bytes:
    """Give a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """Give a GOAWAY frame."""
    payload = struct.pack(">II", last_stream_id, code) + reason.encode()[:256]
    return frame(GOAWAY, 0, 0, payload)


def _literal(name: str, value: str, *, secret: bool = False) -> bytes:
    """Give a header that touches no table (RFC 7541, section 6.2.2), so blocks need no state.

    A *secret* is marked so that nobody on the way compresses it either (section 6.2.3).
    """

    def string(text: str) -> bytes:
        raw = text.encode("ascii")
        if len(raw) < 127:
            return bytes([len(raw)]) + raw
        rest = len(raw) - 127
        size = bytearray([127])
        while rest >= 128:
            size.append(rest % 128 + 128)
            rest //= 128
        size.append(rest)
        return bytes(size) + raw

    return (b"\x10" if secret else b"\x00") + string(name) + string(value)


STATUS_200 = b"\x88"
"""``:status: 200`` is entry 8 of the static table (RFC 7541, appendix A)."""
RESPONSE_HEADERS = STATUS_200 + _literal("content-type", "application/grpc")


def trailers(code: int, message: str) -> bytes:
    """Give the header block that ends a call (gRPC over HTTP/2, "Responses")."""
    block = _literal("grpc-status", str(code))
    if message:
        # Percent-encoded as gRPC says, and bounded, since a header list is.
        block += _literal("grpc-message", quote(message[:1024], safe=" !#$&'()*+,/:;=?@[]"))
    return block


def plain_status(status: int) -> bytes:
    """Give the header block of an HTTP answer without a body, for what is not gRPC."""
    return _literal(":status", str(status))


def request_headers(
    path: str, authority: str, *, secure: bool, metadata: Iterable[tuple[str, str]] = ()
) -> bytes:
    """Give the header block that begins a call (gRPC over HTTP/2, "Requests").

    Args:
        path: ``/package.Service/Method``.
        authority: of the server.
        secure: whether the connection is over TLS.
        metadata: names in lower case, and values in ASCII.
    """
    # POST, http and https are entries 3, 6 and 7 of the static table (RFC 7541, appendix A).
    block = b"\x83" + (b"\x87" if secure else b"\x86")
    fields = (
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "cats"),
        *metadata,
    )
    return block + b"".join(
        _literal(name, value, secret=name == "authorization") for name, value in fields
    )
