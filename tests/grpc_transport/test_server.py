"""Both servers against grpcio's client; ages, slow readers and full houses of ours."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from structlog.testing import capture_logs

from controlplane.grpc_transport import front as front_module
from controlplane.grpc_transport import server as server_module
from controlplane.grpc_transport.calls import Call, Conversation, conversing
from controlplane.grpc_transport.grpcio import GrpcioServer, PemFiles
from controlplane.grpc_transport.limits import Limits, ServerLimits
from controlplane.grpc_transport.server import GrpcServer
from controlplane.grpc_transport.status import CallError, StatusCode
from testbed import http2
from testbed.background import until
from testbed.fakes.certificates import Authority

AnyServer: TypeAlias = "GrpcServer | GrpcioServer"


async def letters(call: Conversation) -> None:
    """One message to many."""
    for letter in await call.read() or b"":
        await call.write(bytes([letter]))


async def joined(call: Conversation) -> None:
    """Many messages to one."""
    parts = []
    while (message := await call.read()) is not None:
        parts.append(message)
    await call.write(b"".join(parts))


async def doubled(call: Conversation) -> None:
    """Many messages to many."""
    while (message := await call.read()) is not None:
        await call.write(message * 2)


async def refusing(_: Conversation) -> None:
    """End with a status."""
    raise CallError(StatusCode.PERMISSION_DENIED, "not you: 100%")


async def failing(_: Conversation) -> None:
    """Have a bug."""
    raise RuntimeError("a bug")


async def whoami(call: Conversation) -> None:
    """Answer with the names in the client's certificate."""
    await call.write(",".join(call.call.names).encode() or b"no name")


async def metadata(call: Conversation) -> None:
    """Answer with a header and the peer."""
    await call.write(f"{call.call.metadata.get('x-site')} {call.call.peer}".encode())


METHODS = {
    "Letters": letters,
    "Joined": joined,
    "Doubled": doubled,
    "Refusing": refusing,
    "Failing": failing,
    "Whoami": whoami,
    "Metadata": metadata,
}

BOTH = pytest.mark.parametrize("make", [GrpcServer, GrpcioServer], ids=["h2", "grpcio"])


def add_methods(server: AnyServer) -> None:
    """Serve the methods."""
    for name, handler in METHODS.items():
        server.add_method(f"/t.S/{name}", conversing(handler))


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    *,
    make: Callable[..., AnyServer] = GrpcServer,
    host: str = "127.0.0.1",
    **more: Any,
) -> AsyncIterator[tuple[Any, int]]:
    """Serve the methods on a free port."""
    server = make(limits=limits, **more)
    add_methods(server)
    port = await server.listen(host, 0)
    try:
        async with asyncio.timeout(60):
            yield server, port
    finally:
        await server.stop()


@asynccontextmanager
async def channel(make: Callable[..., AnyServer]) -> AsyncIterator[Any]:
    """Serve, and connect grpcio's client."""
    async with serving(make=make) as (_, port):
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as it:
            yield it


@BOTH
async def test_every_kind_of_call_is_served(make: Callable[..., AnyServer]) -> None:
    """One handler serves unary and streaming clients alike."""
    async with channel(make) as client:
        assert [b"a", b"b"] == [m async for m in client.unary_stream("/t.S/Letters")(b"ab")]
        assert b"ab" == await client.stream_unary("/t.S/Joined")(iter([b"a", b"b"]))
        assert b"ab" == await client.unary_unary("/t.S/Joined")(b"ab")
        doubles = [m async for m in client.stream_stream("/t.S/Doubled")(iter([b"a", b"b"]))]
        assert [b"aa", b"bb"] == doubles


@BOTH
async def test_answers_larger_than_the_clients_window_arrive_before_the_status(
    make: Callable[..., AnyServer],
) -> None:
    """An OK status waits for what was sent before it."""
    async with channel(make) as client:
        assert b"A" * 3_000_000 == await client.unary_unary("/t.S/Joined")(b"A" * 3_000_000)


@BOTH
async def test_many_unread_messages_hold_the_client_back_and_all_arrive(
    make: Callable[..., AnyServer],
) -> None:
    """A handler that reads slowly bounds what it is sent, and loses none of it."""
    parts = [b"%05d" % number * 2_000 for number in range(400)]
    async with channel(make) as client:
        assert b"".join(parts) == await client.stream_unary("/t.S/Joined")(iter(parts))


