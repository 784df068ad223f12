"""What hostile clients of the gRPC port do to the others: attack by attack, the longest wait.

The server runs in a process of its own and measures the rounds of its event loop in processor time,
which other load on the machine does not change; an admin port is served by the same loop.
``python -m testbed.tools.transport_attacks`` prints the table of docs/threats.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import socket
import ssl
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web

from controlplane.admin_api.port import AdminSite
from controlplane.grpc_transport.calls import Call, Conversation, conversing
from controlplane.grpc_transport.limits import Limits
from controlplane.grpc_transport.server import GrpcServer
from controlplane.grpc_transport.status import StatusCode
from controlplane.runtime.collector import set_start_aside
from testbed import http2
from testbed.fakes.certificates import Authority

PAGE = os.sysconf("SC_PAGE_SIZE")
SHARED = b"x" * 300_000


class Echo:
    """Answers each message with itself, and ``big`` with 300 kB."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def message_received(self, message: bytes) -> None:
        """Answer."""
        self.call.send(b"", SHARED if message == b"big" else message)

    def half_closed(self) -> None:
        """End well."""
        self.call.finish(StatusCode.OK)

    def closed(self) -> None:
        """Stop."""

    def drained(self) -> None:
        """Go on."""


class Lag:
    """The longest round of the event loop, in processor time of its thread.

    A client that has something to be handled waits for the round under way and for its own.
    """

    def __init__(self) -> None:
        self._longest = 0.0

    async def watch(self) -> None:
        """Measure every round."""
        began = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._longest = max(self._longest, now - began)
            began = now

    async def serve(self, call: Conversation) -> None:
        """Answer with the longest round since the last question, in microseconds."""
        while await call.read() is not None:
            longest, self._longest = self._longest, 0.0
            await call.write(str(round(1e6 * longest)).encode())


async def _report(call: Conversation) -> None:
    while (message := await call.read()) is not None:
        await call.write(message[:1])


async def _serve_admin() -> int:
    """Serve HTTP as the control plane does; return the port."""

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/healthz", healthy)
    runner = web.AppRunner(application)
    await runner.setup()
    await AdminSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


async def _serve(directory: Path) -> None:
    """Serve clear text and TLS, print both ports, and end with standard input."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    pair = Authority(directory).issue("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    server = GrpcServer(limits=Limits())
    server.add_method("/test.Echo/Stream", Echo)
    server.add_method("/test.Echo/Report", conversing(_report))
    lag = Lag()
    server.add_method("/test.Echo/Lag", conversing(lag.serve))
    watching = asyncio.create_task(lag.watch())
    ports = [
        await server.listen("127.0.0.1", 0),
        await server.listen("127.0.0.1", 0, tls=context),
        await _serve_admin(),
    ]
    set_start_aside()  # as ``cats serve`` does
    print(*ports, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    watching.cancel()
    await server.stop()


@dataclass(slots=True)
class Target:
    """The attacked server."""

    pid: int
    port: int
    tls_port: int
    admin_port: int
    log: Path

    def memory(self) -> float:
        """Return the megabytes that the server holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE / 1e6

    def spent(self) -> float:
        """Return the seconds of processor time that the server's event loop has taken."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def limit_open_files(self, more: int) -> None:
        """Let the server open *more* files than it has open."""
        files = sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir()) + more
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (files, 4_096))


@asynccontextmanager
async def attacked() -> AsyncIterator[Target]:
    """Run a server for the duration of the block."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (directory / "log").open("wb") as log:
            server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "testbed.tools.transport_attacks", "--serve", name),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        try:
            assert server.stdout is not None
            ports = (await server.stdout.readline()).split()
            port, tls_port, admin_port = map(int, ports)
            yield Target(server.pid, port, tls_port, admin_port, directory / "log")
        finally:
            server.kill()
            await server.wait()


OPENING = http2.PREFACE + http2.settings()


def _request(path: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, path if name == ":path" else value) for name, value in http2.REQUEST)


