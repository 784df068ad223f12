"""Three replicas, three nodes of NATS, real processes: Envoys notice none that goes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.controller.replication import DEAF_AFTER
from controlplane.steering.stability import SETTLED
from controlplane.xds.types import ENDPOINT
from testbed.fakes.links import Link
from testbed.fakes.metrics_pages import Load, serving_pages
from testbed.processes.nats_servers import running_nats
from testbed.processes.replicas import Replicas, connected, running_replicas
from testbed.tools.plan_shares import largest_move, shares

STREAMS = int(os.environ.get("CATS_TEST_STREAMS", "60"))
"""A thousand are for a machine of one's own."""
PATIENCE = 60.0 + STREAMS / 4
"""Seconds until the streams must be settled."""

pytestmark = pytest.mark.timeout(600 + STREAMS)

LOADS = {
    "a": Load(rate=6.0, latency=0.5),
    "b": Load(rate=3.0, latency=0.9, waiting=1.0),
    "c": Load(rate=9.0, latency=1.4),
}

STEADY = "optimal, min_gain: 100%, probe_share: 0"
"""Learns and decides again each period, and would push what gains a whole cost: nothing."""

FLEET = """
version: 1
sites:
  - {name: north, kind: edge}
  - {name: cloud, kind: cloud}
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}
  - {name: sum, match: [{path: /v1/sum}], models: [{name: m}], delay: tolerant}
instances:
INSTANCES
network: {paths: [{from: north, to: cloud, rtt: 20ms}]}
steering: {policy: POLICY, period: 1s, slow_start: 0s}
server: {bus: "BUS"}
"""


def fleet(port: int, *, policy: str) -> str:
    """Write the configuration of instances whose pages *port* serves."""
    sites = {"a": "north", "b": "north", "c": "cloud"}
    lines = [
        f'  - {{name: {name}, site: {sites[name]}, address: "127.0.0.1:{9001 + number}", model: m,'
        f" engine: vllm, slots: 16,"
        f' scrape: {{url: "http://127.0.0.1:{port}/{name}/metrics", period: 1s,'
        f" timeout: 1s}}}}"
        for number, name in enumerate(LOADS)
    ]
    return FLEET.replace("INSTANCES", "\n".join(lines)).replace("POLICY", policy)


async def plan_of(replicas: Replicas, number: int) -> Any:
    """Return the plan that a replica serves."""
    return await replicas.running[number].get_json("/api/v1/plan")


@pytest.mark.parametrize(
    "policy", [pytest.param("static", id="static"), pytest.param(STEADY, id="optimal")]
)
async def test_a_rolling_restart_changes_no_version(tmp_path: Path, policy: str) -> None:
    """Every stream moves at least once, and is sent nothing, since nothing is different.

    Three replicas lead in turn, and each that comes back has only heard what the others learned.
    """
    async with serving_pages(LOADS) as port:
        text = fleet(port, policy=policy)
        async with running_replicas(tmp_path, text) as (replicas, _):
            await replicas.leader()
            await settled(replicas)
            ports = [xds for xds, _ in replicas.ports]
            async with connected(STREAMS, ports, endpoints=["chat", "sum"]) as clients:
                async with asyncio.timeout(PATIENCE):
                    while not all(  # noqa: ASYNC110 -- it happens elsewhere
                        len(client.held) == 4 and len(client.held[ENDPOINT]) == 2
                        for client in clients
                    ):
                        await asyncio.sleep(0.1)
                version = await replicas.versions()
                for number in range(3):
                    process = replicas.running.pop(number)
                    process.signal(signal.SIGTERM)
                    assert 0 == await process.ended()
                    await replicas.start(number)
                    await replicas.leader()
                assert version == await replicas.versions()
                async with asyncio.timeout(PATIENCE):
                    while await connected_envoys(replicas) < STREAMS:  # noqa: ASYNC110 -- elsewhere
                        await asyncio.sleep(0.1)
                # One more period, in which a wrong version would come.
                await settled(replicas)

            assert 1 == len(version)
            assert [] == [name for client in clients for name in client.changed]
            assert [] == [name for client in clients for name in client.resent]
            assert all(client.connects > 1 for client in clients)


