"""The server against grpcio's client: every kind of call, identities, ages and slow readers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.http2 import frames
from controlplane.http2.connection import Limits
from controlplane.http2.served import GrpcStream
from controlplane.http2.server import GrpcServer
from testbed.fakes.certificates import Authority


async def upper(request: bytes, _context: Any) -> bytes:
    """Unary to unary."""
    return request.upper()


async def letters(request: bytes, context: Any) -> None:
    """Unary to stream."""
    for letter in request:
        await context.write(bytes([letter]))


async def joined(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    """Stream to unary."""
    return b"".join([request async for request in requests])


async def doubled(_requests: Any, context: Any) -> None:
    """Stream to stream."""
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message * 2)


async def refusing(_request: bytes, context: Any) -> bytes:
    """Abort."""
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you: 100%")
    return b""


async def failing(_request: bytes, _context: Any) -> bytes:
    """Raise."""
    raise RuntimeError("a bug")


async def whoami(_request: bytes, context: Any) -> bytes:
    """Give the names in the client's certificate."""
    names = context.auth_context().get("x509_subject_alternative_name", ())
    return b",".join(names) or b"nobody"


METHODS = {
    "Upper": grpc.unary_unary_rpc_method_handler(upper),
    "Letters": grpc.unary_stream_rpc_method_handler(letters),
    "Joined": grpc.stream_unary_rpc_method_handler(joined),
    "Doubled": grpc.stream_stream_rpc_method_handler(doubled),
    "Refusing": grpc.unary_unary_rpc_method_handler(refusing),
    "Failing": grpc.unary_unary_rpc_method_handler(failing),
    "Whoami": grpc.unary_unary_rpc_method_handler(whoami),
}


@asynccontextmanager
async def serving(
    limits: Limits | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[GrpcServer, int]]:
    """Serve the methods on a free port."""
    server = GrpcServer(limits=limits)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Calls", METHODS),))
    port = await server.listen("127.0.0.1", 0, tls=tls)
    try:
        yield server, port
    finally:
        await server.stop()


@asynccontextmanager
async def channel(limits: Limits | None = None) -> AsyncIterator[Any]:
    """Serve, and connect grpcio's client."""
    async with serving(limits) as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as it:
        yield it


async def test_every_kind_of_call_is_served() -> None:
    """Handlers written for grpc.aio work unchanged."""
    async with channel() as client:
        assert await client.unary_unary("/test.Calls/Upper")(b"abc") == b"ABC"
        letters = [m async for m in client.unary_stream("/test.Calls/Letters")(b"abc")]
        assert letters == [b"a", b"b", b"c"]
        assert await client.stream_unary("/test.Calls/Joined")(iter([b"a", b"b"])) == b"ab"
        doubles = [m async for m in client.stream_stream("/test.Calls/Doubled")(iter([b"a", b"b"]))]
        assert doubles == [b"aa", b"bb"]


async def test_answers_larger_than_the_clients_window_arrive_before_the_status() -> None:
    """An OK status waits for what was sent before it."""
    async with channel() as client:
        answer = await client.unary_unary("/test.Calls/Upper")(b"a" * 3_000_000)

        assert answer == b"A" * 3_000_000


async def test_many_unread_messages_hold_the_client_back_and_all_arrive() -> None:
    """A handler that reads slowly bounds what it is sent, and loses none of it."""
    async with channel() as client:
        parts = [b"%05d" % number * 2_000 for number in range(400)]

        assert await client.stream_unary("/test.Calls/Joined")(iter(parts)) == b"".join(parts)


@pytest.mark.parametrize(
    ("method", "code", "details"),
    [
        ("Refusing", grpc.StatusCode.PERMISSION_DENIED, "not you: 100%"),
        ("Failing", grpc.StatusCode.INTERNAL, "internal error"),
        ("Nothing", grpc.StatusCode.UNIMPLEMENTED, "no method /test.Calls/Nothing"),
    ],
)
async def test_a_call_that_fails_tells_its_status(
    method: str, code: grpc.StatusCode, details: str
) -> None:
    """The text crosses unharmed; a bug's text stays with us."""
    async with channel() as client:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.unary_unary(f"/test.Calls/{method}")(b"")

        assert code == failure.value.code()
        assert details == failure.value.details()


