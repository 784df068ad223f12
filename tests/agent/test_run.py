"""A whole agent in this process, beside real servers: exporters, a training metric, two planes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web

from controlplane.agent.run import Agent, running_agent
from controlplane.agent.settings import (
    AgentConfig,
    Api,
    ControlPlaneTarget,
    Discovery,
    Exporter,
    ExporterKind,
    LocalInstance,
    Machine,
    MetricsPage,
    Training,
    TrainingMetric,
)
from controlplane.config import Engine
from controlplane.errors import StartError
from controlplane.grpc_services.agents import AgentService
from controlplane.grpc_transport.server import GrpcServer
from controlplane.model import InstanceReport, Report, ScrapeFailure, Signal, SiteReport
from testbed.background import until
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.fakes.web_servers import serving_routes
from testbed.processes.ports import free_port

DCGM = """\
DCGM_FI_DEV_GPU_UTIL{gpu="0"} 40
DCGM_FI_DEV_POWER_USAGE{gpu="0"} 150
DCGM_FI_DEV_FB_USED{gpu="0"} 1
DCGM_FI_DEV_FB_FREE{gpu="0"} 3
DCGM_FI_DEV_GPU_UTIL{gpu="1"} 90
DCGM_FI_DEV_POWER_USAGE{gpu="1"} 300
"""
TRAINING = 'slots_in_use{job="nightly"} 3\nslots_in_use{job="of others"} 1\n'


@dataclass
class Plane:
    """A control plane's end: keeps the newest report of each kind and subject."""

    port: int = 0
    instances: dict[str, InstanceReport] = field(default_factory=dict)
    failures: set[str] = field(default_factory=set)
    site: SiteReport | None = None

    def take(self, report: Report) -> None:
        """Receive one in."""
        match report:
            case InstanceReport():
                self.instances[report.instance] = report
            case ScrapeFailure():
                self.failures.add(report.instance)
            case SiteReport():
                self.site = report

    def signal(self, name: str, signal: Signal) -> float | None:
        """Return the newest value of an instance's signal."""
        report = self.instances.get(name)
        return None if report is None else report.signals.get(signal)


@asynccontextmanager
async def planes(count: int) -> AsyncIterator[list[Plane]]:
    """Run control planes' ends."""
    async with AsyncExitStack() as ends:
        every = [Plane() for _ in range(count)]
        for plane in every:
            server = GrpcServer()
            AgentService(plane.take).serve_on(server)
            plane.port = await server.listen("127.0.0.1", 0)
            ends.push_async_callback(server.stop)
        yield every


@asynccontextmanager
async def pages(texts: dict[str, str]) -> AsyncIterator[str]:
    """Serve texts by path, which a test may change; gives the URL."""

    async def answer(request: web.Request) -> web.Response:
        text = texts.get(request.path.removeprefix("/"))
        return web.Response(status=404) if text is None else web.Response(text=text)

    async with serving_routes(web.get("/{page}", answer)) as port:
        yield f"http://127.0.0.1:{port}"


def scrape(url: str) -> MetricsPage:
    """Read often."""
    return MetricsPage(url, period=0.1, timeout=1.0)


def of_gpu_0(url: str) -> MetricsPage:
    """Read often, and leave out what others do on the machine's other GPUs."""
    return replace(scrape(url), labels={"gpu": "0"})


def nightly(url: str) -> MetricsPage:
    """Read often, and leave out the jobs that run elsewhere."""
    return replace(scrape(url), labels={"job": "night*"})


async def test_exporters_and_training_metrics_reach_every_control_plane() -> None:
    """Values of the machine join those of its engine; what an exporter stops saying is no more."""
    texts = {"dcgm": DCGM, "training": TRAINING}
    async with (
        planes(2) as (first, second),
        pages(texts) as url,
        EmulatedInstance(InstanceSettings(model="m")) as engine,
    ):
        config = AgentConfig(
            id="north-1",
            site="north",
            period=0.1,
            control_planes=tuple(
                ControlPlaneTarget(f"127.0.0.1:{plane.port}") for plane in (first, second)
            ),
            instances=(
                LocalInstance("a", scrape(f"http://{engine.address}/metrics"), Engine.VLLM),
            ),
            machine=Machine(
                gpu=False, rapl=False, battery=False, idle_power=20.0,
                exporters=(Exporter(ExporterKind.DCGM, of_gpu_0(f"{url}/dcgm")),),
            ),
            training=Training(
                metrics=(TrainingMetric(nightly(f"{url}/training"), "slots_in_use", 0.25),)
            ),
        )  # fmt: skip
        async with running_agent(config):
            for plane in (first, second):
                await until(lambda p=plane: p.signal("a", Signal.TRAINING) == 0.75)  # type: ignore[misc]
                await until(lambda p=plane: p.site is not None)  # type: ignore[misc]
            seen = [
                (
                    plane.signal("a", Signal.UTILISATION),
                    plane.signal("a", Signal.MEMORY),
                    plane.site.power if plane.site else None,
                )
                for plane in (first, second)
            ]
            del texts["training"]
            await until(lambda: first.signal("a", Signal.TRAINING) == 0.0)

    assert [(0.4, 0.25, 170.0)] * 2 == seen


async def test_a_found_engine_that_goes_silent_is_reported_and_kept() -> None:
    """A device's engine comes and goes; the agent's configuration names none."""
    async with planes(1) as (plane,):
        port = free_port()
        config = AgentConfig(
            id="phone-7",
            site="phones",
            period=0.1,
            control_planes=(ControlPlaneTarget(f"127.0.0.1:{plane.port}"),),
            discover=Discovery(name="{agent}-{engine}", ports=(port,), period=0.1),
        )
        async with running_agent(config) as agent:
            async with EmulatedInstance(InstanceSettings(model="m", port=port)):
                await until(lambda: "phone-7-vllm" in plane.instances)
            await until(lambda: "phone-7-vllm" in plane.failures)
            plane.instances.clear()
            async with EmulatedInstance(InstanceSettings(model="m", port=port)):
                await until(lambda: "phone-7-vllm" in plane.instances)
            shown = agent.shown()

    assert ["phone-7-vllm"] == shown["instances"]
    assert 0 == shown["control_planes"][0]["dropped"]


async def test_a_taken_port_is_reported_in_one_line() -> None:
    """With the key that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = listening.getsockname()[1]
        config = AgentConfig(
            id="a", site="s", control_planes=(ControlPlaneTarget("127.0.0.1:1"),),
            api=Api(f"127.0.0.1:{taken}"),
        )  # fmt: skip
        async with AsyncExitStack() as ends:
            with pytest.raises(StartError, match=rf"api: cannot listen on 127.0.0.1:{taken}"):
                await Agent(config).start(ends)