@pytest.mark.parametrize("gap", [0.0, 6.0])
async def test_a_leader_that_is_killed_moves_no_weight_by_a_hundredth(
    tmp_path: Path, gap: float
) -> None:
    """Its successor has heard the same reports and goes on from the same plan.

    It waits for two rounds of pages, each of which may take a second: beside load one takes longer
    than half of it, and what is not read in its turn loses its requests, as it should. Where it
    comes late, as on a machine under load, it begins with reports as old as the gap.
    What any leader of this fleet learns from second to second is worth 1 to 2 percent; a gain that
    a leader would push at any time is not what is looked for here.
    """
    async with serving_pages(LOADS) as port:
        text = fleet(port, policy="optimal, min_gain: 10%")
        async with running_replicas(tmp_path, text) as (replicas, _):
            first = await replicas.leader()
            await settled(replicas, quiet=SETTLED + 3.0)  # what a push needs falls until then
            survivors = [number for number in range(3) if number != first]
            before = shares(await plan_of(replicas, survivors[0]))
            replicas.running.pop(first).signal(signal.SIGKILL)
            for stop in (signal.SIGSTOP, signal.SIGCONT):
                for number in survivors:
                    replicas.running[number].signal(stop)
                if stop is signal.SIGSTOP:
                    await asyncio.sleep(gap)
            second = await replicas.leader()
            leads_from = time.monotonic()
            moved = 0.0
            while time.monotonic() < leads_from + 8.0:
                for number in survivors:
                    now = shares(await plan_of(replicas, number))
                    moved = max(moved, largest_move(before, now))
                await asyncio.sleep(0.25)
            assert second != first
            assert moved < 0.011, "by more than a probe, which is a hundredth"
            await settled(replicas)


@asynccontextmanager
async def two_replicas(directory: Path, first: str, second: str) -> AsyncIterator[Replicas]:
    """Run a replica of *first*, which leads, then one of *second* on the same bus."""
    async with running_nats(directory) as cluster:
        files = [directory / "first.yaml", directory / "second.yaml"]
        for file, text in zip(files, (first, second), strict=True):
            file.write_text(text.replace("BUS", cluster.url), encoding="utf-8")
        replicas = Replicas(files[0], 2)
        replicas.files = files
        try:
            await replicas.start(0)
            assert 0 == await replicas.leader()
            yield replicas
        finally:
            await replicas.close()


async def test_a_leader_that_hears_no_instance_gives_the_lead_up(tmp_path: Path) -> None:
    """A cut between it and the instances, not between them and the other replica."""
    link = Link()
    async with serving_pages(LOADS) as port, AsyncExitStack() as ends:
        await link.open(port)
        ends.push_async_callback(link.close)
        deaf, hearing = (fleet(at, policy="optimal") for at in (link.port, port))
        async with two_replicas(tmp_path, deaf, hearing) as replicas:
            await replicas.start(1)
            await settled(replicas, quiet=1.0)
            link.silence()
            said = await replicas.running[0].wait_for_event(
                "leader hears no instance; lease given up", within=90.0
            )
            async with asyncio.timeout(60):
                while 1 != await replicas.leader():  # noqa: ASYNC110 -- it happens elsewhere
                    await asyncio.sleep(0.1)
            for number in range(2):
                await replicas.running[number].wait_for(
                    "/api/v1/fleet", lambda it: not it["frozen"], "hear through the other"
                )
            # A plan is its leader's for a moment before it is the other's.
            await settled(replicas, quiet=1.0)
            ready = [(await each.get("/readyz"))[0] for each in replicas.running.values()]

    assert 1 == said["replicas"]
    assert DEAF_AFTER <= said["seconds"]  # rounded
    assert [200, 200] == ready


async def test_a_rollout_of_another_file_ends_with_one_plan(tmp_path: Path) -> None:
    """The first replica with the new file cannot serve the leader's plan, and gets ready itself."""
    async with serving_pages(LOADS) as port:
        old = fleet(port, policy="optimal")
        new = "\n".join(line for line in old.splitlines() if "name: c," not in line)
        async with two_replicas(tmp_path, old, new) as replicas:
            await replicas.start(1)
            said = await replicas.running[1].wait_for_event("leader's plan not served")
            own = await replicas.running[1].get_json("/api/v1/plan")
            assert 0 == await replicas.leader()
            process = replicas.running.pop(0)
            process.signal(signal.SIGTERM)
            assert 0 == await process.ended()
            replicas.files[0] = replicas.files[1]
            await replicas.start(0)
            await replicas.leader()
            await settled(replicas, quiet=1.0)

    assert ["c"] == said["unknown"]
    instances = {
        item["instance"]
        for of in own["services"].values()
        for items in of["from"].values()
        for item in items
    }
    assert instances
    assert instances <= {"a", "b"}


async def connected_envoys(replicas: Replicas) -> int:
    """Return how many clients are connected to all replicas."""
    documents = [await each.get_json("/api/v1/envoys") for each in replicas.running.values()]
    return sum(len(document["envoys"]) for document in documents)


async def settled(replicas: Replicas, *, quiet: float = 8.0) -> None:
    """Wait until all serve one plan, and that for longer than it takes to learn what differs."""
    since, last = time.monotonic(), await replicas.versions()
    async with asyncio.timeout(240):
        while len(last) != 1 or time.monotonic() - since < quiet:
            await asyncio.sleep(0.25)
            now = await replicas.versions()
            if now != last:
                since, last = time.monotonic(), now