@BOTH
@pytest.mark.parametrize(
    ("method", "code", "details"),
    [
        ("Refusing", grpc.StatusCode.PERMISSION_DENIED, "not you: 100%"),
        ("Failing", grpc.StatusCode.INTERNAL, "internal error"),
    ],
)
async def test_a_call_that_fails_reports_its_status(
    make: Callable[..., AnyServer], method: str, code: grpc.StatusCode, details: str
) -> None:
    """The text crosses unharmed; a bug's text stays with us."""
    async with channel(make) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.unary_unary(f"/t.S/{method}")(b"")

    assert code == failure.value.code()
    assert details == failure.value.details()


@BOTH
async def test_an_unknown_method_is_unimplemented(make: Callable[..., AnyServer]) -> None:
    """As gRPC's status codes have it."""
    async with channel(make) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.unary_unary("/t.S/Nothing")(b"")

    assert grpc.StatusCode.UNIMPLEMENTED == failure.value.code()


@asynccontextmanager
async def waiting(
    make: Callable[..., AnyServer],
) -> AsyncIterator[tuple[grpc.aio.Channel, asyncio.Event, asyncio.Event]]:
    """Serve ``/t.S/Wait``, which never answers; yield a client, its start and its cancellation."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(_: Conversation) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(make=make) as (server, port):
        server.add_method("/t.S/Wait", conversing(wait_for_ever))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            yield client, started, cancelled


@BOTH
async def test_a_client_that_leaves_cancels_its_handler(make: Callable[..., AnyServer]) -> None:
    """Nothing runs for a client that is gone."""
    async with waiting(make) as (client, started, cancelled):
        call = client.unary_unary("/t.S/Wait")(b"")
        await asyncio.wait_for(started.wait(), 60)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 60)


@BOTH
@pytest.mark.parametrize(
    ("host", "peer"), [("127.0.0.1", "ipv4:127.0.0.1:"), ("::1", "ipv6:[::1]:")]
)
async def test_a_call_knows_its_metadata_and_its_peer(
    make: Callable[..., AnyServer], host: str, peer: str
) -> None:
    """The peer is named as gRPC names it, on either family of addresses."""
    async with serving(make=make, host=host) as (_, port):
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        async with grpc.aio.insecure_channel(address) as client:
            method = client.unary_unary("/t.S/Metadata")
            answer = (await method(b"", metadata=(("x-site", "north"),))).decode()

    assert answer.startswith(f"north {peer}")


@BOTH
async def test_a_deadline_ends_the_call_on_the_server_too(make: Callable[..., AnyServer]) -> None:
    """``grpc-timeout`` is honoured, so that nothing is worked out for a client that left."""
    async with waiting(make) as (client, started, cancelled):
        while not started.is_set():  # on a busy machine a call may end before it arrives
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await client.unary_unary("/t.S/Wait")(b"", timeout=0.2)
        await asyncio.wait_for(cancelled.wait(), 60)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == failure.value.code()


def tls_of(make: Callable[..., AnyServer], authority: Authority, pair: Any) -> Any:
    """Return what a server of that kind takes for mutual TLS."""
    if make is GrpcioServer:
        return PemFiles(str(pair.cert), str(pair.key), str(authority.ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(pair.cert, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@BOTH
async def test_mutual_tls_reports_the_clients_names(
    make: Callable[..., AnyServer], tmp_path: Path
) -> None:
    """A service can check who calls; without a certificate no call is served."""
    authority = Authority(tmp_path)
    own, client_pair = authority.issue("localhost"), authority.issue("spiffe://fleet/envoy/a")
    root = authority.ca.read_bytes()
    key, chain = client_pair.key.read_bytes(), client_pair.cert.read_bytes()
    server = make()
    add_methods(server)
    port = await server.listen("127.0.0.1", 0, tls=tls_of(make, authority, own))
    try:
        known = grpc.ssl_channel_credentials(root, key, chain)
        async with grpc.aio.secure_channel(f"localhost:{port}", known) as client:
            assert b"spiffe://fleet/envoy/a" == await client.unary_unary("/t.S/Whoami")(b"")
            large = b"x" * 2_000_000
            assert large == await client.unary_unary("/t.S/Joined")(large)
        bare = grpc.ssl_channel_credentials(root)
        async with grpc.aio.secure_channel(f"localhost:{port}", bare) as client:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await client.unary_unary("/t.S/Whoami")(b"", timeout=60)
            assert grpc.StatusCode.UNAVAILABLE is failure.value.code()
    finally:
        await server.stop()


async def test_grpcio_serves_each_handshake_with_the_newest_certificate(tmp_path: Path) -> None:
    """A rotation needs no restart; files that do not fit yet leave the old ones serving."""
    first, second = Authority(tmp_path, name="first"), Authority(tmp_path, name="second")
    pair = first.issue("localhost")
    server = GrpcioServer()
    add_methods(server)
    port = await server.listen("127.0.0.1", 0, tls=PemFiles(str(pair.cert), str(pair.key)))

    async def ask(authority: Authority) -> bytes:
        credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as client:
            answer: bytes = await client.unary_unary("/t.S/Joined")(b"yes", timeout=60)
            return answer

    try:
        assert b"yes" == await ask(first)
        second.issue("localhost", over=pair)
        assert b"yes" == await ask(second)
    finally:
        await server.stop()


class Firehose:
    """Sends far more than sockets hold, whether or not the client reads."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def message_received(self, message: bytes) -> None:
        """Send megabytes, as many as the message has bytes."""
        for _ in message:
            self.call.send(b"", b"x" * 1_000_000)

    def half_closed(self) -> None:
        """Go on."""

    def closed(self) -> None:
        """Stop."""

    def drained(self) -> None:
        """Go on."""


