"""A bed for bad days: real control planes, a real Envoy, two instances, steady requests, a witness.

The requests count what clients lose; the witness, a stream beside Envoy, sees whether anything
was ever taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from controlplane.config import parse_config
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.resources.file_secrets import ClientTls
from testbed.background import running_task
from testbed.fakes.links import Link
from testbed.fakes.metrics_pages import Load, serving_pages
from testbed.fakes.upstreams import Origin
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.nats_servers import NatsCluster, running_nats
from testbed.processes.ports import free_port
from testbed.processes.replicas import Client, Replicas, connected
from testbed.tools.faults import write_row

GAP = 0.02
"""Seconds between two requests."""
PATIENCE = 180.0
"""Seconds that a wait may take; thousands of connects beside other load take more than a minute."""

FLEET = """
version: 1
sites:
  - {name: north, kind: edge}
  - {name: cloud, kind: cloud}
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}
instances:
  - {name: a, site: north, address: "A", model: m, engine: vllm,
     scrape: {url: "http://127.0.0.1:PAGES_OF_A/a/metrics", period: 500ms, timeout: 500ms}}
  - {name: b, site: cloud, address: "B", model: m, engine: vllm,
     scrape: {url: "http://127.0.0.1:PAGES/b/metrics", period: 500ms, timeout: 500ms}}
network: {paths: [{from: north, to: cloud, rtt: 20ms}]}
steering: {policy: POLICY, period: 300ms, slow_start: 0s, expiry: EXPIRY}
envoy: {address: 127.0.0.1, port: LISTENER}
server: {SERVER}
"""


@dataclass
class Requests:
    """Requests at a steady pace through one or more Envoys; the next is tried where one is gone."""

    urls: list[str]
    sent: int = 0
    lost: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Send until cancelled."""
        timeout = aiohttp.ClientTimeout(total=10.0)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            while True:
                group.create_task(self._one(http))
                await asyncio.sleep(GAP)

    async def _one(self, http: aiohttp.ClientSession) -> None:
        self.sent += 1
        why = ""
        for url in self.urls:
            try:
                async with http.post(f"{url}/v1/chat/completions", data=b"{}") as answer:
                    await answer.read()
                    if answer.status == 200:
                        return
                    why = f"status {answer.status}"
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                why = repr(error)
        self.lost.append(why)


