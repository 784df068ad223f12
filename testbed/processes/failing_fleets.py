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
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from controlplane.config import parse_config
from controlplane.resources.bootstrap import build_bootstrap
from testbed.fakes.engine import Curve
from testbed.fakes.instances import EmulatedInstance, Fault, InstanceSettings
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

SERVICE_TIME = 0.1
SLOTS = 8
PATIENCE = 30.0
"""Seconds after which a client gives up: what it has not got by then is lost."""
_WINDOW = 5.0
"""Seconds over which a share is taken."""

_FLEET = """
version: 1
sites: [{{name: north, kind: edge}}]
models: [{{name: m}}]
services:
  - {{name: chat, match: [{{path: /v1/chat/completions}}], models: [{{name: m}}], slo: {slo}}}
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

    def lost(self, since: float, until: float) -> list[Request]:
        """Return the requests sent between two instants that were not answered well."""
        return [each for each in self.requests if since <= each.sent_at < until and not each.well]

    def share(self, instance: str, since: float, until: float) -> float:
        """Return the part of good answers to what was sent between two instants."""
        names = [
            each.instance for each in self.requests if since <= each.sent_at < until and each.well
        ]
        return names.count(instance) / len(names) if names else 0.0

    async def share_returns(self, instance: str, *, since: float, within: float) -> float:
        """Wait until *instance* has nine tenths of an even share; return the seconds since *since*.

        The instant is that at which the requests began that show it; infinite if it never came.
        """
        while time.monotonic() < since + within + _WINDOW + 1:
            now = time.monotonic()
            settled = now - 4 * SERVICE_TIME
            if self.share(instance, settled - _WINDOW, settled) >= 0.9 * self.even:
                return max(0.0, settled - _WINDOW - since)
            await asyncio.sleep(0.25)
        return float("inf")


@contextlib.asynccontextmanager
async def failing_fleet(
    directory: Path, *, count: int, scraped: bool, slo: str = "{ttft: 200ms, latency: 500ms}"
) -> AsyncIterator[FailingFleet]:
    """Run *count* equal instances of 100 ms with 8 slots, and wait until requests flow.

    Args:
        directory: for files.
        count: instances, named a, b, c and so on.
        scraped: whether the control plane reads their metrics; otherwise it has Envoy's word only.
        slo: of the service; its bound on the first byte follows from it.
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
        text = _FLEET.format(slo=slo, port=port)
        for name, each in instances.items():
            text += f'  - {{name: {name}, site: north, address: "{each.address}", model: m'
            if scraped:
                text += f', engine: vllm, scrape: {{url: "http://{each.address}/metrics"}}'
            text += "}\n"
        fleet = directory / "fleet.yaml"
        fleet.write_text(text, encoding="utf-8")
        plane = await ends.enter_async_context(ControlPlaneProcess(fleet))
        bootstrap = build_bootstrap(
            parse_config(text, file="fleet.yaml"),
            site="north", envoy_id="e-1", xds=("127.0.0.1", plane.xds_port), admin_port=0,
        )  # fmt: skip
        await plane.wait_ready(within=120.0)
        envoy = await ends.enter_async_context(await EnvoyProcess.start(bootstrap))
        bed = FailingFleet(plane, envoy, f"http://127.0.0.1:{port}", instances)
        async with asyncio.timeout(120.0), aiohttp.ClientSession() as session:
            while not bed.requests or not bed.requests[-1].well:
                await bed.send_one(session, {"model": "m", "messages": [{"role": "user"}]})
                await asyncio.sleep(0.1)
        yield bed


@dataclass(frozen=True, slots=True)
class Figures:
    """What a fault cost."""

    sent: int
    lost: int
    """Of those sent while it lasted."""
    lost_early: int
    """Of those, sent within its first five seconds."""
    share: float
    """Part of the attempts that reached the failing instance after its first five seconds."""
    recovered_after: float
    """Seconds after its end until it had its share again; infinite if it never had."""
    before: float
    """Its share before."""
    slowest: float
    """Seconds of the slowest good answer while it lasted."""
    demand: float
    """What the control plane took for demand while it lasted, over what clients sent."""
    reasons: Mapping[str, int]


async def measure(
    bed: FailingFleet,
    fault: Fault,
    *,
    rate: float,
    stream: bool = False,
    warm_up: float = 20.0,
    seconds: float = 60.0,
    recovery: float = 60.0,
) -> Figures:
    """Let instance ``a`` do *fault* for *seconds* while clients send, then be well again."""
    sending = asyncio.create_task(bed.send(rate, stream=stream))
    failing = bed.instances["a"]
    early = min(5.0, seconds / 2)
    try:
        await asyncio.sleep(warm_up)
        began = time.monotonic()
        before = bed.share("a", began - warm_up / 2, began - 1)
        failing.fault = fault
        await asyncio.sleep(early)
        reached, attempts = failing.requests, _attempts(bed)
        demands = await _watch_demand(bed, until=began + seconds)
        reached, attempts = failing.requests - reached, _attempts(bed) - attempts
        ended = time.monotonic()
        failing.fault = None
        recovered = await bed.share_returns("a", since=ended, within=recovery)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    during = [each for each in bed.requests if began <= each.sent_at < ended]
    lost = [each for each in during if not each.well]
    return Figures(
        sent=len(during),
        lost=len(lost),
        lost_early=sum(each.sent_at < began + early for each in lost),
        share=reached / max(attempts, 1),
        recovered_after=recovered,
        before=before,
        slowest=max((each.seconds for each in during if each.well), default=0.0),
        demand=sum(demands) / max(len(demands), 1) / (len(during) / (ended - began)),
        reasons=Counter(each.why for each in lost),
    )


async def _watch_demand(bed: FailingFleet, *, until: float) -> list[float]:
    """Return the demand that the control plane sees, a second apart, until an instant."""
    seen = []
    while time.monotonic() < until:
        fleet = await bed.plane.get_json("/api/v1/fleet")
        seen += [each["rate"]["value"] for each in fleet["demand"]]
        await asyncio.sleep(min(1.0, max(0.0, until - time.monotonic())))
    return seen


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """What a client that asks for a model that no instance has cost the others."""

    sent: int
    """By the others, while it asked."""
    lost: int
    before: float
    """Share of instance ``a`` before."""
    during: float


async def measure_bad_client(
    bed: FailingFleet, *, rate: float, warm_up: float = 20.0, seconds: float = 60.0
) -> ClientFigures:
    """Let a second client ask as often as the first one for a model that no instance has."""
    good = asyncio.create_task(bed.send(rate))
    other = FailingFleet(bed.plane, bed.envoy, bed.url, bed.instances)
    try:
        await asyncio.sleep(warm_up)
        began = time.monotonic()
        before = bed.share("a", began - warm_up / 2, began - 1)
        bad = asyncio.create_task(other.send(rate, model="nobody-has-it"))
        try:
            await asyncio.sleep(seconds)
        finally:
            bad.cancel()
            await asyncio.gather(bad, return_exceptions=True)
        ended = time.monotonic()
    finally:
        good.cancel()
        await asyncio.gather(good, return_exceptions=True)
    during = [each for each in bed.requests if began <= each.sent_at < ended]
    return ClientFigures(
        sent=len(during),
        lost=sum(not each.well for each in during),
        before=before,
        during=bed.share("a", began, ended),
    )


def _attempts(bed: FailingFleet) -> int:
    return sum(each.requests for each in bed.instances.values())
