"""What RFC 9113, RFC 7541 and RFC 9110 ask of a server, case by case, on gRPC-shaped requests.

The cases are those of the public HTTP/2 conformance suite, 147 in number, written as bytes of our
own: what a client sends after its preface and settings, and what must come back.
An expected error may always end the connection instead of the stream, as the RFC allows, but it
must carry one of the codes named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from controlplane.grpc_transport.connection import Kind
from controlplane.grpc_transport.limits import Limits
from controlplane.grpc_transport.served import ServerConnection
from controlplane.grpc_transport.status import StatusCode
from testbed import http2
from testbed.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    Frame,
    block,
    data,
    frame,
    headers,
    ping,
    reset,
    settings,
    window,
)

PROTOCOL, FLOW, CLOSED, SIZE, REFUSED, COMPRESSION = 1, 3, 5, 6, 7, 9
LIMITS = Limits()
TOP = 2**31 - 1

NOT_MET: dict[str, str] = {}
"""Case -> why it is not met."""


def talk(*chunks: bytes, greeting: bytes | None = None) -> list[Frame]:
    """Return the frames that a server sends to a client that sends *chunks*.

    Each call is answered with eleven bytes (a message of six) when its request is complete.
    """
    connection = ServerConnection(LIMITS, now=0.0, peer="ipv4:192.0.2.1:1")
    sent = b"".join(connection.output)
    connection.output.clear()
    greeting = http2.PREFACE + settings() if greeting is None else greeting
    for chunk in (greeting, *chunks):
        connection.receive(chunk, now=0.0)
        while connection.step(now=0.0):
            while connection.events:
                event = connection.events.popleft()
                if event.kind is Kind.HALF_CLOSED and event.stream is not None:
                    event.stream.send(b"answer")
                    event.stream.finish(StatusCode.OK)
        sent += b"".join(connection.output)
        connection.output.clear()
        if connection.closing:
            break
    return list(http2.read_frames(sent))


Check = Callable[[Sequence[Frame]], bool]


def answered(stream: int = 1) -> Check:
    """The call is answered."""
    return lambda frames: any(each.kind == HEADERS and each.stream == stream for each in frames)


def sent_data(size: int | None = None, stream: int = 1) -> Check:
    """The first DATA frame of the answer has *size* bytes."""

    def check(frames: Sequence[Frame]) -> bool:
        sizes = [len(each.payload) for each in frames if (each.kind, each.stream) == (DATA, stream)]
        return bool(sizes) and size in (None, sizes[0])

    return check


def ponged(content: bytes = b"8 bytes.") -> Check:
    """The ping is answered."""
    return lambda frames: Frame(PING, ACK, 0, content) in frames


def fails(*codes: int) -> Check:
    """The connection ends with one of *codes*."""
    return lambda frames: any(each.kind == GOAWAY and each.code in codes for each in frames)


def stream_fails(*codes: int) -> Check:
    """The stream, or the connection, ends with one of *codes*."""
    return lambda frames: any(
        each.kind in (GOAWAY, RST_STREAM) and each.code in codes for each in frames
    )


def reset_with(code: int) -> Check:
    """The stream alone ends with *code*."""
    return lambda frames: any(each.kind == RST_STREAM and each.code == code for each in frames)


@dataclass(frozen=True)
class Case:
    """One case: its number and title, what is sent, what must come back."""

    name: str
    sent: tuple[bytes, ...]
    expected: Check
    greeting: bytes | None = None


def case(name: str, expected: Check, *sent: bytes, greeting: bytes | None = None) -> Case:
    """Write a case."""
    return Case(name, sent, expected, greeting)


def priority(stream: int, *, on: int = 0, weight: int = 255, exclusive: bool = False) -> bytes:
    """Write a PRIORITY frame."""
    return frame(PRIORITY, 0, stream, _dependency(on, weight, exclusive=exclusive))


def _dependency(on: int, weight: int, *, exclusive: bool = False) -> bytes:
    return (on | exclusive << 31).to_bytes(4, "big") + bytes([weight])


def changed(**values: str) -> tuple[tuple[str, str], ...]:
    """Return the request's fields with some changed; None drops one."""
    return tuple((name, values.get(name.strip(":"), value)) for name, value in REQUEST)


def without(name: str) -> tuple[tuple[str, str], ...]:
    """Return the request's fields less one."""
    return tuple(field for field in REQUEST if field[0] != name)