def asking(*, path: str = "/t.S/Hose", size: int = 64, window: int = 1 << 30) -> bytes:
    """Write what a client sends that calls *path* with one message."""
    return (
        http2.PREFACE
        + http2.settings((http2.INITIAL_WINDOW, window))
        + (http2.window(1 << 30) if window > 65_535 else b"")
        + call(1, path, size=size)
    )


def call(stream: int, path: str, flags: int = 0, *, size: int = 1) -> bytes:
    """Write the header block and one message of a call."""
    fields = tuple((name, path if name == ":path" else value) for name, value in http2.REQUEST)
    head = http2.headers(stream, fields, flags=http2.END_HEADERS)
    return head + http2.data(stream, http2.message(b"m" * size), flags)


@pytest.mark.parametrize("wide", [True, False], ids=["full socket", "closed window"])
async def test_a_client_that_does_not_read_is_cut_off(wide: bool) -> None:
    """Neither a full socket nor a window that stays shut holds memory for ever."""
    cut: list[int] = []
    limits = Limits(send_timeout=0.5)
    async with serving(limits, on_cut=lambda: cut.append(1)) as (server, port):
        server.add_method("/t.S/Hose", Firehose)
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(asking(window=1 << 30 if wide else 65_535))
        await until(lambda: cut == [1])
        writer.close()


async def test_a_slow_reader_stays_while_it_makes_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system's own account of what was taken counts, not only full writes."""
    monkeypatch.setattr(server_module, "SWEEP_PERIOD", 3_600.0)
    cut: list[int] = []
    limits = Limits(send_timeout=1.5, min_progress=512)
    async with serving(limits, on_cut=lambda: cut.append(1)) as (server, port):
        server.add_method("/t.S/Hose", Firehose)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=8_192)
        # Grants the window in small steps, as a client that reads slowly does.
        writer.write(asking(size=2, window=8_192))
        await until(lambda: any(each.connection for each in server._fronts))
        (front,) = server._fronts
        second = asyncio.get_running_loop().time()
        for _ in range(12):
            writer.write(http2.window(8_192) + http2.window(8_192, 1))
            await reader.readexactly(8_192)
            second += 1
            front.sweep(now=second)
        assert 1 == server.connections
        writer.close()

    assert [] == cut


