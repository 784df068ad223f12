"""A bed for bad days: real control planes, a real Envoy, two instances, steady requests, a witness.

The requests count what clients lose; the witness, a stream beside Envoy's, sees whether anything
was ever taken away. Rows for docs/faults.md are written where ``CATS_FAULTS`` names a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from controlplane.config import parse_config
from controlplane.resources.bootstrap import ClientTls, build_bootstrap, build_secrets
from testbed.fakes.certificates import Authority, KeyPair
from testbed.fakes.metrics_pages import Load, serving_pages
from testbed.fakes.upstreams import Origin
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.nats_servers import NatsCluster, running_nats
from testbed.processes.ports import free_port
from testbed.processes.replicas import Client, Replicas, connected

GAP = 0.02
"""Seconds between two requests."""
PATIENCE = 60.0

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
steering: {policy: POLICY, period: 300ms, slow_start: 0s, expiry: 10s}
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
        """Wait until *condition* holds; give the seconds since *since*."""
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


@dataclass(frozen=True)
class Secured:
    """Certificates of a control plane and of the Envoy of site ``north``, of one authority."""

    authority: Authority
    tls: ClientTls
    """The Envoy's files."""
    section: str
    """What ``server`` says of them in ``fleet.yaml``, without braces."""
    _own: KeyPair
    _pair: KeyPair

    def renew(self) -> None:
        """Replace both pairs."""
        self.authority.issue(CONTROL_PLANE, over=self._own)
        self.renew_envoy()

    def renew_envoy(self, *, lasts: float = 3600.0) -> None:
        """Replace the Envoy's pair by one that ends *lasts* seconds from now, or ago if below 0."""
        self.authority.issue(ENVOY, over=self._pair, lasts=lasts)


CONTROL_PLANE, ENVOY = "127.0.0.1", "spiffe://fleet/site/north/envoy/e-1"
"""Names in certificates."""


def secured(directory: Path) -> Secured:
    """Issue certificates into *directory*, and write the files by which an Envoy finds its own."""
    authority = Authority(directory)
    own, pair = authority.issue(CONTROL_PLANE), authority.issue(ENVOY)
    tls = ClientTls(str(authority.ca), str(pair.cert), str(pair.key), secrets=str(directory))
    for file, content in build_secrets(tls).items():
        (directory / file).write_text(content, encoding="utf-8")
    section = f"tls: {{cert: {own.cert}, key: {own.key}, client_ca: {authority.ca}}}"
    return Secured(authority, tls, section, own, pair)


class Link:
    """A relay on loopback that can be cut: refuse, or go silent with its connections open."""

    def __init__(self) -> None:
        self._target = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self, target: int) -> None:
        """Listen, and relay to port *target*."""
        self._target = target
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def silence(self) -> None:
        """Let nothing through, as a router that drops packets."""
        self._flows.clear()

    def heal(self) -> None:
        """Let everything through."""
        self._flows.set()

    async def close(self) -> None:
        """End."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a connection is served by a task")
        self._tasks.add(task)
        try:
            await self._flows.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                back.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while content := await source.read(65536):
            await self._flows.wait()
            sink.write(content)
            await sink.drain()
        sink.close()


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
        sending = asyncio.create_task(requests.run())
        bed = Bed(fleet, replicas, envoy, requests, seen, origins, bootstrap, nats, loads)
        try:
            yield bed
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def _fleet_text(
    *,
    pages: tuple[int, int],
    listener: int,
    policy: str,
    origins: Mapping[str, Origin],
    server: str,
) -> str:
    """Return ``fleet.yaml`` for instances ``a`` and ``b``, whose metrics are at ports *pages*."""
    text = FLEET.replace("PAGES_OF_A", str(pages[0])).replace("PAGES", str(pages[1]))
    text = text.replace("LISTENER", str(listener)).replace("POLICY", policy)
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


HEADING = """# Faults

What was done to a running system, and what its clients noticed.
Real processes: control planes, NATS, agents, Envoy, two instances; fifty requests a second.
Lost is every request that was not answered with 200, retries by Envoy included in the answer.
Recovered is when the part that was hit did its work again; clients were served all along.
A second subscriber, but for the cut site and where certificates change, lost no resource.

Written by `make faults` from the rows of the tests, which hold `lost` to 0 at every run.

| fault | what was done | sent | lost | recovered after | test |
|---|---|---:|---:|---:|---|
"""


FAILING_HEADING = """
## One instance fails among equal ones

Equal instances of 100 ms behind one Envoy, default settings, `slo: {ttft: 200ms, latency: 500ms}`.
The fault lasts 60 s; it comes before the engine, so that the metrics are those of an idle machine.
Lost is what was not answered with 200 to its end within 30 s.
Share is the part of all attempts that reached the instance from the sixth second on.
Recovered is when its share over 5 s was nine tenths of an even one again.
Demand is what the control plane took for it, over what clients sent.

| fault | instances | requests/s | scraped | sent | lost | before | share | recovered | demand |
|---|---:|---:|---|---:|---:|---:|---:|---:|---:|
"""

CLIENT_HEADING = """
A client that asks for a model that no instance has, as often as the others ask for theirs:

| instances | requests/s | scraped | sent by others | lost | share before | meanwhile |
|---:|---:|---|---:|---:|---:|---:|
"""


def write_row(**row: object) -> None:
    """Append a row to the file that ``CATS_FAULTS`` names, if it does."""
    if name := os.environ.get("CATS_FAULTS"):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _failing_line(row: dict[str, Any]) -> str:
    recovered = row["seconds"]
    cells = [
        row["fault"], row["instances"], f"{row['rate']:.0f}", _yes(row["scraped"]), row["sent"],
        row["lost"], f"{row['before']:.0%}", f"{row['share']:.1%}",
        "never" if recovered == float("inf") else f"{recovered:.0f} s", f"{row['demand']:.1%}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def _client_line(row: dict[str, Any]) -> str:
    cells = [
        row["instances"], f"{row['rate']:.0f}", _yes(row["scraped"]), row["sent"], row["lost"],
        f"{row['before']:.1%}", f"{row['share']:.1%}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def write_table(rows: Path, table: Path) -> None:
    """Write docs/faults.md from the rows of a run."""
    every = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    failing = [row for row in every if row.get("table") == "failing"]
    clients = [row for row in every if row.get("table") == "client"]
    lines = sorted((row for row in every if "test" in row), key=lambda row: row["test"])
    table.write_text(
        HEADING
        + "".join(
            f"| {row['fault']} | {row['done']} | {row['sent']} | {row['lost']} |"
            f" {row['seconds']} s | `{row['test']}` |\n"
            for row in lines
        )
        + (FAILING_HEADING + "".join(map(_failing_line, failing)) if failing else "")
        + (CLIENT_HEADING + "".join(map(_client_line, clients)) if clients else ""),
        encoding="utf-8",
    )


if __name__ == "__main__":
    import sys

    write_table(Path(sys.argv[1]), Path(sys.argv[2]))
