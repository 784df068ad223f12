"""The client against grpcio's server, against ours, and against hostile bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.grpc_transport.calls import Call
from controlplane.grpc_transport.client import CLIENT_LIMITS, dialled
from controlplane.grpc_transport.dialled import ClientConnection
from controlplane.grpc_transport.limits import Limits
from controlplane.grpc_transport.server import GrpcServer
from controlplane.grpc_transport.status import CallError, StatusCode
from testbed import http2
from testbed.fakes.certificates import Authority, KeyPair


async def letters(request: bytes, context: Any) -> None:
    """Unary to stream."""
    for letter in request:
        await context.write(bytes([letter]))


async def doubled(_requests: Any, context: Any) -> None:
    """Stream to stream."""
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message * 2)


async def refusing(_requests: Any, context: Any) -> None:
    """Abort."""
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you: 100% ü")


async def reported(_requests: Any, context: Any) -> None:
    """Answer with what the call carries."""
    for name, value in context.invocation_metadata():
        await context.write(f"{name}={value}".encode())


async def named(_requests: Any, context: Any) -> None:
    """Answer with the names in the client's certificate."""
    names = context.auth_context().get("x509_subject_alternative_name", ())
    await context.write(b",".join(names))


METHODS = {
    "Letters": grpc.unary_stream_rpc_method_handler(letters),
    "Doubled": grpc.stream_stream_rpc_method_handler(doubled),
    "Refusing": grpc.stream_stream_rpc_method_handler(refusing),
    "Reported": grpc.stream_stream_rpc_method_handler(reported),
    "Named": grpc.stream_stream_rpc_method_handler(named),
}


