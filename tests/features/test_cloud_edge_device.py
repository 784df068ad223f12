"""Cloud, edge and device together, each used when its trade-offs are right, on a real Envoy.

The three run models of different size, which refuse every name but their own.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from aiohttp import web

from testbed.demo.traffic import Lengths, Stream, Traffic
from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.children import Children
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_ports

pytestmark = pytest.mark.envoy

FLEET = """
version: 1
sites:
  - {{name: cloud-1, kind: cloud}}
  - {{name: edge-1, kind: edge}}
  - {{name: phones, kind: device, battery: {{floor: 30%, penalty: 50ms}}}}
models:
  - {{name: assistant, kind: foundation, served_as: org/assistant-70b}}
  - {{name: assistant-retail, kind: customised, base: assistant, served_as: org/assistant-8b}}
  - {{name: assistant-small, kind: pruned, base: assistant, served_as: assistant-1b.gguf}}
services:
  - name: chat
    match: [{{path: /v1/chat/completions}}]
    models:
      - {{name: assistant-retail}}
      - {{name: assistant, penalty: 20ms}}
      - {{name: assistant-small, penalty: 100ms}}
instances:
  - {{name: cloud, site: cloud-1, address: "{cloud}", model: assistant, engine: vllm, slots: 32,
     service_time: 150ms, scrape: {{url: "http://{cloud}/metrics", period: 200ms}}}}
  - {{name: edge, site: edge-1, address: "{edge}", model: assistant-retail, engine: vllm, slots: 8,
     service_time: 100ms, scrape: {{url: "http://{edge}/metrics", period: 200ms}}}}
  - {{name: own, site: phones, address: "{own}", model: assistant-small, engine: vllm, slots: 4,
     service_time: 250ms}}
network:
  paths: [{{from: phones, to: edge-1, rtt: 10ms}}, {{from: phones, to: cloud-1, rtt: 600ms}}]
steering: {{period: 200ms, slow_start: 0s}}
envoy:
  address: 127.0.0.1
  port: {port}
  load_period: 200ms
  health_check: {{interval: 200ms, timeout: 60s}}
"""

AGENT = """
version: 1
id: phone-1
site: phones
control_planes: [{{address: "127.0.0.1:{xds}"}}]
period: 200ms
instances: [{{name: own, engine: vllm, scrape: {{url: "http://{own}/metrics", period: 200ms}}}}]
machine:
  gpu: false
  rapl: false
  battery: false
  exporters: [{{kind: node, scrape: {{url: "http://127.0.0.1:{page}/metrics", period: 200ms}}}}]
"""


class Battery:
    """What the phone's exporter says of its battery; an asynchronous context manager."""

    def __init__(self) -> None:
        self.charge, self.online = 90, False
        app = web.Application()
        app.add_routes([web.get("/metrics", self._show)])
        self._runner = web.AppRunner(app)
        self.port = 0

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _show(self, _: web.Request) -> web.Response:
        return web.Response(
            text=f'node_power_supply_capacity{{power_supply="BAT0"}} {self.charge}\n'
            f'node_power_supply_online{{power_supply="AC"}} {int(self.online)}\n'
        )


@dataclass(slots=True)
class World:
    """A phone, an edge and a cloud at work."""

    edge: EmulatedInstance
    battery: Battery
    traffic: Traffic

    async def next(self, count: int) -> Counter[str]:
        """Return who answers the next *count* requests."""
        start = len(self.traffic.records)
        while len(self.traffic.records) < start + count:  # noqa: ASYNC110 -- no event says so
            await asyncio.sleep(0.05)
        return Counter(each.instance for each in list(self.traffic.records)[start:])

    async def until(self, condition: Callable[[Counter[str]], bool], what: str) -> None:
        """Wait until 20 answers are as wanted."""
        found: Counter[str] = Counter()
        try:
            async with asyncio.timeout(90):
                while not condition(found):
                    found = await self.next(20)
        except TimeoutError:
            raise AssertionError(f"did not {what}; last: {found}") from None


@asynccontextmanager
async def at_work(folder: Path) -> AsyncIterator[World]:
    """Run a phone with its Envoy, its agent and its model; an edge, a cloud, a control plane."""
    async with AsyncExitStack() as ends:
        start = ends.enter_async_context
        (port,) = free_ports(1)
        cloud, edge, own = [
            await start(EmulatedInstance(InstanceSettings(serves=(name,), curve=curve)))
            for name, curve in (
                ("org/assistant-70b", Curve(base=0.75, crowding=0.002, slots=32)),
                ("org/assistant-8b", Curve(base=0.1, crowding=0.01, slots=8)),
                ("assistant-1b.gguf", Curve(base=0.2, crowding=0.02, slots=4)),
            )
        ]
        battery = await start(Battery())
        text = FLEET.format(cloud=cloud.address, edge=edge.address, own=own.address, port=port)
        file, agent = folder / "fleet.yaml", folder / "agent.yaml"
        file.write_text(text, encoding="utf-8")
        control = await start(ControlPlaneProcess(file))
        await control.wait_ready()
        agent.write_text(
            AGENT.format(xds=control.xds_port, page=battery.port, own=own.address), encoding="utf-8"
        )
        children = await start(Children(folder / "agents"))
        await children.start(
            "agent", [sys.executable, "-m", "controlplane", "agent", "-c", str(agent)]
        )
        ends.push_async_callback((await EnvoyProcess.start(control.bootstrap(site="phones"))).stop)
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        lengths = Lengths(prompt=5, output=100, sigma=0.2)
        stream = Stream("chat", "phones", url, rate=8.0, model="assistant", lengths=lengths)
        yield World(edge, battery, await start(Traffic([stream], seed=7)))


async def test_each_is_used_when_its_trade_offs_are_right(tmp_path: Path) -> None:
    """The near edge while it has room, then the device, and not the battery's last third."""
    async with at_work(tmp_path) as world:
        await world.until(lambda who: who["edge"] >= 18, "prefer the edge, which has room")

        world.edge.train(0.9)
        await world.until(lambda who: who["own"] >= 13, "use the device beside a slow edge")

        world.battery.charge = 20
        await world.until(lambda who: who["own"] == 0 and who["cloud"] > 0, "spare the battery")

        world.battery.online = True
        await world.until(lambda who: who["own"] >= 13, "use a device on mains")

        world.edge.train(0.0)
        await world.until(lambda who: who["edge"] >= 18, "return to the edge")
        assert [] == [each for each in world.traffic.records if not each.answered]