async def test_a_megabyte_read_at_8_kb_a_second_arrives_and_a_reader_that_stops_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the kernel has sent on counts as progress; its window opens in leaps, seconds apart."""
    monkeypatch.setattr(server_module, "SWEEP_PERIOD", 3_600.0)
    cut: list[int] = []
    loop = asyncio.get_running_loop()
    async with serving(on_cut=lambda: cut.append(1)) as (server, port):
        server.add_method("/t.S/Hose", Firehose)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, asking(size=8))
        await until(lambda: any(each.connection for each in server._fronts))
        (front,) = server._fronts
        await until(lambda: front.connection.blocked)
        second, left = loop.time(), 1_000_000
        while left > 0:
            left -= len(await loop.sock_recv(client, 8_000))
            for _ in range(3):
                await asyncio.sleep(0)
            second += 1
            front.sweep(now=second)
        stayed = list(cut)
        while not cut and second < loop.time() + 600:
            second += 1
            front.sweep(now=second)
            await asyncio.sleep(0)
        client.close()

    assert [] == stayed
    assert [1] == cut


async def test_a_lost_connection_leaves_nothing_to_the_garbage_collector() -> None:
    """Clients that come and go fast would pile up until its next pause, which grows with them."""
    gc.collect()
    gc.disable()
    try:
        async with serving() as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(asking(path="/t.S/Doubled"))
            await reader.read(1)
            await until(lambda: any(each.connection for each in server._fronts))
            (front,) = server._fronts
            left = [weakref.ref(each) for each in (front, front.connection, front.connection.h2)]
            del front
            writer.transport.abort()
            await until(lambda: not server.connections)
            await until(lambda: [None, None, None] == [each() for each in left])
    finally:
        gc.enable()


async def test_a_silent_client_is_cut_off_and_one_that_answers_pings_is_not() -> None:
    """Half-open connections do not pile up, before the handshake and after it."""
    cut: list[int] = []
    limits = Limits(keepalive_period=0.3, keepalive_timeout=5.0, handshake_timeout=5.0)
    async with serving(limits, on_cut=lambda: cut.append(1)) as (_, port):
        halves = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for (_, silent), sent in zip(halves, (b"", http2.settings()), strict=True):
            silent.write(http2.PREFACE + sent)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            call = client.stream_stream("/t.S/Doubled")()
            await call.write(b"a")
            assert b"aa" == await call.read()
            for reader, silent in halves:
                async with asyncio.timeout(60):
                    await reader.read(-1)
                silent.close()
            await call.write(b"b")
            assert b"bb" == await call.read()

    assert [1, 1] == cut


async def test_an_old_connection_moves_on_without_an_error_to_its_caller() -> None:
    """After its age a client is asked to make new calls on a new connection."""
    async with serving(Limits(max_age=0.2, max_age_grace=60)) as (server, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            joins = client.unary_unary("/t.S/Joined")
            while server.accepted < 3:
                assert b"a" == await joins(b"a", wait_for_ready=True)
                await asyncio.sleep(0.05)


async def frames_until(reader: asyncio.StreamReader, kind: int, stream: int) -> list[http2.Frame]:
    """Read frames up to one of *kind* on *stream*."""
    received = b""
    while True:
        received += await reader.read(1 << 16)
        frames = list(http2.read_frames(received))
        if any((each.kind, each.stream) == (kind, stream) for each in frames):
            return frames
        assert not reader.at_eof(), frames


async def test_a_call_under_way_when_its_client_is_asked_to_leave_is_served() -> None:
    """Even if the call that kept the old connection open ends before the client has read that."""
    async with serving(Limits(max_age=0.1, max_age_grace=60)) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking(path="/t.S/Doubled"))
        asked = await frames_until(reader, http2.GOAWAY, 0)
        if all(each.kind != http2.PING for each in asked):
            await frames_until(reader, http2.PING, 0)
        writer.write(http2.data(1, b"", http2.END_STREAM))
        await until(lambda: not any(f.connection and f.connection.streams for f in server._fronts))
        writer.write(call(3, "/t.S/Joined", http2.END_STREAM))
        writer.write(http2.ping(b"draining", flags=http2.ACK))
        answered = list(http2.read_frames(await reader.read(-1)))
        writer.close()

    assert any((each.kind, each.stream) == (http2.DATA, 3) for each in answered)
    assert [3] == [
        int.from_bytes(each.payload[:4], "big") for each in answered if each.kind == http2.GOAWAY
    ]


@pytest.mark.parametrize("closes", [True, False], ids=["a client that closes", "one that does not"])
async def test_an_ended_connection_stays_until_its_client_has_read_all(
    closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it still sends would reset the connection, and its last answers be lost; for a time."""
    monkeypatch.setattr(front_module, "LINGER", 60.0 if closes else 0.2)
    async with serving(Limits(max_age=0.1, max_age_grace=60)) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(http2.PREFACE + http2.settings() + call(1, "/t.S/Joined", http2.END_STREAM))
        asked = await frames_until(reader, http2.GOAWAY, 0)
        writer.write(http2.ping(b"draining", flags=http2.ACK))
        rest = await reader.read(-1)
        stayed = server.connections
        writer.write(http2.window(1) * 3)
        if closes:
            writer.close()
        await until(lambda: server.connections == 0)
        writer.close()

    received = [*asked, *http2.read_frames(rest)]
    assert any((each.kind, each.stream) == (http2.DATA, 1) for each in received)
    assert http2.GOAWAY == received[-1].kind
    assert not closes or stayed == 1