REPORT = _request("/test.Echo/Report")
WIDE = http2.settings((http2.INITIAL_WINDOW, 2**31 - 1)) + http2.window(2**30)


def _headers() -> Iterable[bytes]:
    for stream in range(1, 2**31, 2):
        yield http2.headers(stream)


def _settings() -> Iterable[bytes]:
    for stream in range(1, 201, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS)
    while True:
        for size in (0, 1 << 20):
            yield http2.settings(*((http2.INITIAL_WINDOW, size) for _ in range(2_000)))


def _compressed() -> Iterable[bytes]:
    for stream in range(1, 2**31, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS)
        yield http2.data(stream, http2.message(b"x" * 20, compressed=1) * 400)


def _tiny_messages() -> Iterable[bytes]:
    yield http2.headers(1, flags=http2.END_HEADERS)
    while True:
        yield http2.data(1, b"\0\0\0\0\0" * 3_000)


def _tiny_frames() -> Iterable[bytes]:
    yield http2.headers(1, flags=http2.END_HEADERS)
    while True:
        yield http2.data(1, b"\0") * 1_000


def _resets() -> Iterable[bytes]:
    for stream in range(1, 2**31, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS) + http2.reset(stream)


def _pings() -> Iterable[bytes]:
    while True:
        yield http2.ping() * 500


def _continuations() -> Iterable[bytes]:
    yield http2.frame(http2.HEADERS, 0, 1, http2.block())
    while True:
        yield http2.frame(http2.CONTINUATION, 0, 1, b"")


def _stalled() -> Iterable[bytes]:
    part = http2.message(b"r" * 4_000_000)[:16_000]
    for stream in range(1, 201, 2):
        yield http2.headers(stream, REPORT, flags=http2.END_HEADERS)
        yield http2.data(stream, part)
    for stream in range(1, 201, 2):
        for _ in range(240):
            yield http2.data(stream, b"r" * 16_000)


def _unread() -> Iterable[bytes]:
    yield WIDE
    for stream in range(1, 201, 2):
        yield http2.headers(stream, flags=http2.END_HEADERS)
    while True:
        for stream in range(1, 201, 2):
            yield http2.data(stream, http2.message(b"big"))


FLOODS: dict[str, tuple[Callable[[], Iterable[bytes]], bool]] = {
    "HEADERS with END_STREAM": (_headers, True),
    "SETTINGS with windows": (_settings, True),
    "DATA flagged compressed": (_compressed, True),
    "empty messages": (_tiny_messages, True),
    "DATA of one byte": (_tiny_frames, True),
    "streams opened and reset": (_resets, True),
    "PING": (_pings, True),
    "CONTINUATION": (_continuations, True),
    "stalled reports": (_stalled, True),
    "answers that are not read": (_unread, False),
}
"""Attack -> what is sent after the opening, and whether the client reads."""


