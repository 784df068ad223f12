"""Agents over real gRPC streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from controlplane.errors import ReportError
from controlplane.grpc_services.agents import SERVICE, AgentService, AgentSettings
from controlplane.grpc_transport.grpcio import GrpcioServer
from controlplane.grpc_transport.server import GrpcServer
from controlplane.model import InstanceReport, Report, Signal
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb
from testbed.background import until

METHOD = f"/{SERVICE}/Report"


@dataclass
class Plane:
    """What a control plane does with reports: keep those of the instance a, refuse others."""

    reports: list[Report] = field(default_factory=list)

    def take(self, report: Report) -> None:
        """Receive one in."""
        if isinstance(report, InstanceReport) and report.instance != "a":
            raise ReportError(f"the configuration has no instance {report.instance!r}")
        self.reports.append(report)


Serve = Callable[[AgentSettings], Any]


@pytest.fixture
async def plane() -> Plane:
    """Start with no reports."""
    return Plane()


@pytest.fixture(params=[GrpcServer, GrpcioServer], ids=["h2", "grpcio"])
async def serve(plane: Plane, request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Return a function that serves under given settings and connects."""
    opened: list[Any] = []

    async def start(settings: AgentSettings) -> tuple[AgentService, Any]:
        server = request.param()
        service = AgentService(plane.take, settings=settings)
        service.serve_on(server)
        port = await server.listen("127.0.0.1", 0)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        opened.append((server, channel))
        return service, channel.stream_stream(METHOD)

    yield start
    for server, channel in opened:
        await channel.close()
        await server.stop(None)


def make_batch(sequence: int, *instances: str, agent: str = "agent-1") -> bytes:
    """Return a batch in which every instance runs two requests."""
    batch = pb.ReportBatch(agent=pb.Agent(id=agent, site="north"), sequence=sequence)
    batch.sent_at.GetCurrentTime()
    for name in instances:
        report = batch.instances.add(instance=name, signals={"running": 2.0})
        report.measured_at.GetCurrentTime()
    return batch.SerializeToString()


async def test_every_batch_is_answered_with_what_was_taken_and_refused(
    plane: Plane, serve: Serve
) -> None:
    """An agent learns of its mistakes where it makes them."""
    service, report = await serve(AgentSettings())
    call = report()
    await call.write(make_batch(1, "a", "zz"))
    first = pb.ReportStatus.FromString(await call.read())
    await call.write(make_batch(4, "a"))
    second = pb.ReportStatus.FromString(await call.read())
    (record,) = service.agents
    await call.done_writing()
    end = await call.read()

    assert (1, 1) == (first.sequence, first.accepted)
    assert ["zz: the configuration has no instance 'zz'"] == list(first.refused)
    assert (4, 1, []) == (second.sequence, second.accepted, list(second.refused))
    assert ("agent-1", "north", 2, 2, 1, 2) == (
        record.id, record.site, record.batches, record.accepted, record.refused, record.lost,
    )  # fmt: skip
    assert grpc.aio.EOF is end
    assert () == service.agents
    assert [{Signal.RUNNING: 2.0}] * 2 == [
        one.signals for one in plane.reports if isinstance(one, InstanceReport)
    ]


@pytest.mark.parametrize(
    ("settings", "message", "code", "words"),
    [
        pytest.param(
            AgentSettings(), b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "ReportBatch",
            id="no_message",
        ),
        pytest.param(
            AgentSettings(), make_batch(1, "a", agent=""), grpc.StatusCode.INVALID_ARGUMENT,
            "agent.id", id="nameless",
        ),
        pytest.param(
            AgentSettings(max_batch=20), make_batch(1, "a"), grpc.StatusCode.RESOURCE_EXHAUSTED,
            "at most 20", id="too_large",
        ),
        pytest.param(
            AgentSettings(max_streams=0), make_batch(1, "a"), grpc.StatusCode.RESOURCE_EXHAUSTED,
            "no more", id="too_many_agents",
        ),
        pytest.param(
            AgentSettings(batches_burst=0.0, patience=0.0), make_batch(1, "a"),
            grpc.StatusCode.RESOURCE_EXHAUSTED, "batches a second", id="too_fast",
        ),
    ],
)  # fmt: skip
async def test_what_goes_too_far_ends_the_stream_with_its_reason(
    plane: Plane,
    serve: Serve,
    *,
    settings: AgentSettings,
    message: bytes,
    code: grpc.StatusCode,
    words: str,
) -> None:
    """And nothing of it is taken."""
    service, report = await serve(settings)
    call = report()
    if settings.max_streams:  # else the call may be over before it is written to
        await call.write(message)

    assert code is await call.code()
    assert words in await call.details()
    assert [] == plane.reports
    assert () == service.agents


async def test_an_agent_that_is_too_fast_is_slowed_down(plane: Plane, serve: Serve) -> None:
    """Back pressure comes before the cut, and loses nothing."""
    _, report = await serve(AgentSettings(batches_rate=200.0, batches_burst=1.0))
    call = report()
    for sequence in range(1, 21):
        await call.write(make_batch(sequence, "a"))
    await call.done_writing()
    answered = [pb.ReportStatus.FromString(answer).sequence async for answer in call]

    assert list(range(1, 21)) == answered
    assert 20 == len(plane.reports)


async def test_streams_end_without_a_trace_when_agents_vanish(plane: Plane, serve: Serve) -> None:
    """Devices come and go; nothing of them may stay."""
    service, report = await serve(AgentSettings(max_streams=2))
    for _ in range(5):
        call = report()
        await call.write(make_batch(1, "a"))
        await call.read()
        call.cancel()
        await until(lambda: not service.agents)

    assert 5 == len(plane.reports)
