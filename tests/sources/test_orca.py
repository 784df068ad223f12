"""ORCA out of band over real gRPC: the agent's own server is the other end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from structlog.testing import capture_logs
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

from controlplane.agent.orca_server import OrcaServer
from controlplane.agent.settings import OrcaExport
from controlplane.config import Instance, Orca
from controlplane.model import InstanceReport, ScrapeFailure, Signal, Source
from controlplane.sources.orca import METHOD, OrcaReader
from testbed.background import running_task
from testbed.processes.ports import free_port

Result = InstanceReport | ScrapeFailure


def make_instance(port: int, name: str = "a") -> Instance:
    """Return an instance that reports ten times a second."""
    return Instance(
        name=name, site="s", address="127.0.0.1:1", model="m", orca=Orca(port=port, period="100ms")
    )


@asynccontextmanager
async def reading(*instances: Instance) -> AsyncIterator[tuple[OrcaReader, asyncio.Queue[Result]]]:
    """Read within the block."""
    results: asyncio.Queue[Result] = asyncio.Queue()
    reader = OrcaReader(instances, on_report=results.put_nowait)
    async with running_task(reader.run()), asyncio.timeout(60):
        yield reader, results


def said(running: float, done: float, at: float) -> InstanceReport:
    """Return a scrape of the instance behind the agent."""
    return InstanceReport(
        "a", Source.SCRAPE, at,
        {Signal.RUNNING: running, Signal.COMPLETED: done, Signal.LATENCY_SUM: done * 0.5},
    )  # fmt: skip


async def test_reports_come_as_long_as_the_instance_is_known() -> None:
    """What the agent re-emits is what the control plane reads, provenance included."""
    server = OrcaServer(OrcaExport(instance="a", address=f"127.0.0.1:{free_port()}", capacity=8))
    await server.start()
    now = time.monotonic()
    server.load.take(said(2.0, 0.0, now - 1))
    server.load.take(said(2.0, 4.0, now))
    try:
        async with reading(make_instance(server.port)) as (_, results):
            first, second = await results.get(), await results.get()
    finally:
        await server.stop()

    assert isinstance(first, InstanceReport)
    assert ("a", Source.ORCA, 2.0) == (first.instance, first.source, first.signals[Signal.RUNNING])
    assert first.signals[Signal.THROUGHPUT] > 0
    assert second.at > first.at


async def test_reports_are_asked_for_as_configured() -> None:
    """At another host than the instance's, and every 125 ms."""
    _, service, method = METHOD.split("/")
    asked: list[bytes] = []

    async def answer(request: bytes, _context: object) -> AsyncIterator[bytes]:
        asked.append(request)
        yield b""

    server = grpc.aio.server()
    handlers = {method: grpc.unary_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    orca = Orca(address=f"127.0.0.1:{port}", period="125ms")
    elsewhere = Instance(name="a", site="s", address="127.0.0.2:1", model="m", orca=orca)
    await server.start()
    try:
        async with reading(elsewhere) as (_, results):
            report = await results.get()
    finally:
        await server.stop(None)

    assert isinstance(report, InstanceReport)
    period = OrcaLoadReportRequest.FromString(asked[0]).report_interval
    assert 125_000_000 == period.ToNanoseconds()


async def test_an_end_is_reported_and_the_stream_opened_again() -> None:
    """An instance that restarts is read again without anybody's help."""
    port = free_port()
    with capture_logs() as lines:
        async with reading(make_instance(port)) as (_, results):
            failure = await results.get()
            server = OrcaServer(OrcaExport(instance="a", address=f"127.0.0.1:{port}"))
            server.load.take(said(1.0, 0.0, time.monotonic()))
            await server.start()
            try:
                while isinstance(await results.get(), ScrapeFailure):
                    pass
            finally:
                await server.stop()

    assert isinstance(failure, ScrapeFailure)
    assert failure.reason.startswith("ORCA: ")
    assert [
        "ORCA reports unavailable",
        "ORCA reports restored",
    ] == [line["event"] for line in lines][:2]


async def test_what_is_no_report_is_a_failure() -> None:
    """Another service on that port, for instance."""
    _, service, method = METHOD.split("/")

    async def answer(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"\xff\xff\xff"

    server = grpc.aio.server()
    handlers = {method: grpc.unary_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with reading(make_instance(port)) as (_, results):
            failure = await results.get()
    finally:
        await server.stop(None)

    assert isinstance(failure, ScrapeFailure)
    assert "not an OrcaLoadReport" in failure.reason


async def test_a_new_configuration_starts_and_ends_streams() -> None:
    """Without disturbing those that stay."""
    server = OrcaServer(OrcaExport(instance="a", address=f"127.0.0.1:{free_port()}"))
    await server.start()
    server.load.take(said(1.0, 0.0, time.monotonic()))
    try:
        async with reading(make_instance(server.port, "a")) as (reader, results):
            await results.get()
            reader.reconfigure([make_instance(server.port, "b")])
            while (await results.get()).instance != "b":
                pass
            names = {(await results.get()).instance for _ in range(3)}
    finally:
        await server.stop()

    assert {"b"} == names
