"""A real Envoy, a real webhook and engines that do not run until they are called for."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.app.serving import Running, running
from controlplane.app.settings import Settings
from controlplane.config import parse_config
from controlplane.resources.bootstrap import build_bootstrap
from testbed.background import until
from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.fakes.webhook import WebhookReceiver
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_ports

pytestmark = pytest.mark.envoy

SLOW = InstanceSettings(curve=Curve(base=0.2, crowding=0.2, slots=1))


def fleet(url: str, ports: dict[str, int], *, awake: tuple[str, ...], **wake: Any) -> str:
    """Return a fleet at one site; what is not *awake* can be started."""
    settings = "".join(f", {key}: {value}" for key, value in wake.items())
    return """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: emulated}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: emulated}]}
instances:
""" + "".join(
        f"""
  - name: {name}
    site: north
    address: "127.0.0.1:{port}"
    model: emulated
    engine: vllm
    slots: 1
    service_time: 200ms
    scrape: {{url: "http://127.0.0.1:{port}/metrics", period: 100ms}}
    {"" if name in awake else f'wake: {{url: "{url}", start_up: 2s{settings}}}'}
"""
        for name, port in ports.items()
        if name != "listener"
    ) + f"""
steering: {{period: 100ms, slow_start: 500ms}}
envoy: {{address: 127.0.0.1, port: {ports["listener"]}, load_period: 200ms}}
"""  # fmt: skip


@contextlib.asynccontextmanager
async def steered(file: Path, text: str) -> Any:
    """Run the control plane on *text* and an Envoy at the site."""
    (xds_port,) = free_ports(1)
    file.write_text(text, encoding="utf-8")  # noqa: ASYNC240 -- some lines
    settings = Settings(file, xds=("127.0.0.1", xds_port), admin=("127.0.0.1", 0), settle=0.3)
    bootstrap = build_bootstrap(
        parse_config(text, file=str(file)),
        site="north", envoy_id="e1", xds=settings.xds, admin_port=0,
    )  # fmt: skip
    async with running(settings) as run, await EnvoyProcess.start(bootstrap):
        yield run


async def ask(http: aiohttp.ClientSession, port: int) -> int:
    """Send one request and return the answer's status; 0 if there is none."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
    try:
        async with http.post(url, json=body) as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientError:
        return 0


async def documents(http: aiohttp.ClientSession, run: Running, path: str) -> Any:
    """Return what the admin port says."""
    async with http.get(f"http://127.0.0.1:{run.admin_port}{path}") as answer:
        return await answer.text() if path == "/metrics" else await answer.json()


def used(run: Running) -> set[str]:
    """Return the instances that get requests."""
    plan = run.control.plan
    assert plan is not None
    return {each.instance for row in plan.assignments.values() for each in row.allocations}


async def test_a_request_that_nothing_can_serve_wakes_an_instance_that_serves_the_next(
    tmp_path: Path,
) -> None:
    """Scaled to zero as a whole: no start without a request, one call, and then an answer."""
    a, listener = free_ports(2)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def start(_: str) -> None:
            await stack.enter_async_context(EmulatedInstance(InstanceSettings(port=a)))

        receiver = await stack.enter_async_context(WebhookReceiver(start))
        text = fleet(receiver.url, {"a": a, "listener": listener}, awake=())
        run = await stack.enter_async_context(steered(tmp_path / "fleet.yaml", text))
        async with asyncio.timeout(60):
            while True:
                explained = await documents(http, run, "/api/v1/explain?service=chat&from=north")
                if any("asleep" in each["reason"] for each in explained["excluded"]):
                    break
                await asyncio.sleep(0.05)
            assert [] == receiver.calls
            while await ask(http, listener) != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (call,) = receiver.calls
        assert ["chat"] == call.document["unserved"]
        metrics = await documents(http, run, "/metrics")
        assert 'cats_wake_calls_total{outcome="accepted"} 1.0' in metrics


async def test_a_full_instance_gets_help_while_it_goes_on_serving(tmp_path: Path) -> None:
    """The start pays; requests go where they can be served until it has come; one is enough."""
    a, b, c, listener = free_ports(4)
    ports = {"a": a, "b": b, "c": c, "listener": listener}
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        served: list[str] = []

        async def start(name: str) -> None:
            served.append(name)
            own = InstanceSettings(curve=SLOW.curve, port=ports[name])
            await stack.enter_async_context(EmulatedInstance(own))

        await stack.enter_async_context(
            EmulatedInstance(InstanceSettings(curve=SLOW.curve, port=a))
        )
        receiver = await stack.enter_async_context(WebhookReceiver(start, statuses=[503]))
        text = fleet(receiver.url, ports, awake=("a",), use="30s", price="5s")
        run = await stack.enter_async_context(steered(tmp_path / "fleet.yaml", text))
        statuses: list[int] = []

        async def send() -> None:
            while True:
                statuses.append(await ask(http, listener))

        sending = [asyncio.create_task(send()) for _ in range(6)]
        try:
            await until(lambda: len(used(run)) >= 2)
            room = await documents(http, run, "/api/v1/room")
        finally:
            for each in sending:
                each.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        assert 1 == len(served)
        assert {"a", *served} == used(run)
        assert {200} == set(statuses)
        (rest,) = room["cold_starts"]
        assert rest["instance"] in {"b", "c"} - set(served)
        (group,) = room["groups"]
        assert (2, 1) == (group["replicas"]["now"], group["replicas"]["asleep"])