@asynccontextmanager
async def grpcio(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Any]:
    """Serve the methods with the server of gRPC's authors; gives it and its address."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", METHODS),))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        async with asyncio.timeout(60):
            yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_messages_go_both_ways_and_a_good_end_is_none() -> None:
    """Streams of either kind, several on one connection."""
    async with grpcio() as (_, address), dialled(address) as connection:
        doubles, spelt = connection.call("/t.S/Doubled"), connection.call("/t.S/Letters")
        await spelt.write(b"abc")
        spelt.finish_writing()
        for message in (b"x", b"", b"yz"):
            await doubles.write(message)
            assert message * 2 == await doubles.read()
        doubles.finish_writing()
        ends = await doubles.read(), [await spelt.read() for _ in range(4)]

    assert (None, [b"a", b"b", b"c", None]) == ends


async def test_messages_larger_than_either_window_arrive_whole() -> None:
    """Flow control of both sides, a slow reader included."""
    async with grpcio() as (_, address), dialled(address) as connection:
        call = connection.call("/t.S/Doubled")
        parts = [bytes([65 + number]) * 150_000 for number in range(20)]

        async def write() -> None:
            for part in parts:
                await call.write(part)
            call.finish_writing()

        writing = asyncio.create_task(write())
        await asyncio.sleep(0)
        answers = []
        while (answer := await call.read()) is not None:
            answers.append(answer)
            await asyncio.sleep(0.005)
        await writing

    assert [part * 2 for part in parts] == answers


async def test_a_message_over_the_limit_ends_its_call_only() -> None:
    """What a server can make us hold is bounded."""
    limits = replace(CLIENT_LIMITS, max_message=1_000)
    async with grpcio() as (_, address), dialled(address, limits=limits) as connection:
        call = connection.call("/t.S/Doubled")
        await call.write(b"x" * 600)
        with pytest.raises(CallError, match="1200 bytes exceeds the limit of 1000") as caught:
            await call.read()
        other = connection.call("/t.S/Doubled")
        await other.write(b"x")
        answer = await other.read()

    assert StatusCode.RESOURCE_EXHAUSTED is caught.value.code
    assert b"xx" == answer


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        ("/t.S/Refusing", StatusCode.PERMISSION_DENIED, "not you: 100% ü"),
        ("/t.S/Nothing", StatusCode.UNIMPLEMENTED, ""),
    ],
)
async def test_a_call_that_fails_reports_the_servers_status(
    method: str, code: StatusCode, text: str
) -> None:
    """Its words cross unharmed, and writing to what is over fails in the same way."""
    async with grpcio() as (_, address), dialled(address) as connection:
        call = connection.call(method)
        with pytest.raises(CallError) as caught:
            await call.read()
        with pytest.raises(CallError):
            await call.write(b"late")

    assert code is caught.value.code
    assert text in caught.value.text


async def test_metadata_reaches_the_server() -> None:
    """A bearer token among it."""
    metadata = (("authorization", "Bearer " + "s" * 3_000), ("x-site", "north"))
    async with grpcio() as (_, address), dialled(address) as connection:
        call = connection.call("/t.S/Reported", metadata)
        reported = set()
        while (message := await call.read()) is not None:
            reported.add(message.decode())

    assert {"authorization=Bearer " + "s" * 3_000, "x-site=north"} <= reported


async def test_a_server_that_stops_ends_calls_as_unavailable() -> None:
    """Which is what a caller dials again for; a call that has no news is reported, too."""
    async with grpcio() as (server, address), dialled(address) as connection:
        call = connection.call("/t.S/Doubled")
        await call.write(b"x")
        assert b"xx" == await call.read()
        await server.stop(None)
        await call.until_over()
        with pytest.raises(CallError) as caught:
            await call.read()
        with pytest.raises(CallError):
            connection.call("/t.S/Doubled")

    assert StatusCode.UNAVAILABLE is caught.value.code


async def test_mutual_tls_shows_our_names_and_refuses_a_server_of_others(tmp_path: Path) -> None:
    """Both sides check; a name other than the dialled one can be asked for."""
    authority, strangers = Authority(tmp_path), Authority(tmp_path, name="strangers")
    own = authority.issue("control.example")
    mine = authority.issue("spiffe://fleet/agent/a")
    credentials = grpc.ssl_server_credentials(
        [(own.key.read_bytes(), own.cert.read_bytes())], authority.ca.read_bytes(), True
    )

    def trust(ca: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(mine.cert, mine.key)
        return context

    async with grpcio(credentials) as (_, address):
        async with dialled(
            address, tls=trust(authority.ca), server_name="control.example"
        ) as connection:
            call = connection.call("/t.S/Named")
            assert b"spiffe://fleet/agent/a" == await call.read()
        with pytest.raises(ssl.SSLCertVerificationError):
            async with dialled(address, tls=trust(authority.ca)):
                pass
        with pytest.raises(ssl.SSLCertVerificationError):
            async with dialled(address, tls=trust(strangers.ca), server_name="control.example"):
                pass
        bare = ssl.create_default_context(cafile=str(authority.ca))
        with pytest.raises((OSError, CallError)):
            async with dialled(address, tls=bare, server_name="control.example") as connection:
                await connection.call("/t.S/Named").read()


class Echo:
    """Answers each message with itself."""

    def __init__(self, stream: Call) -> None:
        self.stream = stream

    def message_received(self, message: bytes) -> None:
        """Answer."""
        self.stream.send(message)

    def half_closed(self) -> None:
        """End well."""
        self.stream.finish(StatusCode.OK)

    def closed(self) -> None:
        """Stop."""

    def drained(self) -> None:
        """Go on."""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_sides_of_ours_speak_tls_with_each_other(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Large messages cross whole, and a stranger's certificate is refused with a reason."""
    authority, strangers = Authority(tmp_path), Authority(tmp_path, name="strangers")
    own, mine = authority.issue("localhost"), authority.issue("agent.north")
    theirs = strangers.issue("agent.north")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    served.load_cert_chain(own.cert, own.key)
    served.verify_mode = ssl.CERT_REQUIRED
    served.maximum_version = version
    server = GrpcServer()
    server.add_method("/t.S/Echo", Echo)
    port = await server.listen("127.0.0.1", 0, tls=served)
    body = b"x" * 700_000

    async def echoed(pair: KeyPair) -> bytes | None:
        context = ssl.create_default_context(cafile=str(authority.ca))
        context.load_cert_chain(pair.cert, pair.key)
        async with dialled(f"localhost:{port}", tls=context) as connection:
            call = connection.call("/t.S/Echo")
            await call.write(body)
            return await call.read()

    try:
        async with asyncio.timeout(60):
            assert body == await echoed(mine)
            with pytest.raises(OSError, match=r"(?i)alert|reset|closed"):
                await echoed(theirs)
    finally:
        await server.stop()


async def test_an_old_connection_takes_no_new_call_and_ends_none() -> None:
    """GOAWAY asks to move on; who sees it in time loses nothing."""
    server = GrpcServer(limits=Limits(max_age=0.0, max_age_grace=60.0))
    server.add_method("/t.S/Echo", Echo)
    port = await server.listen("127.0.0.1", 0)
    try:
        async with asyncio.timeout(60), dialled(f"127.0.0.1:{port}") as connection:
            call = connection.call("/t.S/Echo")
            while not connection.draining:
                await call.write(b"x")
                assert b"x" == await call.read()
            await call.write(b"y")
            assert b"y" == await call.read()
            with pytest.raises(CallError, match="going away"):
                connection.call("/t.S/Echo")
            call.finish_writing()
            assert await call.read() is None
    finally:
        await server.stop()


