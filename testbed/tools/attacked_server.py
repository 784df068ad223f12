"""The server that is attacked, in a process of its own, and what it measures of itself."""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
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
from controlplane.runtime.memory import collect_recent
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
        """Do nothing: what waits is sent as the peer reads."""


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
    site = AdminSite(runner, "127.0.0.1", 0)
    await site.start()
    return site.bound_port


async def serve(directory: Path) -> None:
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
    collect_recent()  # as ``cats serve`` does
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
