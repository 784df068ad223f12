"""The connection against an HTTP/2 client of other authors, and against hostile bytes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.grpc_transport.calls import Call
from controlplane.grpc_transport.limits import Limits
from controlplane.grpc_transport.server import GrpcServer
from controlplane.grpc_transport.status import StatusCode
from testbed import http2

HEADERS = list(http2.REQUEST)


class Echo:
    """Answers each message with itself, its first byte apart; ``big:N`` with N bytes."""

    shared = b"x" * 300_000

    def __init__(self, stream: Call) -> None:
        self.stream = stream
        self.calls: list[str] = []

    def message_received(self, message: bytes) -> None:
        """Answer."""
        if message.startswith(b"big:"):
            self.stream.send(b"head", self.shared[: int(message[4:])])
        else:
            self.stream.send(message[:1], message[1:])

    def half_closed(self) -> None:
        """End well."""
        self.stream.finish(StatusCode.OK)

    def closed(self) -> None:
        """Remember."""
        self.calls.append("closed")

    def drained(self) -> None:
        """Remember."""
        self.calls.append("drained")


class Peer:
    """A client made of the ``h2`` package: what it refuses, our server did wrong."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.messages: list[bytes] = []
        self._inbox = b""
        self.auto_window = True
        self.closed = False
        self.flush()

    def flush(self) -> None:
        """Send what is due."""
        self.writer.write(self.h2.data_to_send())

    def open(self, headers: list[tuple[str, str]] | None = None, *, end: bool = False) -> int:
        """Start a call."""
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, headers or HEADERS, end_stream=end)
        self.flush()
        return stream_id

    def send(self, stream_id: int, message: bytes, *, end: bool = False) -> None:
        """Send a message in one frame."""
        self.h2.send_data(stream_id, b"\0" + struct.pack(">I", len(message)) + message, end)
        self.flush()

    async def until(self, done: Callable[[Peer], bool]) -> None:
        """Read until *done* or the connection ends."""
        async with asyncio.timeout(60):
            while not done(self) and not self.closed:
                data = await self.reader.read(65_536)
                if not data:
                    self.closed = True
                    return
                for event in self.h2.receive_data(data):
                    self.take(event)
                self.flush()

    def take(self, event: h2.events.Event) -> None:
        """Collect messages."""
        self.events.append(event)
        if isinstance(event, h2.events.DataReceived):
            self._inbox += event.data or b""
            if self.auto_window and event.stream_id is not None:
                self.h2.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id
                )
            while len(self._inbox) >= 5:
                size = int.from_bytes(self._inbox[1:5], "big")
                if len(self._inbox) < 5 + size:
                    break
                self.messages.append(self._inbox[5 : 5 + size])
                self._inbox = self._inbox[5 + size :]

    def trailers(self) -> dict[str, str]:
        """Return the last header block that ended a call."""
        for event in reversed(self.events):
            if isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived):
                fields = {str(key): str(value) for key, value in event.headers or []}
                if "grpc-status" in fields:
                    return fields
        return {}

    def ended_with(self) -> int | None:
        """Return the code of the GOAWAY that ended the connection."""
        for event in self.events:
            if isinstance(event, h2.events.ConnectionTerminated):
                return int(event.error_code or 0)
        return None


@asynccontextmanager
async def serving(limits: Limits | None = None) -> AsyncIterator[tuple[GrpcServer, int]]:
    """Serve the echo on a free port."""
    cut: list[int] = []
    server = GrpcServer(limits=limits, on_cut=lambda: cut.append(1))
    server.cut = cut  # type: ignore[attr-defined]
    server.add_method("/test.Echo/Stream", Echo)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop()


@asynccontextmanager
async def connected(limits: Limits | None = None) -> AsyncIterator[Peer]:
    """Serve the echo and connect a peer to it."""
    async with serving(limits) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()


async def test_a_message_comes_back_and_the_call_ends_ok() -> None:
    """The plain case, judged by an independent implementation."""
    async with connected() as peer:
        stream = peer.open()
        peer.send(stream, b"hello")
        peer.send(stream, b"", end=True)
        await peer.until(lambda p: "grpc-status" in p.trailers())

        assert [b"hello", b""] == peer.messages
        assert peer.trailers()["grpc-status"] == "0"


@pytest.mark.parametrize("size", [0, 1, 16_374, 16_375, 16_376, 16_384, 40_000, 300_000])
async def test_messages_of_every_size_arrive_whole(size: int) -> None:
    """Frames are cut at the peer's frame size, where the message ends."""
    async with connected() as peer:
        stream = peer.open()
        peer.send(stream, b"big:%d" % size)
        await peer.until(lambda p: len(p.messages) == 1)

        assert b"head" + Echo.shared[:size] == peer.messages[0]


