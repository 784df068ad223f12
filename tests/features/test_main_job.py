"""The main job with real processes: telemetry moves real requests, and deaths lose none."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlplane.diagnostics.doctor import examine_envoys
from testbed.demo.records import Record
from testbed.demo.traffic import Lengths, Stream, Traffic
from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_ports

pytestmark = pytest.mark.envoy

MODES = [pytest.param(True, id="delta"), pytest.param(False, id="sotw")]

FLEET = """
version: 1
sites: [{{name: north, kind: edge}}, {{name: south, kind: edge}}]
models: [{{name: emulated}}]
services:
  - name: chat
    match: [{{path: /v1/chat/completions}}]
    models: [{{name: emulated}}]
instances:
  - {{name: a, site: north, address: "{a}", model: emulated, engine: vllm, slots: 8,
     service_time: 100ms, scrape: {{url: "http://{a}/metrics", period: 200ms}}}}
  - {{name: b, site: south, address: "{b}", model: emulated, engine: vllm, slots: 8,
     service_time: 100ms, scrape: {{url: "http://{b}/metrics", period: 200ms}}}}
network: {{paths: [{{from: north, to: south, rtt: 80ms}}]}}
steering: {{period: 200ms, slow_start: 0s}}
envoy:
  address: 127.0.0.1
  port: {port}
  load_period: 200ms
  health_check: {{interval: 200ms, timeout: 60s, unhealthy_after: 1}}