async def test_a_client_that_leaves_cancels_its_handler() -> None:
    """Nothing runs for nobody."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(_request: bytes, _context: Any) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with serving() as (server, port):
        methods = {"Wait": grpc.unary_unary_rpc_method_handler(wait_for_ever)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", methods),))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            call = client.unary_unary("/t.S/Wait")(b"")
            await asyncio.wait_for(started.wait(), 10)
            call.cancel()
            await asyncio.wait_for(cancelled.wait(), 10)


async def test_mutual_tls_gives_the_clients_names(tmp_path: Path) -> None:
    """Whoever serves a call can check who calls; without a certificate nobody connects."""
    authority = Authority(tmp_path)
    server, client_pair = authority.issue("localhost"), authority.issue("spiffe://fleet/envoy/a")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(server.cert, server.key)
    context.verify_mode = ssl.CERT_REQUIRED

    def credentials(*, own: bool) -> grpc.ChannelCredentials:
        root = authority.ca.read_bytes()
        if not own:
            return grpc.ssl_channel_credentials(root)
        key, chain = client_pair.key.read_bytes(), client_pair.cert.read_bytes()
        return grpc.ssl_channel_credentials(root, key, chain)

    async with serving(tls=context) as (_, port):
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials(own=True)) as client:
            assert (await client.unary_unary("/test.Calls/Whoami")(b"")) == (
                b"spiffe://fleet/envoy/a"
            )
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials(own=False)) as client:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await client.unary_unary("/test.Calls/Whoami")(b"", timeout=5)
            assert failure.value.code() is grpc.StatusCode.UNAVAILABLE


class Firehose:
    """Sends far more than sockets hold, whether or not anybody reads."""

    def __init__(self, stream: GrpcStream) -> None:
        self.stream = stream

    def message_received(self, _message: bytes) -> None:
        """Send 64 MB."""
        for _ in range(64):
            self.stream.send(b"", b"x" * 1_000_000)

    def half_closed(self) -> None:
        """Go on."""

    def closed(self) -> None:
        """Stop."""

    def drained(self) -> None:
        """Go on."""


@pytest.mark.parametrize("wide", [True, False], ids=["full socket", "closed window"])
async def test_a_client_that_does_not_read_is_cut_off(wide: bool) -> None:
    """Neither a full socket nor a window that stays shut holds memory for ever."""
    window = 1 << 30 if wide else 65_535
    async with serving(Limits(send_timeout=0.5)) as (server, port):
        server.add_method("/t.S/Hose", Firehose)
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        block = b"".join(
            frames._literal(name, value)
            for name, value in (
                (":method", "POST"),
                (":path", "/t.S/Hose"),
                ("content-type", "application/grpc"),
            )
        )
        writer.write(
            frames.PREFACE
            + frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: window})
            + (frames.window_update(0, 1 << 30) if wide else b"")
            + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block)
            + frames.frame(frames.DATA, 0, 1, b"\0" * 5)
        )
        async with asyncio.timeout(15):
            while server.counts.cut == 0:  # noqa: ASYNC110 -- polled with a deadline
                await asyncio.sleep(0.05)
        writer.close()


async def test_a_silent_client_is_cut_off_and_one_that_answers_pings_is_not() -> None:
    """Half-open connections do not pile up (Envoy notices a dead server by itself no sooner)."""
    limits = Limits(keepalive_period=0.3, keepalive_timeout=1.0, handshake_timeout=1.0)
    async with serving(limits) as (server, port):
        reader, silent = await asyncio.open_connection("127.0.0.1", port)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            call = client.stream_stream("/test.Calls/Doubled")()
            await call.write(b"a")
            assert await call.read() == b"aa"
            async with asyncio.timeout(15):
                await reader.read(-1)
            await call.write(b"b")
            assert await call.read() == b"bb"
        silent.close()

        assert server.counts.cut == 1


async def test_an_old_connection_moves_on_without_an_error_to_its_caller() -> None:
    """After its age a client is told to make new calls on a new connection."""
    async with serving(Limits(max_age=0.2, max_age_grace=60)) as (server, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            upper = client.unary_unary("/test.Calls/Upper")
            async with asyncio.timeout(20):
                while server.counts.connections < 3:
                    assert await upper(b"a", wait_for_ready=True) == b"A"
                    await asyncio.sleep(0.05)


async def test_stopping_ends_calls_with_unavailable() -> None:
    """Clients that are told so try another replica at once."""
    async with serving() as (server, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            call = client.stream_stream("/test.Calls/Doubled")()
            await call.write(b"a")
            assert await call.read() == b"aa"
            await server.stop(grace=0.1)
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call.read()

            assert failure.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_connection_too_many_is_told_so() -> None:
    """In the frame that ends it; the ones before go on, and a place that is free is taken."""
    refused = []
    server = GrpcServer(max_connections=1, on_refused=lambda: refused.append(1))
    port = await server.listen("127.0.0.1", 0)
    try:
        reader, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(frames.PREFACE)
        await reader.readexactly(9)
        late, second = await asyncio.open_connection("127.0.0.1", port)
        assert b"too many connections" in await asyncio.wait_for(late.read(), 10)
        assert (1, [1]) == (server.connections, refused)
        second.close()
        first.close()
        async with asyncio.timeout(10):
            while server.connections:  # noqa: ASYNC110 -- it happens elsewhere
                await asyncio.sleep(0.01)
        reader, third = await asyncio.open_connection("127.0.0.1", port)
        third.write(frames.PREFACE)
        await reader.readexactly(9)
        third.close()
    finally:
        await server.stop()
    assert [1] == refused