def literal(first: int, name: bytes = b"", value: bytes = b"", *, huffman: bool = False) -> bytes:
    """Write a literal field whose first byte, prefix and index included, is *first*."""
    import hpack.huffman as coding  # noqa: PLC0415
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH  # noqa: PLC0415

    def string(text: bytes) -> bytes:
        if not huffman:
            return bytes([len(text)]) + text
        coded = coding.HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
        return bytes([0x80 | len(coded)]) + coded

    return bytes([first]) + (string(name) if name else b"") + string(value)


def continued(*fragments: bytes, first: bytes | None = None) -> bytes:
    """Write a request in HEADERS and CONTINUATION frames."""
    begin = frame(HEADERS, END_STREAM, 1, block() if first is None else first)
    last = len(fragments) - 1
    return begin + b"".join(
        frame(CONTINUATION, END_HEADERS if number == last else 0, 1, each)
        for number, each in enumerate(fragments)
    )


EXTRA = b"\x00\x06x-more\x01y"
"""A header field that no table remembers."""
OPEN = headers(flags=END_HEADERS)
"""A request whose messages are to come."""
WHOLE = headers()
"""A request without messages."""

GENERIC = [
    case("generic 1: preface", lambda frames: frames[0].kind == SETTINGS),
    case("generic 2.1: PRIORITY on an idle stream", ponged(), priority(1), ping()),
    case(
        "generic 2.2: WINDOW_UPDATE on a half-closed stream",
        sent_data(1),
        settings((http2.INITIAL_WINDOW, 0)),
        WHOLE,
        window(1, 1),
    ),
    case(
        "generic 2.3: PRIORITY on a half-closed stream",
        sent_data(1),
        settings((http2.INITIAL_WINDOW, 0)),
        WHOLE,
        priority(1),
        window(1, 1),
    ),
    case("generic 2.4: RST_STREAM on a half-closed stream", ponged(), WHOLE, reset(1), ping()),
    case("generic 2.5: PRIORITY on a closed stream", ponged(), WHOLE, priority(1), ping()),
    case("generic 3.1.1: DATA", answered(), OPEN, data(1, b"\0" * 5, END_STREAM)),
    case("generic 3.1.2: several DATA", answered(), OPEN, data(1, b"\0" * 3), data(1, b"\0\0", 1)),
    case(
        "generic 3.1.3: padded DATA",
        sent_data(11),
        OPEN,
        data(1, b"\5" + b"\0" * 10, END_STREAM | PADDED),
    ),
    case("generic 3.2.1: HEADERS", answered(), WHOLE),
    case(
        "generic 3.2.2: padded HEADERS",
        answered(),
        headers(flags=END_HEADERS | END_STREAM | PADDED, before=b"\5", after=b"\0" * 5),
    ),
    case(
        "generic 3.2.3: HEADERS with priority",
        answered(),
        headers(flags=END_HEADERS | END_STREAM | HAS_PRIORITY, before=_dependency(0, 255)),
    ),
    case("generic 3.3.1: PRIORITY of weight 1", answered(), priority(1, weight=0), WHOLE),
    case("generic 3.3.2: PRIORITY of weight 256", answered(), priority(1), WHOLE),
    case("generic 3.3.3: PRIORITY that depends", answered(), priority(3, on=1), WHOLE),
    case("generic 3.3.4: exclusive PRIORITY", answered(), priority(1, exclusive=True), WHOLE),
    case("generic 3.3.5: PRIORITY of a later stream", answered(), priority(3), WHOLE),
    case("generic 3.4: RST_STREAM", ponged(), OPEN, reset(1), ping()),
    case(
        "generic 3.5: SETTINGS",
        lambda frames: Frame(SETTINGS, ACK, 0, b"") in frames,
        settings((http2.MAX_STREAMS, 100)),
    ),
    case("generic 3.7: PING", ponged(), ping()),
    case("generic 3.8: GOAWAY", ponged(), OPEN, http2.goaway(0, 0, b"bye"), ping()),
    case("generic 3.9.1: WINDOW_UPDATE", ponged(), window(1), ping()),
    case(
        "generic 3.9.2: WINDOW_UPDATE of a stream", answered(), OPEN + window(1, 1), data(1, b"", 1)
    ),
    case("generic 3.10.1: CONTINUATION", answered(), continued(block()[5:], first=block()[:5])),
    case(
        "generic 3.10.2: several CONTINUATION",
        answered(),
        continued(block()[5:10], block()[10:], first=block()[:5]),
    ),
    case("generic 4.1: GET", answered(), headers(fields=changed(method="GET"))),
    case("generic 4.2: HEAD", answered(), headers(fields=changed(method="HEAD"))),
    case("generic 4.3: POST", answered(), OPEN, data(1, b"\0" * 5, END_STREAM)),
    case(
        "generic 4.4: POST with trailers",
        answered(),
        OPEN,
        data(1, b"\0" * 5),
        headers(fields=(("x-end", "1"),)),
    ),
    *(
        case(f"generic 5.{number}: {title}", answered(), headers(after=field))
        for number, (title, field) in enumerate(
            [
                ("indexed field", b"\x8f"),
                ("literal, indexed name", literal(0x40 | 58, b"", b"agent")),
                ("the same, Huffman", literal(0x40 | 58, b"", b"agent", huffman=True)),
                ("literal, new name", literal(0x40, b"x-new", b"value")),
                ("the same, Huffman", literal(0x40, b"x-new", b"value", huffman=True)),
                (
                    "not indexed, indexed name",
                    literal(0x0F, b"", b"").replace(b"\x0f", b"\x0f\x2b", 1),
                ),
                ("the same, Huffman", b"\x0f\x2b" + literal(0, b"", b"v", huffman=True)[1:]),
                ("not indexed, new name", literal(0x00, b"x-new", b"value")),
                ("the same, Huffman", literal(0x00, b"x-new", b"value", huffman=True)),
                ("never indexed, indexed name", b"\x1f\x2b" + literal(0, b"", b"v")[1:]),
                ("the same, Huffman", b"\x1f\x2b" + literal(0, b"", b"v", huffman=True)[1:]),
                ("never indexed, new name", literal(0x10, b"x-new", b"value")),
                ("the same, Huffman", literal(0x10, b"x-new", b"value", huffman=True)),
            ],
            start=1,
        )
    ),
    case("generic 5.14: table size update", answered(), headers(before=b"\x2a")),
    case("generic 5.15: several table size updates", answered(), headers(before=b"\x20\x2a")),
]