async def _flood(target: Target, make: Callable[[], Iterable[bytes]], *, reads: bool) -> None:
    """Attack on one connection after the other, as fast as the server takes it."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1 << 16)
            writer.write(OPENING)
            reading = asyncio.create_task(_discard(reader)) if reads else None
            try:
                for chunk in make():
                    writer.write(chunk)
                    await writer.drain()
                    if reading is not None and reading.done():
                        break
                await asyncio.Event().wait()
            finally:
                if reading is not None:
                    reading.cancel()
                writer.transport.abort()
        await asyncio.sleep(0.005)


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


async def _half_open(first: bytes, port: int) -> None:
    """Open connections that never complete their handshake."""
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    try:
        while True:
            one = socket.socket()
            one.setblocking(False)
            sockets.append(one)
            with contextlib.suppress(OSError):
                await loop.sock_connect(one, ("127.0.0.1", port))
                await loop.sock_sendall(one, first)
            if len(sockets) > 400:
                sockets.pop(0).close()
            await asyncio.sleep(0)
    finally:
        for one in sockets:
            one.close()


def _client_hello() -> bytes:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(to_client, to_server, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return to_server.read()


def attackers(target: Target, name: str) -> list[Awaitable[None]]:
    """Return the attackers of one attack: four connections at once."""
    if name in FLOODS:
        make, reads = FLOODS[name]
        return [_flood(target, make, reads=reads) for _ in range(4)]
    hello = _client_hello()
    first, port = {
        "half-open TLS handshakes": (hello[: len(hello) // 2], target.tls_port),
        "TLS handshakes up to the client's part": (hello, target.tls_port),
        "prefaces without more": (http2.PREFACE, target.port),
    }[name]
    return [_half_open(first, port) for _ in range(2)]


ATTACKS = (
    *FLOODS,
    "half-open TLS handshakes",
    "TLS handshakes up to the client's part",
    "prefaces without more",
)


class Victim:
    """A client like any other: one call, a message after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._received = b""
        fields = _request("/test.Echo/Lag")
        writer.write(OPENING + WIDE + http2.headers(1, fields, flags=http2.END_HEADERS))

    async def ask(self) -> float:
        """Ask for the longest round since the last question, in seconds of processor time."""
        self._writer.write(http2.data(1, http2.message(b"")))
        while True:
            for each in http2.read_frames(self._received):
                if each.kind == http2.DATA:
                    self._received = b""
                    return int(each.payload[5:]) / 1e6
            received = await self._reader.read(1 << 16)
            if not received:
                raise ConnectionError(f"the victim was cut off: {self._received!r}")
            self._received += received

    def close(self) -> None:
        """Leave."""
        self._writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack did."""

    attack: str
    longest_wait: float
    """Seconds of the server's processor time that another client waits at most: two rounds."""
    admin_wait: float
    """The same until the admin port has answered on a connection of its own."""
    memory: float
    """Megabytes that the server grew by at most, for all attackers together."""
    log_lines: int


async def attack(target: Target, name: str, *, rounds: int) -> Outcome:
    """Let a victim ask *rounds* times while an attack goes on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    victim = Victim(reader, writer)
    await victim.ask()
    before, lines = target.memory(), len(target.log.read_bytes().splitlines())
    tasks = [asyncio.ensure_future(each) for each in attackers(target, name)]
    longest = admin = grown = 0.0
    try:
        for _ in range(rounds):
            await asyncio.sleep(0.01)
            async with asyncio.timeout(60):
                longest = max(longest, 2 * await victim.ask())
                admin = max(admin, await asyncio.to_thread(_ask_admin, target))
            grown = max(grown, target.memory() - before)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        victim.close()
    logged = len(target.log.read_bytes().splitlines()) - lines
    return Outcome(name, longest, admin, grown, logged)


def _ask_admin(target: Target) -> float:
    """Return the seconds of the server's processor time until its admin port has answered."""
    before, url = target.spent(), f"http://127.0.0.1:{target.admin_port}/healthz"
    with urllib.request.urlopen(url, timeout=60) as answer:
        answer.read()
    return target.spent() - before


async def _print_table(names: Sequence[str], rounds: int) -> None:
    print("| attack | longest wait of another client | of the admin port's | memory | log lines |")
    print("|---|---|---|---|---|")
    for name in names or ATTACKS:
        async with attacked() as target:
            outcome = await attack(target, name, rounds=rounds)
        waits = (f"{1000 * each:.1f} ms" for each in (outcome.longest_wait, outcome.admin_wait))
        grown = f"{outcome.memory:.1f} MB"
        print(f"| {name} | {' | '.join(waits)} | {grown} | {outcome.log_lines} |", flush=True)


def main() -> None:
    """Serve, or attack."""
    parser = argparse.ArgumentParser(prog="python -m testbed.tools.transport_attacks")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="attacks; by default all")
    parser.add_argument("--rounds", type=int, default=300, help="answers that the victim asks for")
    given = parser.parse_args()
    asyncio.run(
        _print_table(given.names, given.rounds) if given.serve is None else _serve(given.serve)
    )


if __name__ == "__main__":
    main()