async def test_shared_bytes_arrive_whole_on_wide_windows() -> None:
    """With windows wide enough, the frames made once for all streams are what is sent."""
    async with connected() as peer:
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        peer.h2.increment_flow_control_window(1 << 20)
        streams = [peer.open() for _ in range(3)]
        for stream in streams:
            peer.send(stream, b"big:300000")
            await peer.until(lambda p, n=stream: len(p.messages) == streams.index(n) + 1)  # type: ignore[misc]

        assert [b"head" + Echo.shared] * 3 == peer.messages


async def test_a_peer_that_grants_no_window_is_sent_no_more_than_it_granted() -> None:
    """Flow control holds, and what was kept back comes when the window opens."""
    async with connected() as peer:
        peer.auto_window = False
        stream = peer.open()
        peer.send(stream, b"big:100000")
        received = 0

        def count(p: Peer) -> bool:
            nonlocal received
            received = sum(
                e.flow_controlled_length or 0
                for e in p.events
                if isinstance(e, h2.events.DataReceived)
            )
            return received >= 65_535

        await peer.until(count)
        assert received == 65_535

        peer.h2.increment_flow_control_window(1 << 20)
        peer.h2.increment_flow_control_window(1 << 20, stream)
        peer.flush()
        await peer.until(lambda p: len(p.messages) == 1)
        assert len(peer.messages[0]) == 100_004


async def test_a_message_larger_than_the_window_is_taken_in_parts() -> None:
    """The client is credited while its message is still coming."""
    limits = Limits(window=70_000)
    async with connected(limits) as peer:
        stream = peer.open()
        body = struct.pack(">xI", 200_000) + b"y" * 200_000
        while body:
            room = min(
                peer.h2.local_flow_control_window(stream),
                peer.h2.max_outbound_frame_size,
                len(body),
            )
            if room:
                peer.h2.send_data(stream, body[:room])
                peer.flush()
                body = body[room:]
            else:
                await peer.until(lambda p: p.h2.local_flow_control_window(stream) > 0)
        await peer.until(lambda p: len(p.messages) == 1)

        assert len(peer.messages[0]) == 200_000


@pytest.mark.parametrize(
    ("message", "status", "text"),
    [
        pytest.param(b"\1" + struct.pack(">I", 1) + b"z", "12", "compressed", id="compressed"),
        pytest.param(b"\0" + struct.pack(">I", 2_000), "8", "2000 bytes", id="too large"),
    ],
)
async def test_a_message_that_cannot_be_taken_ends_its_call_with_the_reason(
    message: bytes, status: str, text: str
) -> None:
    """The client learns why; the connection goes on."""
    async with connected(Limits(max_message=1_000)) as peer:
        peer.h2.send_data(peer.open(), message)
        peer.flush()
        await peer.until(lambda p: "grpc-status" in p.trailers())
        assert status == peer.trailers()["grpc-status"]
        assert text in peer.trailers()["grpc-message"]

        peer.events.clear()
        peer.send(peer.open(), b"still here")
        await peer.until(lambda p: b"still here" in p.messages)


async def test_an_unknown_method_is_unimplemented() -> None:
    """As gRPC's status codes have it."""
    async with connected() as peer:
        peer.open([(k, "/no.Such/Method" if k == ":path" else v) for k, v in HEADERS])
        await peer.until(lambda p: "grpc-status" in p.trailers())

        assert peer.trailers()["grpc-status"] == "12"


async def test_what_is_not_grpc_gets_a_plain_http_status() -> None:
    """GRPC over HTTP/2: a content type other than application/grpc is answered 415."""
    async with connected() as peer:
        peer.open([(k, "text/html" if k == "content-type" else v) for k, v in HEADERS], end=True)
        await peer.until(lambda p: any(isinstance(e, h2.events.StreamEnded) for e in p.events))
        answers = [e for e in peer.events if isinstance(e, h2.events.ResponseReceived)]

        assert (":status", "415") in [(str(k), str(v)) for k, v in answers[0].headers or []]


async def test_more_calls_than_allowed_are_refused_one_by_one() -> None:
    """REFUSED_STREAM says the client that it may try again."""
    async with connected(Limits(max_streams=2)) as peer:
        # A client that did not wait for our settings.
        peer.h2.remote_settings.max_concurrent_streams = 100
        for _ in range(3):
            peer.open()
        await peer.until(lambda p: any(isinstance(e, h2.events.StreamReset) for e in p.events))
        resets = [e for e in peer.events if isinstance(e, h2.events.StreamReset)]

        assert [(5, ErrorCodes.REFUSED_STREAM)] == [(e.stream_id, e.error_code) for e in resets]