FRAMING = [
    case("3.5.1: client preface", lambda frames: frames[0].kind == SETTINGS),
    case("3.5.2: wrong preface", fails(PROTOCOL), greeting=b"INVALID CONNECTION PREFACE\r\n\r\n"),
    case("4.1.1: unknown frame type", ponged(), frame(0x16, 0, 0, b"\0" * 8), ping()),
    case("4.1.2: undefined flags", ponged(b"\0" * 8), frame(PING, 0x16, 0, b"\0" * 8)),
    case("4.1.3: reserved bit", ponged(b"\0" * 8), frame(PING, 0x16, 1 << 31, b"\0" * 8)),
    case("4.2.1: DATA of 2^14 bytes", answered(), OPEN, data(1, b"x" * 16_384, END_STREAM)),
    case("4.2.2: DATA beyond the frame size", stream_fails(SIZE), OPEN, data(1, b"x" * 16_385)),
    case(
        "4.2.3: HEADERS beyond the frame size",
        fails(SIZE),
        headers(after=literal(0x00, b"x-new", b"v" * 100) * 200),
    ),
    case("4.3.1: block that does not decode", fails(COMPRESSION), frame(HEADERS, 5, 1, b"\x40")),
    case(
        "4.3.2: PRIORITY within a block",
        fails(PROTOCOL),
        frame(HEADERS, 0, 1, block()),
        priority(1),
        frame(CONTINUATION, END_HEADERS, 1, EXTRA),
    ),
    case(
        "4.3.3: HEADERS of another stream within a block",
        fails(PROTOCOL),
        frame(HEADERS, 0, 1, block()),
        headers(3),
    ),
    case("5.1.1: idle: DATA", stream_fails(PROTOCOL, CLOSED), data(1, b"test", END_STREAM)),
    case("5.1.2: idle: RST_STREAM", fails(PROTOCOL), reset(1)),
    case("5.1.3: idle: WINDOW_UPDATE", fails(PROTOCOL), window(100, 1)),
    case("5.1.4: idle: CONTINUATION", fails(PROTOCOL), frame(CONTINUATION, 4, 1, block())),
    case("5.1.5: half-closed: DATA", stream_fails(CLOSED), WHOLE + data(1, b"test", END_STREAM)),
    case("5.1.6: half-closed: HEADERS", stream_fails(CLOSED), WHOLE + WHOLE),
    case(
        "5.1.7: half-closed: CONTINUATION",
        stream_fails(CLOSED, PROTOCOL),
        WHOLE + frame(CONTINUATION, 4, 1, block()),
    ),
    case("5.1.8: reset: DATA", stream_fails(CLOSED), OPEN, reset(1), data(1, b"test", 1)),
    case("5.1.9: reset: HEADERS", stream_fails(CLOSED), OPEN, reset(1), WHOLE),
    case(
        "5.1.10: reset: CONTINUATION",
        stream_fails(CLOSED, PROTOCOL),
        OPEN,
        reset(1),
        frame(CONTINUATION, 4, 1, EXTRA),
    ),
    case("5.1.11: closed: DATA", stream_fails(CLOSED), WHOLE, data(1, b"test", 1)),
    case("5.1.12: closed: HEADERS", fails(CLOSED), WHOLE, WHOLE),
    case(
        "5.1.13: closed: CONTINUATION",
        fails(CLOSED, PROTOCOL),
        WHOLE,
        frame(CONTINUATION, 4, 1, EXTRA),
    ),
    case("5.1.1.1: even stream", fails(PROTOCOL), headers(2)),
    case("5.1.1.2: stream below the last", fails(PROTOCOL), headers(5), headers(3)),
    case(
        "5.1.2: more streams than allowed",
        stream_fails(PROTOCOL, REFUSED),
        settings((http2.INITIAL_WINDOW, 0)),
        *(headers(2 * number + 1, flags=END_HEADERS) for number in range(101)),
    ),
    case(
        "5.3.1.1: HEADERS that depends on itself",
        stream_fails(PROTOCOL),
        headers(flags=END_HEADERS | END_STREAM | HAS_PRIORITY, before=_dependency(1, 255)),
    ),
    case("5.3.1.2: PRIORITY that depends on itself", stream_fails(PROTOCOL), priority(1, on=1)),
    case("5.4.1.1: connection error closes", fails(PROTOCOL), ping(stream=3)),
    case("5.4.1.2: connection error sends GOAWAY", fails(PROTOCOL), ping(stream=3)),
    case("5.5.1: unknown extension", ponged(), frame(0x16, 0, 0, b"\0" * 8), ping()),
    case(
        "5.5.2: unknown extension within a block",
        fails(PROTOCOL),
        frame(HEADERS, 0, 1, block()),
        frame(0x16, 0, 0, b"\0" * 8),
    ),
]

