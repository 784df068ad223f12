"""The server's side by bytes and instants alone: statuses, GOAWAY in two steps, slow readers."""

from __future__ import annotations

import hpack
import pytest

from controlplane.grpc_transport.connection import Kind
from controlplane.grpc_transport.limits import Cut, Limits
from controlplane.grpc_transport.served import ServerConnection
from controlplane.grpc_transport.status import StatusCode, parse_timeout
from controlplane.grpc_transport.stream import Stream
from testbed import http2
from testbed.http2 import END_HEADERS, GOAWAY, PING, REQUEST, RST_STREAM, Frame

LAST = 2**31 - 1


class Served:
    """A connection, and what it has sent since the last look."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.connection = ServerConnection(limits or Limits(), now=0.0, peer="ipv6:[2001:db8::1]:9")
        self.calls: list[Stream] = []
        self._decoder = hpack.Decoder()
        self.receive(http2.PREFACE + http2.settings())

    def receive(self, data: bytes) -> list[Frame]:
        """Receive bytes; return the frames that answer them."""
        self.connection.receive(data, now=0.0)
        while self.connection.step(now=0.0):
            pass
        while self.connection.events:
            event = self.connection.events.popleft()
            if event.kind is Kind.OPENED and event.stream is not None:
                self.calls.append(event.stream)
        return self.sent()

    def sent(self) -> list[Frame]:
        """Return what was sent since the last look."""
        output = b"".join(self.connection.output)
        self.connection.output.clear()
        return list(http2.read_frames(output))

    def fields(self, frames: list[Frame]) -> dict[str, str]:
        """Return the header fields in *frames*."""
        found: dict[str, str] = {}
        for each in frames:
            if each.kind == http2.HEADERS:
                found |= {str(k): str(v) for k, v in self._decoder.decode(each.payload)}
        return found


NOT_TEXT = b"\x00\x06x-site\x05n\xffrth"
"""A header field in HPACK, whose value is not UTF-8."""


@pytest.mark.parametrize("trailing", [False, True], ids=["request", "trailers"])
def test_a_header_that_is_no_utf_8_ends_its_stream_alone(trailing: bool) -> None:
    """Calls before and after it, on the same connection, are served."""
    served = Served()
    served.receive(http2.headers(1, flags=END_HEADERS))
    if trailing:
        served.receive(http2.headers(3, flags=END_HEADERS))
        frames = served.receive(http2.headers(3, (), after=NOT_TEXT))
    else:
        frames = served.receive(http2.headers(3, after=NOT_TEXT, flags=END_HEADERS))
    served.receive(http2.headers(5, flags=END_HEADERS))

    assert [(RST_STREAM, 3, 1)] == [(each.kind, each.stream, each.code) for each in frames]
    assert [1, 5] == [call.stream_id for call in served.calls if not call.is_over]
    assert not served.connection.closing


def test_a_compressed_message_is_unimplemented_and_says_what_is_accepted() -> None:
    """GRPC's compression document: the answer lists the encodings in ``grpc-accept-encoding``."""
    served = Served()
    served.receive(http2.headers(1, flags=END_HEADERS))
    answer = served.fields(served.receive(http2.data(1, http2.message(b"zip", compressed=1))))

    assert "12" == answer["grpc-status"]
    assert "identity" == answer["grpc-accept-encoding"]


def test_draining_names_the_last_stream_only_after_the_clients_pong() -> None:
    """RFC 9113, section 6.8: a call under way while we began to drain is served, not lost."""
    served = Served()
    served.receive(http2.headers(1, flags=END_HEADERS))
    served.connection.drain()
    first = served.sent()
    served.receive(http2.headers(3, flags=END_HEADERS))
    ping = next(each for each in first if each.kind == PING)
    second = served.receive(http2.ping(ping.payload, http2.ACK))
    late = served.receive(http2.headers(5, flags=END_HEADERS))
    served.connection.drain()

    assert [LAST] == [last_of(each) for each in first if each.kind == GOAWAY]
    assert [3] == [last_of(each) for each in second if each.kind == GOAWAY]
    assert [1, 3] == [call.stream_id for call in served.calls]
    assert [(RST_STREAM, 5, 7)] == [(each.kind, each.stream, each.code) for each in late]
    assert [] == served.sent()
    for call in served.calls:
        call.finish(StatusCode.OK)
    assert served.connection.closing


def last_of(frame: Frame) -> int:
    """Return the last stream that a GOAWAY names."""
    return int.from_bytes(frame.payload[:4], "big")


def test_a_clients_goaway_ends_no_call_and_the_last_one_ends_the_connection() -> None:
    """It takes no more calls of ours, of which there are none; its own go on."""
    served = Served()
    served.receive(http2.headers(1, flags=END_HEADERS) + http2.goaway())
    (call,) = served.calls
    went_on = not call.is_over and not served.connection.closing
    served.connection.finish_all(StatusCode.UNAVAILABLE, "connection is old; connect again")
    frames = served.sent()

    assert went_on
    assert "14" == served.fields(frames)["grpc-status"]
    assert served.connection.closing


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1H", 3600.0),
        ("2M", 120.0),
        ("3S", 3.0),
        ("99999999m", 99999.999),
        ("5u", 5e-6),
        ("6n", 6e-9),
        ("", None),
        ("S", None),
        ("1", None),
        ("1s", None),
        ("-1S", None),
        ("1.5S", None),
        ("123456789S", None),
        ("\u0663S", None),
    ],
)
def test_a_timeout_is_read_as_grpc_writes_it(text: str, seconds: float | None) -> None:
    """At most eight ASCII digits and a unit; anything else is malformed."""
    assert parse_timeout(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(("timeout", "deadline"), [("250m", 0.25), ("1x", None)])
def test_a_call_has_its_timeouts_deadline_or_ends(timeout: str, deadline: float | None) -> None:
    """A malformed ``grpc-timeout`` is an error of the client's, which it is sent."""
    served = Served()
    answer = served.fields(
        served.receive(http2.headers(1, (*REQUEST, ("grpc-timeout", timeout)), flags=END_HEADERS))
    )

    assert [deadline] * bool(deadline) == [call.deadline for call in served.calls]
    assert ({} if deadline else {"grpc-status": "13"}).items() <= answer.items()


def test_the_peers_host_is_its_address_without_brackets() -> None:
    """What rules and logs compare, for either family."""
    served = Served()
    served.receive(http2.headers(1, flags=END_HEADERS))

    assert "2001:db8::1" == served.calls[0].host


@pytest.mark.parametrize(("rate", "cut_after"), [(8_000, None), (100, None), (20, 21), (0, 21)])
def test_a_reader_is_cut_for_no_progress_and_not_for_slowness(
    rate: int, cut_after: int | None
) -> None:
    """1 MB is read at so many bytes a second, past a socket that is full all the time."""
    served = Served()
    served.receive(
        http2.settings((http2.INITIAL_WINDOW, LAST))
        + http2.window(2**30)
        + http2.headers(1, flags=END_HEADERS)
    )
    connection = served.connection
    connection.blocked = True
    served.calls[0].send(b"", b"x" * 1_000_000)
    cuts = {
        second: cut
        for second in range(min(1_000_000 // max(rate, 1), 600))
        if (cut := connection.check(now=float(second), delivered=rate * second, waiting=True))
    }

    assert (cut_after, Cut.SLOW_READER) == next(iter(cuts.items()), (None, Cut.SLOW_READER))
