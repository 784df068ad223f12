"""The server under test in a process of its own: the real protocol and transport, made-up weights.

Only telemetry and steering are left out; what is published is made before it is measured.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from controlplane.config import Transport
from controlplane.grpc_transport.grpcio import PemFiles
from controlplane.xds.snapshot import Snapshot, TypeSnapshot
from controlplane.xds.types import ENDPOINT
from testbed.fakes.xds import XdsServer, make_assignment, serve_xds

PAGE = os.sysconf("SC_PAGE_SIZE")

SITE = "north"
"""Where the load client says it is; a client that says nothing costs a line of log."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server has cost since its start."""

    cpu: float
    """Seconds of processor time."""
    rss: float
    """MB of memory in use now."""


@dataclass(frozen=True, slots=True)
class Published:
    """One publish."""

    version: str
    at: float
    """``time.monotonic`` at its begin."""


def usage() -> Usage:
    """Measure this process."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Usage(spent.ru_utime + spent.ru_stime, pages * PAGE / 1e6)


class _Serving:
    """What the child does when reported."""

    def __init__(self, server: XdsServer, clusters: int, endpoints: int) -> None:
        self._views = server.views
        self._endpoints = endpoints
        self._step = 0
        self._clusters = [self._assignment(number) for number in range(clusters)]
        self._ready: list[Snapshot] = []
        self._publish_now(self._snapshot())

    def _assignment(self, number: int) -> Any:
        weights = (100 + self._step + each for each in range(self._endpoints))
        return make_assignment(f"cluster-{number}", weights)

    def _snapshot(self) -> Snapshot:
        return Snapshot({ENDPOINT: TypeSnapshot.of(self._clusters)})

    def _publish_now(self, snapshot: Snapshot) -> Published:
        at = time.monotonic()
        self._views.publish({SITE: snapshot, "": snapshot})
        return Published(snapshot.of_type(ENDPOINT).version, at)

    async def prepare(self, count: int, changed: int) -> None:
        """Make *count* snapshots, each with *changed* clusters unlike the one before."""
        for _ in range(count):
            self._step += 1
            self._clusters[:changed] = [self._assignment(number) for number in range(changed)]
            self._ready.append(self._snapshot())

    async def publish(self) -> Published:
        """Publish the next snapshot that was made."""
        return self._publish_now(self._ready.pop(0))

    async def sustain(self, rate: float) -> list[Published]:
        """Publish all that was made, *rate* a second."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        done = []
        for number in range(len(self._ready)):
            await asyncio.sleep(begin + number / rate - loop.time())
            done.append(await self.publish())
        return done

    async def usage(self) -> Usage:
        """Measure."""
        return usage()


async def _run(
    clusters: int, endpoints: int, pipe: Connection, transport: Transport, tls: PemFiles | None
) -> None:
    async with serve_xds(sites=(SITE,), transport=transport, tls=tls) as server:
        serving = _Serving(server, clusters, endpoints)
        host, port = server.address.split(":")
        pipe.send((host, int(port)))
        asked: asyncio.Queue[Any] = asyncio.Queue()

        def look() -> None:
            try:
                asked.put_nowait(pipe.recv())
            except EOFError:
                asked.put_nowait(None)

        asyncio.get_running_loop().add_reader(pipe.fileno(), look)
        while (command := await asked.get()) is not None:
            name, *arguments = command
            call: Callable[..., Any] = getattr(serving, name)
            pipe.send(await call(*arguments))


def _main(
    clusters: int, endpoints: int, pipe: Connection, transport: Transport, tls: PemFiles | None
) -> None:
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(clusters, endpoints, pipe, transport, tls))
    os._exit(0)


class ServerProcess:
    """The child; a context manager that ends it.

    Args:
        clusters: served.
        endpoints: of each.
        transport: what carries gRPC.
        tls: what it shows, and whose clients it takes; None serves clear text.

    Attributes:
        address: host and port.
        names: of the clusters.
    """

    def __init__(
        self,
        *,
        clusters: int,
        endpoints: int,
        transport: Transport = Transport.H2,
        tls: PemFiles | None = None,
    ) -> None:
        context = multiprocessing.get_context("fork")
        self.names = [f"cluster-{number}" for number in range(clusters)]
        self._pipe, theirs = context.Pipe()
        given = (clusters, endpoints, theirs, transport, tls)
        self._child = context.Process(target=_main, args=given, daemon=True)
        self._theirs = theirs
        self.address = ("127.0.0.1", 0)

    def __enter__(self) -> Self:
        self._child.start()
        self._theirs.close()
        self.address = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.join()
        self._pipe.close()

    def _ask(self, *command: Any) -> Any:
        self._pipe.send(command)
        return self._pipe.recv()

    def prepare(self, count: int, *, changed: int) -> None:
        """Make *count* snapshots, each with *changed* clusters unlike the one before."""
        self._ask("prepare", count, changed)

    def publish(self) -> Published:
        """Publish the next snapshot that was made."""
        published: Published = self._ask("publish")
        return published

    def sustain(self, rate: float) -> list[Published]:
        """Publish all that was made, *rate* a second."""
        published: list[Published] = self._ask("sustain", rate)
        return published

    def usage(self) -> Usage:
        """Measure the server."""
        measured: Usage = self._ask("usage")
        return measured