@asynccontextmanager
async def saying(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Accept connections and answer them in an own way."""
    answering: list[asyncio.Task[Any]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.ensure_future(answer(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(60):
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await asyncio.gather(*answering, return_exceptions=True)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP/2"),
        (b"", "closed the connection"),
    ],
    ids=["http", "ssh", "silent"],
)
async def test_what_is_no_grpc_server_is_distinguished(words: bytes, reason: str) -> None:
    """A wrong port is the commonest mistake of all."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with saying(answer) as address:
        with pytest.raises(OSError, match=reason):
            async with dialled(address):
                pass


async def test_a_server_that_answers_no_ping_is_given_up() -> None:
    """A path that has died without a word must not hold a stream for ever."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http2.settings() + http2.frame(http2.SETTINGS, http2.ACK))
        await reader.read(-1)
        writer.close()

    limits = replace(CLIENT_LIMITS, keepalive_period=0.1, keepalive_timeout=0.5)
    async with saying(greet) as address, dialled(address, limits=limits) as connection:
        call = connection.call("/t.S/Echo")
        with pytest.raises(CallError, match="no answer to a keepalive ping") as caught:
            await call.read()

    assert StatusCode.UNAVAILABLE is caught.value.code


PATH = b"/t.S/Echo"
ANSWER = http2.block(((":status", "200"), ("content-type", "application/grpc")))
OPENED = http2.settings() + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, ANSWER)


def trailers(code: str) -> bytes:
    """Write the header block that ends a call."""
    return http2.headers(1, (("grpc-status", code),))


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        pytest.param(http2.ping() * 3_000, "UNAVAILABLE", id="ping flood"),
        pytest.param(http2.data(3, b"x"), "UNAVAILABLE", id="idle stream"),
        pytest.param(http2.frame(http2.HEADERS, 4, 2, b"\x88"), "UNAVAILABLE", id="pushed"),
        pytest.param(http2.reset(1, 7), "UNAVAILABLE", id="refused"),
        pytest.param(http2.reset(1, 11), "RESOURCE_EXHAUSTED", id="calm"),
        pytest.param(http2.data(1, b"", 1), "UNKNOWN", id="without status"),
        pytest.param(http2.data(1, b"\0\0", 1), "INTERNAL", id="cut message"),
        pytest.param(http2.data(1, b"\0\0") + trailers("0"), "INTERNAL", id="cut message, then OK"),
        pytest.param(trailers("9" * 5_000), "UNKNOWN", id="number without end"),
        pytest.param(http2.goaway(0), "UNAVAILABLE", id="not served"),
    ],
)
async def test_a_hostile_server_ends_its_call_with_a_status(hostile: bytes, code: str) -> None:
    """Whatever it does, the caller learns of it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http2.settings())
        received = b""
        while all(each.kind != http2.HEADERS for each in http2.read_frames(received[24:])):
            received += await reader.read(1 << 16)
        writer.write(OPENED + hostile)
        await reader.read(-1)
        writer.close()

    async with saying(answer) as address, dialled(address) as connection:
        call = connection.call("/t.S/Echo")
        with pytest.raises(CallError) as caught:
            await call.read()

    assert code == caught.value.code.name


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]),
            st.sampled_from([0, 1, 1, 1, 2, 3, 2**31 - 1]),
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from([ANSWER, http2.block((("grpc-status", "0"),))]),
            ),
        ),
        max_size=12,
    ),
    st.binary(max_size=30),
)
def test_random_frames_never_raise(parts: list[tuple[int, int, int, bytes]], rest: bytes) -> None:
    """Well-formed frames in any order, then noise: a call ends, or waits; nothing else."""
    connection = ClientConnection(CLIENT_LIMITS, now=0.0, peer="ipv4:192.0.2.1:1")
    connection.receive(http2.settings(), now=0.0)
    while connection.step(now=0.0):
        pass
    call = connection.open(PATH.decode(), "test", (), secure=False)
    for chunk in (*(http2.frame(*part) for part in parts), rest):
        connection.receive(chunk, now=0.0)
        while connection.step(now=0.0):
            pass
    connection.lost("end")

    assert call.is_over
    assert call.status is not None