def _repeat(frame: bytes) -> bytes:
    return frame * 3_000


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        pytest.param(
            _repeat(http2.frame(http2.PING, 0, 0, b"\0" * 8)),
            ErrorCodes.ENHANCE_YOUR_CALM,
            id="ping flood",
        ),
        pytest.param(_repeat(http2.settings()), ErrorCodes.ENHANCE_YOUR_CALM, id="settings flood"),
        pytest.param(
            _repeat(http2.frame(http2.PRIORITY, 0, 1, b"\0" * 5)),
            ErrorCodes.ENHANCE_YOUR_CALM,
            id="priority flood",
        ),
        pytest.param(
            http2.frame(http2.HEADERS, 0, 1, b"\0" * 9_000)
            + http2.frame(http2.CONTINUATION, 0, 1, b"\0" * 9_000),
            ErrorCodes.ENHANCE_YOUR_CALM,
            id="header block without end",
        ),
        pytest.param(
            http2.frame(http2.HEADERS, 0, 1, b"\0" * 9)
            + http2.frame(http2.PING, 0, 0, b"8bytes__"),
            ErrorCodes.PROTOCOL_ERROR,
            id="header block cut off",
        ),
        pytest.param(
            http2.frame(http2.HEADERS, http2.END_HEADERS, 1, b"\xff" * 30),
            ErrorCodes.COMPRESSION_ERROR,
            id="headers that do not decode",
        ),
        pytest.param(
            http2.frame(http2.HEADERS, http2.END_HEADERS, 2, b"\x83"),
            ErrorCodes.PROTOCOL_ERROR,
            id="even stream",
        ),
        pytest.param(
            http2.frame(http2.DATA, 0, 7, b"x"), ErrorCodes.PROTOCOL_ERROR, id="idle stream"
        ),
        pytest.param(
            (1 << 20).to_bytes(3, "big") + b"\0\0\0\0\0\1",
            ErrorCodes.FRAME_SIZE_ERROR,
            id="frame too large",
        ),
        pytest.param(
            http2.window(2**31 - 1) + http2.window(2**31 - 1),
            ErrorCodes.FLOW_CONTROL_ERROR,
            id="window too wide",
        ),
        pytest.param(
            http2.window(0),
            ErrorCodes.PROTOCOL_ERROR,
            id="window update of nothing",
        ),
        pytest.param(
            http2.settings((http2.MAX_FRAME, 1)),
            ErrorCodes.PROTOCOL_ERROR,
            id="frame size out of range",
        ),
        pytest.param(
            http2.frame(http2.PUSH_PROMISE, 0, 1, b"\0" * 4),
            ErrorCodes.PROTOCOL_ERROR,
            id="push from a client",
        ),
        pytest.param(
            http2.frame(http2.SETTINGS, 0, 0, b"odd"),
            ErrorCodes.FRAME_SIZE_ERROR,
            id="settings of odd size",
        ),
    ],
)
async def test_a_hostile_client_is_sent_away_and_the_server_goes_on(
    hostile: bytes, code: ErrorCodes
) -> None:
    """RFC 9113, sections 5.4.1 and 10.5; others are served as before."""
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        peer = Peer(reader, writer)
        peer.writer.write(hostile)
        await peer.until(lambda p: p.ended_with() is not None)
        writer.close()

        assert code == peer.ended_with()
        assert server.cut == [1]  # type: ignore[attr-defined]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        other = Peer(reader, writer)
        other.send(other.open(), b"well")
        await other.until(lambda p: p.messages == [b"well"])
        writer.close()

        assert [b"well"] == other.messages


async def test_a_storm_of_resets_is_sent_away() -> None:
    """CVE-2023-44487: opening and resetting calls must not be free."""
    async with connected() as peer:
        for _ in range(1_500):
            stream = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(stream, HEADERS)
            peer.h2.reset_stream(stream)
            peer.flush()
        await peer.until(lambda p: p.ended_with() is not None)

        assert ErrorCodes.ENHANCE_YOUR_CALM == peer.ended_with()


async def send_to_the_end(begin: Callable[[Peer], object], chunks: list[bytes]) -> None:
    """Send *chunks* after *begin*, and read until the server closes; nothing fails meanwhile."""
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begin(Peer(reader, writer))
        for chunk in chunks:
            writer.write(chunk)
        writer.write_eof()
        async with asyncio.timeout(60):
            await reader.read(-1)
        writer.close()
    assert not failures


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=6), st.booleans())
def test_random_bytes_never_raise(chunks: list[bytes], greet: bool) -> None:
    """Whatever comes, the connection is served or cut; nothing reaches the event loop."""

    def greet_peer(peer: Peer) -> None:
        if greet:
            peer.writer.write(http2.PREFACE + http2.settings())

    asyncio.run(send_to_the_end(greet_peer, chunks))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]),
            st.sampled_from([0, 1, 1, 3, 2**31 - 1]),
            st.binary(max_size=40),
        ),
        max_size=12,
    )
)
def test_random_frames_never_raise(parts: list[tuple[int, int, int, bytes]]) -> None:
    """Well-formed frames in any order, on an open call too."""
    asyncio.run(send_to_the_end(Peer.open, [http2.frame(*part) for part in parts]))