"""


@dataclass(slots=True)
class World:
    """A fleet at work."""

    a: EmulatedInstance
    b: EmulatedInstance
    control: ControlPlaneProcess
    envoy: EnvoyProcess
    traffic: Traffic
    command: Callable[[], ControlPlaneProcess]

    def split(self, last: int) -> Counter[str]:
        """Return who answered the last requests."""
        return Counter(record.instance for record in list(self.traffic.records)[-last:])

    async def until(self, condition: Callable[[], bool], what: str, *, within: float = 180) -> None:
        """Wait while the fleet works."""
        try:
            async with asyncio.timeout(within):
                while not condition():  # noqa: ASYNC110 -- what other processes do raises no event
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"did not {what}; last: {self.split(100)}") from None

    async def answered(self, count: int) -> list[Record]:
        """Return the records of the next *count* requests."""
        start = len(self.traffic.records)
        await self.until(
            lambda: len(self.traffic.records) >= start + count, f"answer {count} more requests"
        )
        return list(self.traffic.records)[start:]


@asynccontextmanager
async def at_work(folder: Path, *, delta: bool, version: str = "") -> AsyncIterator[World]:
    """Run two instances, a control plane, an Envoy and steady traffic of one client site."""
    file = folder / "fleet.yaml"
    (port,) = free_ports(1)
    curve = InstanceSettings(curve=Curve(base=0.09, crowding=0.01, slots=8))
    lengths = Lengths(prompt=5, output=40, sigma=0.2)
    async with EmulatedInstance(curve) as a, EmulatedInstance(curve) as b:
        text = FLEET.format(a=a.address, b=b.address, port=port)
        file.write_text(text, encoding="utf-8")
        control = ControlPlaneProcess(file, "--state-dir", str(folder / "state"))
        ports = (control.xds_port, control.admin_port)

        def command() -> ControlPlaneProcess:
            return ControlPlaneProcess(file, "--state-dir", str(folder / "state"), ports=ports)

        async with control:
            await control.wait_ready()
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            stream = Stream("chat", "north", url, rate=40.0, lengths=lengths)
            async with (
                await EnvoyProcess.start(control.bootstrap(delta=delta), version=version) as envoy,
                Traffic([stream], seed=7) as traffic,
            ):
                yield World(a, b, control, envoy, traffic, command)


@pytest.mark.parametrize("delta", MODES)
async def test_a_change_in_telemetry_moves_requests_and_moves_them_back(
    tmp_path: Path, *, delta: bool
) -> None:
    """A training job takes the near instance: requests leave it, and return when it ends."""
    async with at_work(tmp_path, delta=delta) as world:
        await world.until(lambda: world.split(100)["a"] >= 80, "prefer the near instance")
        world.a.train(0.9)
        await world.until(lambda: world.split(100)["a"] <= 40, "leave the slow instance")
        world.a.train(0.0)
        await world.until(lambda: world.split(100)["a"] >= 70, "return to the near instance")
        (connected,) = (await world.control.get_json("/api/v1/envoys"))["envoys"]

        assert 4 == len(connected["types"])
        assert [] == [kind for kind in connected["types"].values() if kind["refused"]]
        assert [] == [record for record in world.traffic.records if not record.answered]


@pytest.mark.parametrize("version", ["1.37", "1.38", "1.39"])
async def test_older_envoys_steer_as_the_newest_does(tmp_path: Path, version: str) -> None:
    """Each supported release does the main job, and what it observes reaches the control plane."""
    async with at_work(tmp_path, delta=True, version=version) as world:
        await world.until(lambda: world.split(100)["a"] >= 80, "prefer the near instance")
        world.a.train(0.9)
        await world.until(lambda: world.split(100)["a"] <= 40, "leave the slow instance")
        observed = await world.envoy.stats("^cats[.]answers")
        (connected,) = (await world.control.get_json("/api/v1/envoys"))["envoys"]

        assert 2 == len(observed)
        assert (True, "envoy") == (connected["supported"], connected["role"])
        assert connected["agent"].startswith(f"envoy {version}.")
        assert [] == [kind for kind in connected["types"].values() if kind["refused"]]
        assert [] == [record for record in world.traffic.records if not record.answered]


async def test_an_unsupported_envoy_serves_and_is_reported(tmp_path: Path) -> None:
    """One release too old: its requests are answered, and log, API and doctor name it."""
    async with at_work(tmp_path, delta=True, version="1.36") as world:
        await world.until(lambda: len(world.traffic.records) >= 20, "answer requests")
        document = await world.control.get_json("/api/v1/envoys")
        (finding,) = [f for f in examine_envoys(document) if "older than 1.37" in f.what]

        assert [False] == [envoy["supported"] for envoy in document["envoys"]]
        assert "upgrade it to 1.37 or newer" in finding.remedy
        assert await world.control.wait_for_event("Envoy version not supported")
        assert [] == [record for record in world.traffic.records if not record.answered]


@pytest.mark.parametrize("delta", MODES)
async def test_a_control_plane_killed_and_started_again_is_not_noticed(
    tmp_path: Path, *, delta: bool
) -> None:
    """``kill -9``, an outage, a restart from the state: every request is answered throughout."""
    async with at_work(tmp_path, delta=delta) as world:
        await world.until(lambda: world.split(100)["a"] >= 80, "prefer the near instance")
        before = await world.envoy.weights("chat")
        world.control.signal(signal.SIGKILL)
        assert -signal.SIGKILL == await world.control.ended()
        await world.envoy.wait_for_stat("control_plane.connected_state", lambda value: value == 0)
        alone = await world.answered(80)
        kept = await world.envoy.weights("chat")
        async with world.command() as again:
            await world.envoy.wait_for_stat(
                "control_plane.connected_state", lambda value: value == 1, timeout=60
            )
            await again.wait_ready()
            after = await world.answered(80)

        assert before == kept
        assert {"chat"} == {record.service for record in alone + after}
        assert [] == [record for record in world.traffic.records if not record.answered]


@pytest.mark.parametrize("delta", MODES)
async def test_a_dead_instance_gets_nothing_once_it_is_detected(
    tmp_path: Path, *, delta: bool
) -> None:
    """What it was reporting is cut; every later request is answered by the other one."""
    async with at_work(tmp_path, delta=delta) as world:
        await world.until(lambda: world.split(100)["a"] >= 80, "prefer the near instance")
        address = world.a.address
        await world.a.__aexit__(None, None, None)

        def detected(clusters: object) -> bool:
            assert isinstance(clusters, dict)
            return all(e.address != address or not e.healthy for e in clusters["chat"])

        await world.envoy.wait_for(detected, "notice the death", timeout=60)
        mark = len(world.traffic.records) + world.traffic.in_flight
        await world.until(lambda: len(world.traffic.records) > mark, "answer what was under way")
        after = await world.answered(150)

        assert {"b"} == {record.instance for record in after}
        assert [] == [record for record in after if not record.answered]