FRAMES = [
    case("6.1.1: DATA on stream 0", fails(PROTOCOL), data(0, b"test", END_STREAM)),
    case("6.1.2: DATA on a half-closed stream", stream_fails(CLOSED), WHOLE + data(1, b"test", 1)),
    case("6.1.3: DATA with padding too long", fails(PROTOCOL), OPEN, data(1, b"\6Test", 9)),
    case(
        "6.2.1: HEADERS, then PRIORITY",
        fails(PROTOCOL),
        frame(HEADERS, END_STREAM, 1, block()),
        priority(1),
    ),
    case(
        "6.2.2: HEADERS, then HEADERS of another",
        fails(PROTOCOL),
        frame(HEADERS, END_STREAM, 1, block()),
        headers(3),
    ),
    case("6.2.3: HEADERS on stream 0", fails(PROTOCOL), headers(0)),
    case(
        "6.2.4: HEADERS with padding too long",
        stream_fails(PROTOCOL),
        headers(flags=END_HEADERS | END_STREAM | PADDED, before=b"\xff"),
    ),
    case("6.3.1: PRIORITY on stream 0", fails(PROTOCOL), priority(0)),
    case(
        "6.3.2: PRIORITY of four bytes",
        stream_fails(SIZE),
        OPEN,
        frame(PRIORITY, 0, 1, b"\x80\0\0\1"),
    ),
    case("6.4.1: RST_STREAM on stream 0", fails(PROTOCOL), reset(0)),
    case("6.4.2: RST_STREAM of an idle stream", fails(PROTOCOL), reset(1)),
    case("6.4.3: RST_STREAM of three bytes", fails(SIZE), OPEN, frame(RST_STREAM, 0, 1, b"\0" * 3)),
    case("6.5.1: SETTINGS ACK with payload", fails(SIZE), frame(SETTINGS, ACK, 0, b"\0")),
    case("6.5.2: SETTINGS on a stream", fails(PROTOCOL), frame(SETTINGS, 0, 1, b"\0\3\0\0\0\x64")),
    case("6.5.3: SETTINGS of three bytes", fails(PROTOCOL, SIZE), frame(SETTINGS, 0, 0, b"\0\3\0")),
    case("6.5.2.1: ENABLE_PUSH of 2", fails(PROTOCOL), settings((http2.ENABLE_PUSH, 2))),
    case("6.5.2.2: window above 2^31-1", fails(FLOW), settings((http2.INITIAL_WINDOW, 1 << 31))),
    case("6.5.2.3: frame size below 2^14", fails(PROTOCOL), settings((http2.MAX_FRAME, 16_383))),
    case("6.5.2.4: frame size above 2^24-1", fails(PROTOCOL), settings((http2.MAX_FRAME, 1 << 24))),
    case("6.5.2.5: unknown setting", ponged(), settings((0xFF, 1)), ping()),
    case(
        "6.5.3.1: a setting twice",
        sent_data(1),
        settings((http2.INITIAL_WINDOW, 100), (http2.INITIAL_WINDOW, 1)),
        WHOLE,
    ),
    case(
        "6.5.3.2: SETTINGS are acknowledged",
        lambda frames: Frame(SETTINGS, ACK, 0, b"") in frames,
        settings((http2.ENABLE_PUSH, 0)),
    ),
    case("6.7.1: PING", ponged(b"h2spec\0\0"), ping(b"h2spec\0\0")),
    case("6.7.2: PING with ACK", ponged(), ping(b"invalid\0", ACK), ping()),
    case("6.7.3: PING on a stream", fails(PROTOCOL), ping(stream=1)),
    case("6.7.4: PING of six bytes", fails(SIZE), ping(b"\0" * 6)),
    case("6.8: GOAWAY on a stream", fails(PROTOCOL), frame(GOAWAY, 0, 1, b"\0" * 8)),
    case("6.9.1: WINDOW_UPDATE of 0", fails(PROTOCOL), window(0)),
    case("6.9.2: WINDOW_UPDATE of 0 on a stream", stream_fails(PROTOCOL), OPEN, window(0, 1)),
    case("6.9.3: WINDOW_UPDATE of three bytes", fails(SIZE), frame(8, 0, 0, b"\0\0\1")),
    case("6.9.1.1: window of 1", sent_data(1), settings((http2.INITIAL_WINDOW, 1)), WHOLE),
    case("6.9.1.2: window above 2^31-1", fails(FLOW), window(TOP), window(TOP)),
    case(
        "6.9.1.3: a stream's window above 2^31-1",
        reset_with(FLOW),
        OPEN,
        window(TOP, 1),
        window(TOP, 1),
    ),
    case(
        "6.9.2.1: window changed while a call waits",
        sent_data(1),
        settings((http2.INITIAL_WINDOW, 0)),
        WHOLE,
        settings((http2.INITIAL_WINDOW, 1)),
    ),
    case(
        "6.9.2.2: window made negative",
        lambda frames: [3, 1] == [len(each.payload) for each in frames if each.kind == DATA][:2],
        settings((http2.INITIAL_WINDOW, 3)),
        WHOLE,
        settings((http2.INITIAL_WINDOW, 2)),
        window(2, 1),
    ),
    case(
        "6.9.2.3: window setting above 2^31-1",
        fails(FLOW),
        settings((http2.INITIAL_WINDOW, 1 << 31)),
    ),
    case("6.10.1: several CONTINUATION", answered(), continued(EXTRA, EXTRA)),
    case(
        "6.10.2: CONTINUATION, then another frame",
        fails(PROTOCOL),
        frame(HEADERS, 0, 1, block()),
        frame(CONTINUATION, 0, 1, EXTRA),
        data(1, b"test", END_STREAM),
    ),
    case(
        "6.10.3: CONTINUATION on stream 0",
        fails(PROTOCOL),
        frame(HEADERS, END_STREAM, 1, block()),
        frame(CONTINUATION, END_HEADERS, 0, EXTRA),
    ),
    case(
        "6.10.4: CONTINUATION after END_HEADERS",
        fails(PROTOCOL),
        OPEN,
        frame(CONTINUATION, END_HEADERS, 1, EXTRA),
    ),
    case(
        "6.10.5: CONTINUATION after the last",
        fails(PROTOCOL),
        frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 1, EXTRA),
        frame(CONTINUATION, END_HEADERS, 1, EXTRA),
    ),
    case(
        "6.10.6: CONTINUATION after DATA",
        fails(PROTOCOL),
        OPEN,
        data(1, b"\0" * 5),
        frame(CONTINUATION, 0, 1, EXTRA),
    ),
    case("7.1: GOAWAY with an unknown code", ponged(), OPEN, http2.goaway(0, 0xFF), ping()),
    case("7.2: RST_STREAM with an unknown code", ponged(), OPEN, reset(1, 0xFF), ping()),
    case(
        "8.2: PUSH_PROMISE", fails(PROTOCOL), OPEN, frame(PUSH_PROMISE, 4, 1, b"\0\0\0\3" + block())
    ),
]


