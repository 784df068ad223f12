"""HTTP/2 frames by hand, for peers that do what no library would let them do."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = range(
    1, 7
)

REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Echo/Stream"),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
"""Header fields of a call."""


class Frame(NamedTuple):
    """One frame that was read."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Error code of GOAWAY or RST_STREAM."""
        return int.from_bytes(
            self.payload[-4:] if self.kind == RST_STREAM else self.payload[4:8], "big"
        )


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Write a frame."""
    size = len(payload)
    return struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def read_frames(data: bytes) -> Iterator[Frame]:
    """Read the whole frames in *data*."""
    while len(data) >= 9:
        size = int.from_bytes(data[:3], "big")
        if len(data) < 9 + size:
            return
        stream = int.from_bytes(data[5:9], "big") & 2**31 - 1
        yield Frame(data[3], data[4], stream, data[9 : 9 + size])
        data = data[9 + size :]


def settings(*pairs: tuple[int, int]) -> bytes:
    """Write a SETTINGS frame."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window(size: int, stream: int = 0) -> bytes:
    """Write a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def ping(content: bytes = b"8 bytes.", flags: int = 0, stream: int = 0) -> bytes:
    """Write a PING frame."""
    return frame(PING, flags, stream, content)


def reset(stream: int, code: int = 8) -> bytes:
    """Write a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int = 0, code: int = 0, text: bytes = b"") -> bytes:
    """Write a GOAWAY frame."""
    return frame(GOAWAY, payload=last.to_bytes(4, "big") + code.to_bytes(4, "big") + text)


@lru_cache(maxsize=256)
def block(fields: tuple[tuple[str, str], ...] = REQUEST) -> bytes:
    """Write header fields as they are, and without a table's help."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    encoded: bytes = encoder.encode(list(fields), huffman=False)
    return encoded


def headers(
    stream: int = 1,
    fields: tuple[tuple[str, str], ...] = REQUEST,
    *,
    flags: int = END_HEADERS | END_STREAM,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Write a HEADERS frame; *before* and *after* are put around its block."""
    return frame(HEADERS, flags, stream, before + block(fields) + after)


def message(content: bytes, *, compressed: int = 0) -> bytes:
    """Write a gRPC message."""
    return bytes([compressed]) + len(content).to_bytes(4, "big") + content


def data(stream: int = 1, content: bytes = b"", flags: int = 0) -> bytes:
    """Write a DATA frame."""
    return frame(DATA, flags, stream, content)