async def test_a_client_that_sent_goaway_still_ends_by_age() -> None:
    """Its running calls end when the grace is over, like those of anyone else."""
    async with serving(Limits(max_age=0.1, max_age_grace=0.2)) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking(path="/t.S/Doubled") + http2.goaway())
        received = await reader.read(-1)
        writer.close()
        await until(lambda: server.connections == 0)

    assert any(each.kind == http2.HEADERS for each in http2.read_frames(received))


@BOTH
async def test_stopping_ends_calls_with_unavailable(make: Callable[..., AnyServer]) -> None:
    """Clients that read so try another replica at once."""
    async with serving(make=make) as (server, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            call = client.stream_stream("/t.S/Doubled")()
            await call.write(b"a")
            assert b"aa" == await call.read()
            await server.stop(grace=0.1)
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call.read()

    assert grpc.StatusCode.UNAVAILABLE is failure.value.code()


@pytest.mark.parametrize(
    "limits",
    [ServerLimits(max_connections=1), ServerLimits(max_per_address=1)],
    ids=["in all", "per address"],
)
async def test_a_connection_too_many_is_refused_with_a_reason(limits: ServerLimits) -> None:
    """In the frame that ends it; the ones before go on, and a place that is free is taken."""
    refused: list[int] = []
    with capture_logs() as lines:
        async with serving(server_limits=limits, on_refused=lambda: refused.append(1)) as (
            server,
            port,
        ):
            reader, first = await asyncio.open_connection("127.0.0.1", port)
            first.write(http2.PREFACE + http2.settings())
            await reader.readexactly(9)
            late, second = await asyncio.open_connection("127.0.0.1", port)
            assert b"too many connections" in await late.read()
            third_reader, third = await asyncio.open_connection("127.0.0.1", port)
            await third_reader.read()
            assert (1, [1, 1]) == (server.connections, refused)
            for writer in (first, second, third):
                writer.close()
            await until(lambda: server.connections == 0)
            reader, last = await asyncio.open_connection("127.0.0.1", port)
            last.write(http2.PREFACE + http2.settings())
            await reader.readexactly(9)
            last.close()

    assert 1 == sum(line["event"] == "connections refused" for line in lines)


async def test_an_unfinished_handshake_gives_way_to_a_newer_one() -> None:
    """A crowd of half-open connections keeps no client out."""
    async with serving(server_limits=ServerLimits(max_handshakes=3)) as (server, port):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as client:
            assert b"x" == await client.unary_unary("/t.S/Joined")(b"x")
        await until(lambda: server.connections <= 4)
        for _, writer in silent:
            writer.close()


async def test_the_connection_that_holds_most_is_cut_when_memory_is_short() -> None:
    """Unfinished messages of all clients together are bounded."""
    limits, cut = ServerLimits(max_held=100_000), list[int]()
    async with serving(server_limits=limits, on_cut=lambda: cut.append(1)) as (_, port):
        part = http2.message(b"x" * 1_000_000)[:60_000]
        writers = []
        for frames in (1, 3):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            whole = b"".join(http2.data(1, part[:15_000]) for _ in range(4 * frames))
            writer.write(asking(path="/t.S/Joined", size=0) + whole)
            writers.append(writer)
        await until(lambda: cut == [1])
        for writer in writers:
            writer.close()


async def test_the_event_loop_serves_others_while_a_connection_has_much_to_say() -> None:
    """What else runs on the loop, such as the admin port, gets its rounds during a flood."""
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking(path="/t.S/Nothing") + http2.data(1, b"") * 5_000)
        rounds = 0
        reading = asyncio.create_task(reader.read(-1))
        while not reading.done():
            await asyncio.sleep(0)
            rounds += 1
        received = await reading
        writer.close()

    assert rounds > 10
    assert any(each.kind == http2.GOAWAY for each in http2.read_frames(received))
