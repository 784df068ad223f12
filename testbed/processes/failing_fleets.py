"""One service of equal instances behind a real Envoy and a real control plane, one of them failing.

Settings are the defaults, but for addresses and what a service must state. Clients send at a steady
rate whatever comes back; what they lose, what the failing instance still gets, and when it has its
share again are the figures of docs/faults.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

SERVICE_TIME = 0.1
SLOTS = 8
PATIENCE = 30.0
"""Seconds after which a client gives up: what it has not got by then is lost."""
WINDOW = 5.0
"""Seconds over which a share is taken."""

_FLEET = """
version: 1
sites: [{{name: north, kind: edge}}]
models: [{{name: m}}]
services:
  - {{name: chat, match: [{{path: /v1/chat/completions}}], models: [{{name: m}}],
     slo: {{ttft: 200ms, latency: 500ms}}}}
envoy: {{address: 127.0.0.1, port: {port}}}
instances:
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its client saw it."""

    sent_at: float
    """By the monotonic clock."""
    instance: str
    """That answered, as the answer says; empty if none did."""
    well: bool
    """Whether a whole answer with status 200 came in time."""
    seconds: float
    """From sending to the end."""
    why: str = ""
    """What was wrong."""


@dataclass(slots=True)
class FailingFleet:
    """Everything that runs."""

    plane: ControlPlaneProcess
    envoy: EnvoyProcess
    url: str
    instances: Mapping[str, EmulatedInstance]
    requests: list[Request] = field(default_factory=list)

    @property
    def even(self) -> float:
        """Return what is an even share."""
        return 1 / len(self.instances)

    async def send(self, rate: float, *, model: str = "m", stream: bool = False) -> None:
        """Send requests at *rate* a second until cancelled; answers under way are awaited."""
        body = {
            "model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100,
            "stream": stream,
        }  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            tasks: set[asyncio.Task[None]] = set()
            try:
                due = time.monotonic()
                for _ in itertools.count():
                    task = asyncio.create_task(self.send_one(session, body))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    due += 1 / rate
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            finally:
                await asyncio.gather(*tasks, return_exceptions=True)

    async def send_one(self, session: aiohttp.ClientSession, body: Mapping[str, object]) -> None:
        """Send one request, and remember what became of it."""
        began, instance, why = time.monotonic(), "", ""
        try:
            async with session.post(f"{self.url}/v1/chat/completions", json=body) as answer:
                instance = answer.headers.get("x-cats-instance", "")
                await answer.read()
                why = "" if answer.status == 200 else f"status {answer.status}"
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            why = repr(error)
        ended = time.monotonic()
        self.requests.append(Request(began, instance, not why, ended - began, why))

    def share(self, instance: str, since: float, until: float) -> float:
        """Return the part of good answers to what was sent between two instants."""
        names = [
            each.instance for each in self.requests if since <= each.sent_at < until and each.well
        ]
        return names.count(instance) / len(names) if names else 0.0

    async def evens_out(self, instance: str, *, within: float) -> float:
        """Wait until *instance* has an even share, give or take a tenth of it; return its share.

        It is that of the last seconds, also where it is not even after *within* seconds.
        """
        until = time.monotonic() + within
        while True:
            settled = time.monotonic() - 4 * SERVICE_TIME
            share = self.share(instance, settled - WINDOW, settled)
            if abs(share - self.even) <= 0.1 * self.even or time.monotonic() >= until:
                return share
            await asyncio.sleep(0.25)

    async def share_returns(self, instance: str, *, since: float, within: float) -> float:
        """Wait until *instance* has nine tenths of an even share; return the seconds since *since*.

        The instant is that at which the requests began that show it; infinite if it never came.
        """
        while time.monotonic() < since + within + WINDOW + 1:
            now = time.monotonic()
            settled = now - 4 * SERVICE_TIME
            if self.share(instance, settled - WINDOW, settled) >= 0.9 * self.even:
                return max(0.0, settled - WINDOW - since)
            await asyncio.sleep(0.25)
        return float("inf")


@contextlib.asynccontextmanager
async def failing_fleet(
    directory: Path, *, count: int, scraped: bool
) -> AsyncIterator[FailingFleet]:
    """Run *count* equal instances of 100 ms with 8 slots, and wait until requests flow.

    Args:
        directory: for files.
        count: instances, named a, b, c and so on.
        scraped: whether the control plane reads their metrics; otherwise it has Envoy's word only.
    """
    async with AsyncExitStack() as ends:
        instances = {
            name: await ends.enter_async_context(
                EmulatedInstance(
                    InstanceSettings(
                        model="m",
                        serves=("m",),
                        curve=Curve(base=SERVICE_TIME, crowding=0.002, slots=SLOTS),
                    )
                )
            )
            for name in "abcdefgh"[:count]
        }
        port = free_port()
        text = _FLEET.format(port=port)
        for name, each in instances.items():
            text += f'  - {{name: {name}, site: north, address: "{each.address}", model: m'
            if scraped:
                text += f', engine: vllm, scrape: {{url: "http://{each.address}/metrics"}}'
            text += "}\n"
        fleet = directory / "fleet.yaml"
        fleet.write_text(text, encoding="utf-8")
        plane = await ends.enter_async_context(ControlPlaneProcess(fleet))
        await plane.wait_ready(within=120.0)
        envoy = await ends.enter_async_context(await EnvoyProcess.start(plane.bootstrap()))
        bed = FailingFleet(plane, envoy, f"http://127.0.0.1:{port}", instances)
        async with asyncio.timeout(120.0), aiohttp.ClientSession() as session:
            while not bed.requests or not bed.requests[-1].well:
                await bed.send_one(session, {"model": "m", "messages": [{"role": "user"}]})
                await asyncio.sleep(0.1)
        yield bed
