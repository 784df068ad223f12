"""Metrics pages that misbehave cost no request, with a real Envoy before emulated instances."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from controlplane.config import parse_config
from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.fakes.web_servers import serving_routes
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

pytestmark = pytest.mark.envoy

NAMES = ("a", "b", "c", "d")
FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}
steering: {expiry: 4s}
envoy: {port: LISTENER, load_period: 500ms}
instances:
"""


class Pages:
    """The metrics of every instance, as they are or as they misbehave."""

    def __init__(self, instances: dict[str, EmulatedInstance]) -> None:
        self._instances = instances
        self.odd: dict[str, str] = {}
        self.port = 0

    async def respond(self, request: web.Request) -> web.Response:
        """Answer one scrape."""
        name = request.match_info["name"]
        match self.odd.get(name):
            case "hangs":
                await asyncio.sleep(3600)
            case "fails":
                return web.Response(status=500)
            case "empty":
                return web.Response(text="")
        async with aiohttp.ClientSession() as session:
            url = f"http://{self._instances[name].address}/metrics"
            async with session.get(url) as answer:
                return web.Response(text=await answer.text())

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve within the block."""
        async with serving_routes(web.get("/{name}/metrics", self.respond)) as self.port:
            yield


async def send(url: str, seconds: float, *, rate: float = 40.0) -> tuple[Counter[str], int]:
    """Send requests; return the answers by instance, and how many were lost."""
    answers = Counter[str]()
    lost = 0

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal lost
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
        try:
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                await answer.read()
                if answer.status == 200:
                    answers[answer.headers["x-cats-instance"]] += 1
                else:
                    lost += 1
        except aiohttp.ClientError:
            lost += 1

    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
        for _ in range(round(seconds * rate)):
            tasks.create_task(one(session))
            await asyncio.sleep(1 / rate)
    return answers, lost


@pytest.mark.parametrize("odd", ["hangs", "empty"])
async def test_three_of_four_pages_that_misbehave_lose_no_request(odd: str, tmp_path: Path) -> None:
    """What answers stays in service, with a share, for longer than the expiry."""
    async with AsyncExitStack() as ends:
        instances = {
            name: await ends.enter_async_context(
                EmulatedInstance(
                    InstanceSettings(model="m", curve=Curve(base=0.2, crowding=0.02, slots=4))
                )
            )
            for name in NAMES
        }
        pages = Pages(instances)
        await ends.enter_async_context(pages.serving())
        text = FLEET.replace("LISTENER", str(free_port())) + "".join(
            f'  - {{name: {name}, site: north, address: "{each.address}", model: m, engine: vllm,\n'
            f'     scrape: {{url: "http://127.0.0.1:{pages.port}/{name}/metrics", period: 500ms, '
            f"timeout: 500ms}}}}\n"
            for name, each in instances.items()
        )
        config = parse_config(text, file="fleet.yaml")
        fleet = tmp_path / "fleet.yaml"
        fleet.write_text(text, encoding="utf-8")
        plane = await ends.enter_async_context(ControlPlaneProcess(fleet))
        await ends.enter_async_context(await EnvoyProcess.start(plane.bootstrap()))
        url = f"http://127.0.0.1:{config.envoy.port}"
        await plane.wait_ready()
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                answers, _ = await send(url, 0.2)
                if answers:
                    break
            await asyncio.sleep(0.1)
        await send(url, 3.0)

        pages.odd = dict.fromkeys(("b", "c", "d"), odd)
        _, lost = await send(url, 6.0)
        answers, more_lost = await send(url, 4.0)
        phases = {
            each["name"]: (each["phase"], each["confidence"])
            for each in (await plane.get_json("/api/v1/fleet"))["instances"]
        }

    assert 0 == lost + more_lost
    assert set(NAMES) == set(answers)
    assert {"expired"}.isdisjoint(phase for phase, _ in phases.values())
    assert all(confidence > 0.9 for _, confidence in phases.values()), phases