def field(name: str, value: str) -> tuple[tuple[str, str], ...]:
    """Return the request's fields and one more."""
    return (*REQUEST, (name, value))


REQUESTS = [
    case("8.1: second HEADERS without END_STREAM", stream_fails(PROTOCOL), OPEN, data(1, b"\0" * 5),
         headers(fields=(("x-test", "ok"),), flags=END_HEADERS)),
    case("8.1.2: upper case", stream_fails(PROTOCOL), headers(after=literal(0, b"X-TEST", b"ok"))),
    case("8.1.2.1.1: unknown pseudo-header", stream_fails(PROTOCOL),
         headers(fields=field(":test", "ok"))),
    case("8.1.2.1.2: pseudo-header of a response", stream_fails(PROTOCOL),
         headers(fields=field(":status", "200"))),
    case("8.1.2.1.3: pseudo-header in trailers", stream_fails(PROTOCOL), OPEN, data(1, b"\0" * 5),
         headers(fields=((":method", "POST"),))),
    case("8.1.2.1.4: pseudo-header after others", stream_fails(PROTOCOL),
         headers(fields=(("x-test", "ok"), *REQUEST))),
    case("8.1.2.2.1: connection", stream_fails(PROTOCOL),
         headers(fields=field("connection", "keep-alive"))),
    case("8.1.2.2.2: te other than trailers", stream_fails(PROTOCOL),
         headers(fields=(*without("te"), ("te", "trailers, deflate")))),
    case("8.1.2.3.1: empty :path", stream_fails(PROTOCOL), headers(fields=changed(path=""))),
    *(
        case(f"8.1.2.3.{number}: without {name}", stream_fails(PROTOCOL),
             headers(fields=without(name)))
        for number, name in enumerate((":method", ":scheme", ":path"), start=2)
    ),
    *(
        case(f"8.1.2.3.{number}: {name} twice", stream_fails(PROTOCOL),
             headers(fields=((name, dict(REQUEST)[name]), *REQUEST)))
        for number, name in enumerate((":method", ":scheme", ":path"), start=5)
    ),
    case("8.1.2.6.1: content-length that is wrong", stream_fails(PROTOCOL),
         headers(fields=field("content-length", "1"), flags=END_HEADERS),
         data(1, b"test", END_STREAM)),
    case("8.1.2.6.2: content-length of several DATA", stream_fails(PROTOCOL),
         headers(fields=field("content-length", "1"), flags=END_HEADERS), data(1, b"test"),
         data(1, b"test", END_STREAM)),
]  # fmt: skip

