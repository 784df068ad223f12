"""The line to a control plane: the server is grpcio's, outages are included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from controlplane.agent.link import Uplink
from controlplane.agent.settings import AgentTls, ControlPlaneTarget
from controlplane.agent.survey import Item
from controlplane.errors import ReportError
from controlplane.grpc_services.agents import AgentService
from controlplane.grpc_transport.grpcio import GrpcioServer, PemFiles
from controlplane.grpc_transport.limits import Limits
from controlplane.grpc_transport.server import GrpcServer
from controlplane.model import InstanceReport, Report
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb
from testbed.background import running_task, until
from testbed.fakes.certificates import Authority
from testbed.processes.ports import free_port

ME = pb.Agent(id="north-1", site="north", version="1")


@dataclass
class Plane:
    """A control plane's end: keeps what comes."""

    port: int = field(default_factory=free_port)
    names: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def take(self, report: Report) -> None:
        """Receive one in, but for the instance that is not configured."""
        assert isinstance(report, InstanceReport)
        if report.instance == "zz":
            raise ReportError("the configuration has no instance 'zz'")
        self.names.append(report.instance)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[AgentService]:
        """Be there for the duration of the block."""
        server = GrpcioServer()
        service = AgentService(self.take)
        service.serve_on(server)
        await server.listen("127.0.0.1", self.port)
        try:
            yield service
        finally:
            await server.stop(None)


@asynccontextmanager
async def linked(
    plane: Plane, *, keep: float = 30.0, target: ControlPlaneTarget | None = None
) -> AsyncIterator[Uplink]:
    """Run a line to *plane* within the block."""
    link = Uplink(target or ControlPlaneTarget(f"127.0.0.1:{plane.port}"), ME, keep=keep)
    async with running_task(link.run()), asyncio.timeout(60):
        yield link


def said(link: Uplink, name: str) -> list[Item]:
    """Return a report of the instance *name*, measured now."""
    return [Item(link._clock(), pb.InstanceReport(instance=name, signals={"running": 1.0}))]


async def test_reports_reach_the_control_plane_and_refusals_come_back() -> None:
    """One stream carries batch after batch."""
    plane = Plane()
    async with plane.up() as service, linked(plane) as link:
        link.put(said(link, "a"))
        await until(lambda: link.accepted == 1)
        link.put([*said(link, "b"), *said(link, "zz")])
        await until(lambda: link.refused == 1)
        (record,) = service.agents

    assert ["a", "b"] == plane.names
    assert ("north-1", "north", 2, 0) == (record.id, record.site, record.batches, record.lost)


async def test_an_outage_loses_nothing_that_is_still_fresh() -> None:
    """Reports wait, and are sent when the control plane is there again."""
    plane = Plane()
    async with linked(plane) as link:
        link.put(said(link, "before"))
        await until(lambda: link.failures > 0)
        async with plane.up():
            await until(lambda: "before" in plane.names)
        link.put(said(link, "during"))
        await until(lambda: link.failures > 1)
        async with plane.up():
            await until(lambda: "during" in plane.names)

        assert ["before", "during"] == plane.names
        assert (0, 0) == (link.waiting, link.dropped)


async def test_what_is_too_old_is_not_sent() -> None:
    """A control plane that comes back after long is reported the present, not the past."""
    plane = Plane()
    async with linked(plane, keep=5.0) as link:
        link.put([Item(link._clock() - 60, pb.InstanceReport(instance="old"))])
        link.put(said(link, "new"))
        async with plane.up():
            await until(lambda: "new" in plane.names)

        assert ["new"] == plane.names
        assert 1 == link.dropped


async def test_a_token_file_without_a_token_is_reported_and_tried_again(tmp_path: Path) -> None:
    """A secret that is being rotated may be missing for a moment."""
    plane = Plane()
    token = tmp_path / "token"
    target = ControlPlaneTarget(address=f"127.0.0.1:{plane.port}", token_file=str(token))
    link = Uplink(target, ME, keep=30.0)
    async with running_task(link.run()), plane.up():
        link.put(said(link, "a"))
        await until(lambda: link.failures > 0)
        token.write_text("secret\n")
        await until(lambda: link.accepted == 1)

    assert ["a"] == plane.names


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL])
async def test_a_refused_stream_is_dialled_again_with_a_pause(code: grpc.StatusCode) -> None:
    """Whatever the control plane answers, the agent lives on and does not storm it."""
    calls = 0

    async def refuse(_: object, context: grpc.aio.ServicerContext) -> None:
        nonlocal calls
        calls += 1
        await context.abort(code, "no")

    plane = Plane()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    method = {"Report": grpc.stream_stream_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("cats.telemetry.v1.Telemetry", method),)
    )
    server.add_insecure_port(f"127.0.0.1:{plane.port}")
    await server.start()
    try:
        async with linked(plane) as link:
            link.put(said(link, "a"))
            await until(lambda: link.failures == 3)
            waiting = link.waiting
    finally:
        await server.stop(None)

    assert 1 == waiting
    assert calls <= 4


async def test_a_certificate_is_read_anew_at_each_dial(tmp_path: Path) -> None:
    """A rotation needs no restart; files that do not fit yet are reported and tried again."""
    authority = Authority(tmp_path)
    own, mine = authority.issue("localhost"), authority.issue("agent.north", lasts=-60)
    strangers = Authority(tmp_path, name="strangers")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(strangers.ca.read_bytes())
    plane = Plane()
    server = GrpcioServer()
    AgentService(plane.take).serve_on(server)
    files = PemFiles(str(own.cert), str(own.key), str(authority.ca))
    await server.listen("127.0.0.1", plane.port, tls=files)
    tls = AgentTls(ca=str(trusted), cert=str(mine.cert), key=str(mine.key))
    target = ControlPlaneTarget(f"localhost:{plane.port}", tls=tls)
    try:
        async with linked(plane, target=target) as link:
            link.put(said(link, "a"))
            await until(lambda: link.failures > 0)
            trusted.write_bytes(authority.ca.read_bytes())
            failures = link.failures
            await until(lambda: link.failures > failures)
            waiting = link.waiting
            authority.issue("agent.north", over=mine)
            await until(lambda: link.accepted == 1)
    finally:
        await server.stop(None)

    assert 1 == waiting
    assert ["a"] == plane.names


async def test_a_control_plane_that_asks_to_connect_anew_loses_nothing() -> None:
    """Connections that end by age move on between two batches, and that is no failure."""
    plane = Plane()
    server = GrpcServer(limits=Limits(max_age=0.0, max_age_grace=60.0))
    AgentService(plane.take).serve_on(server)
    await server.listen("127.0.0.1", plane.port)
    try:
        async with linked(plane) as link:
            sent = 0
            while server.accepted < 3:
                link.put(said(link, f"n{sent}"))
                sent += 1
                await until(lambda: len(plane.names) == sent)  # noqa: B023 -- awaited here
            failures = link.failures
    finally:
        await server.stop()

    assert [f"n{number}" for number in range(sent)] == plane.names
    assert 0 == failures


async def test_a_line_that_has_nothing_to_say_notices_that_it_is_cut() -> None:
    """What comes next goes over a line that works, and not into one that is dead."""
    plane = Plane()
    async with linked(plane) as link:
        async with plane.up():
            link.put(said(link, "a"))
            await until(lambda: link.accepted == 1)
        await until(lambda: not link.connected)

        assert link.failures > 0