@dataclass
class Bed:
    """Everything that runs."""

    fleet: Path
    replicas: Replicas
    envoy: EnvoyProcess
    requests: Requests
    witness: Client
    origins: dict[str, Origin]
    bootstrap: str
    nats: NatsCluster | None
    loads: dict[str, Load]
    """What each instance's metrics say."""

    async def connected(self) -> bool:
        """Return whether Envoy has its control plane."""
        return (await self.envoy.stats("control_plane.connected_state")).get(
            "control_plane.connected_state"
        ) == 1

    async def leaders(self) -> float:
        """Return how many replicas lead."""
        return sum([await self.replicas.metric(n, "cats_leader") for n in self.replicas.running])

    async def led(self) -> bool:
        """Return whether one replica leads."""
        return await self.leaders() == 1

    async def serves_without_a_leader(self) -> None:
        """Wait until no replica leads, and see that two seconds later all serve one plan."""

        async def leaderless() -> bool:
            return await self.leaders() == 0

        await self.recovers(leaderless, since=time.monotonic())
        await self.keep_on(2.0)
        assert len(await self.replicas.versions()) == 1

    async def recovers(self, condition: Callable[[], Awaitable[bool]], *, since: float) -> float:
        """Wait until *condition* holds; return the seconds since *since*."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    if await condition():
                        return time.monotonic() - since
                await asyncio.sleep(0.05)

    async def keep_on(self, seconds: float) -> None:
        """Let clients go on for a while: what they lose is what the test is about."""
        await asyncio.sleep(seconds)

    def reported(self, fault: str, done: str, seconds: float, test: str) -> None:
        """Hold what every fault is held to, and write its row."""
        row = {
            "fault": fault,
            "done": done,
            "sent": self.requests.sent,
            "lost": len(self.requests.lost),
            "seconds": round(seconds, 1),
            "test": test,
        }
        write_row(**row)
        assert self.requests.sent > 50
        assert self.requests.lost == []
        assert self.witness.removed == []


@contextlib.asynccontextmanager
async def fault_bed(
    directory: Path,
    *options: str,
    count: int = 1,
    nodes: int = 0,
    server: str = "",
    tls: ClientTls | None = None,
    link: Link | None = None,
    scrapes: Link | None = None,
    policy: str = "static",
    expiry: str = "10m",
    witness: bool = True,
    log: str = "",
) -> AsyncIterator[Bed]:
    """Run a bed and wait until requests flow; long, since each part waits for the one before.

    Args:
        directory: for files.
        options: of ``cats serve``.
        count: control planes.
        nodes: of NATS, for more than one of them.
        server: the section of ``fleet.yaml``, without braces.
        tls: the Envoy's files.
        link: stands between Envoy and the first control plane.
        log: file that takes the control planes' log; by default one that is read.
        scrapes: stands between the control planes and what instance ``a`` says of itself.
        policy: that decides the shares.
        expiry: until when an instance that is not read counts; long, since beside other load this
            process, which serves the pages, may not come to it for seconds.
        witness: whether to watch by a stream; it shows no certificate.
    """
    async with contextlib.AsyncExitStack() as ends:
        loads = {"a": Load(10.0, 0.1), "b": Load(10.0, 0.1)}
        pages = await ends.enter_async_context(serving_pages(loads))
        origins = {name: await ends.enter_async_context(Origin(name)) for name in loads}
        nats = (
            await ends.enter_async_context(running_nats(directory, size=nodes)) if nodes else None
        )
        section = f'bus: "{nats.url}"' if nats else server
        listener = free_port()
        pages_of_a = pages
        if scrapes is not None:
            await scrapes.open(pages)
            ends.push_async_callback(scrapes.close)
            pages_of_a = scrapes.port
        text = _fleet_text(
            pages=(pages_of_a, pages),
            listener=listener,
            policy=policy,
            expiry=expiry,
            origins=origins,
            server=section,
        )
        fleet = directory / "fleet.yaml"
        fleet.write_text(text, encoding="utf-8")
        replicas = Replicas(fleet, count, *options, log=log)
        ends.push_async_callback(replicas.close)
        await asyncio.gather(*(replicas.start(number) for number in range(count)))
        ports = [xds for xds, _ in replicas.ports]
        if link is not None:
            await link.open(ports[0])
            ends.push_async_callback(link.close)
        reached = [link.port] if link is not None else ports
        bootstrap = build_bootstrap(
            parse_config(text, file="fleet.yaml"),
            site="north",
            envoy_id="e-1",
            xds=("127.0.0.1", reached[0]),
            standby=[("127.0.0.1", port) for port in reached[1:]],
            admin_port=0,
            tls=tls,
        )
        envoy = await EnvoyProcess.start(bootstrap)
        ends.push_async_callback(envoy.stop)
        seen = Client(ports, 0, ["chat"])
        if witness:
            (seen,) = await ends.enter_async_context(connected(1, ports, endpoints=["chat"]))
        requests = Requests([f"http://127.0.0.1:{listener}"])
        async with asyncio.timeout(PATIENCE):
            while not (  # noqa: ASYNC110 -- it happens elsewhere
                await _answers(requests.urls[0]) and (not witness or len(seen.held) == 4)
            ):
                await asyncio.sleep(0.05)
        bed = Bed(fleet, replicas, envoy, requests, seen, origins, bootstrap, nats, loads)
        async with running_task(requests.run()):
            yield bed


def _fleet_text(
    *,
    pages: tuple[int, int],
    listener: int,
    policy: str,
    expiry: str,
    origins: Mapping[str, Origin],
    server: str,
) -> str:
    """Return ``fleet.yaml`` for instances ``a`` and ``b``, whose metrics are at ports *pages*."""
    text = FLEET.replace("PAGES_OF_A", str(pages[0])).replace("PAGES", str(pages[1]))
    text = text.replace("LISTENER", str(listener)).replace("POLICY", policy)
    text = text.replace("EXPIRY", expiry)
    text = text.replace('"A"', f'"{origins["a"].address}"')
    return text.replace('"B"', f'"{origins["b"].address}"').replace("SERVER", server)


async def _answers(url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/v1/chat/completions", data=b"{}") as answer,
        ):
            return answer.status == 200
    return False