HPACK = [
    case("hpack 2.3.3.1: index beyond the tables", fails(COMPRESSION), headers(after=b"\xc6")),
    case("hpack 2.3.3.2: name index beyond", fails(COMPRESSION), headers(after=b"\x7f\x07\x00")),
    case("hpack 4.2: table size update at the end", fails(COMPRESSION), headers(after=b"\x21")),
    case(
        "hpack 5.2.1: Huffman padding beyond 7 bits",
        fails(COMPRESSION),
        headers(after=b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
    ),
    case(
        "hpack 5.2.2: Huffman padding of zeros",
        fails(COMPRESSION),
        headers(after=b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
    ),
    case(
        "hpack 5.2.3: Huffman EOS",
        fails(COMPRESSION),
        headers(after=b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
    ),
    case("hpack 6.1: index 0", fails(COMPRESSION), headers(after=b"\x80")),
    case(
        "hpack 6.3: table size above the setting",
        fails(COMPRESSION),
        headers(before=b"\x3f\xe2\x1f"),
    ),
]

CASES = [*GENERIC, *FRAMING, *FRAMES, *REQUESTS, *HPACK]


def test_the_table_holds_every_case_once() -> None:
    """A name that comes twice would hide a case."""
    assert 147 == len(CASES) == len({each.name for each in CASES})
    assert set(NOT_MET) <= {each.name for each in CASES}


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_a_case_is_met_unless_the_list_says_why_not(each: Case) -> None:
    """A case that is met after all must leave the list."""
    frames = talk(*each.sent, greeting=each.greeting)

    assert each.expected(frames) is (each.name not in NOT_MET), frames
