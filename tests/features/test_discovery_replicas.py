"""Several replicas that see the Kubernetes API at different times serve one plan, never none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from controlplane.xds.types import ENDPOINT
from testbed.background import until
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_pod
from testbed.processes.nats_servers import running_nats
from testbed.processes.replicas import Replicas, connected, running_replicas

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}], policy: static}
discovery:
  api: {server: "SERVER"}
  rules: [{name: pods, kind: pods, site: north, model: m, port: 8000}]
steering: {period: 200ms, slow_start: 0s}
server: {bus: "BUS"}
"""

pytestmark = pytest.mark.timeout(600)


async def served(replicas: Replicas, number: int) -> set[str]:
    """Return the instances that the plan of a replica sends anything to."""
    plan = await replicas.running[number].get_json("/api/v1/plan")
    return {item["instance"] for item in plan["services"]["chat"]["from"]["north"]}


async def known(replicas: Replicas, number: int) -> set[str]:
    """Return the instances that a replica knows."""
    fleet = await replicas.running[number].get_json("/api/v1/fleet")
    return {item["name"] for item in fleet["instances"]}


async def settle(replicas: Replicas, wanted: set[str]) -> None:
    """Wait until all replicas serve *wanted*, by one plan."""
    async with asyncio.timeout(60):
        while {frozenset(wanted)} != {  # noqa: ASYNC110 -- it happens elsewhere
            frozenset(await served(replicas, number)) for number in replicas.running
        } or len(await replicas.versions()) > 1:
            await asyncio.sleep(0.05)


async def wait_until_one_knows(replicas: Replicas, wanted: set[str]) -> None:
    """Wait until some replica knows exactly *wanted*."""
    async with asyncio.timeout(60):
        while True:
            if wanted in [await known(replicas, number) for number in replicas.running]:
                return
            await asyncio.sleep(0.05)


async def test_a_replica_that_hears_late_keeps_its_plan_meanwhile(tmp_path: Path) -> None:
    """It follows no plan that names a pod it does not know, and loses no endpoint before it does.

    One that hears early does not run ahead of the leader either.
    """
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        for name in ("a", "b"):
            server.put("pods", make_pod(name, f"10.0.0.{ord(name)}"))
        text = FLEET.replace("SERVER", server.url)
        async with running_replicas(tmp_path, text, count=2, nodes=1) as (replicas, _):
            await replicas.leader()
            await settle(replicas, {"a", "b"})
            ports = [xds for xds, _ in replicas.ports]
            async with connected(4, ports, endpoints=["chat"]) as clients:
                await until(lambda: all("chat" in c.held.get(ENDPOINT, {}) for c in clients))
                server.lagging = True
                server.put("pods", make_pod("c", "10.0.0.99"))
                server.delete("pods", "a")
                await wait_until_one_knows(replicas, {"b", "c"})
                for _ in range(10):
                    for number in replicas.running:
                        assert await served(replicas, number) in ({"a", "b"}, {"b", "c"})
                    await asyncio.sleep(0.05)
                server.catch_up()
                await settle(replicas, {"b", "c"})

            assert [] == [name for client in clients for name in client.removed]
            assert {("chat",)} == {tuple(client.held[ENDPOINT]) for client in clients}


async def test_a_leader_that_hears_no_kubernetes_api_gives_the_lead_up(tmp_path: Path) -> None:
    """Only its own way there is cut, so that what the other replica discovers reaches both."""
    cut, whole = KubernetesApiServer(), KubernetesApiServer()
    async with (
        serving_kubernetes(cut),
        serving_kubernetes(whole),
        running_nats(tmp_path) as cluster,
        AsyncExitStack() as ends,
    ):
        files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
        for server, file in zip((cut, whole), files, strict=True):
            server.put("pods", make_pod("a", "10.0.0.97"))
            text = FLEET.replace("SERVER", server.url).replace("BUS", cluster.url)
            file.write_text(text, encoding="utf-8")
        replicas = Replicas(files[0], 2)
        replicas.files = files
        ends.push_async_callback(replicas.close)
        await replicas.start(0)
        assert 0 == await replicas.leader()
        await replicas.start(1)
        await settle(replicas, {"a"})
        cut.busy = True
        cut.break_connections()
        said = await replicas.running[0].wait_for_event(
            "leader hears no Kubernetes API; lease given up", within=90.0
        )
        async with asyncio.timeout(60):
            while 1 != await replicas.leader():  # noqa: ASYNC110 -- it happens elsewhere
                await asyncio.sleep(0.1)
        whole.put("pods", make_pod("b", "10.0.0.98"))
        async with asyncio.timeout(60):
            while {"a", "b"} != await served(replicas, 1):  # noqa: ASYNC110 -- elsewhere
                await asyncio.sleep(0.1)
        ready = [(await each.get("/readyz"))[0] for each in replicas.running.values()]

    assert (1, [200, 200]) == (said["replicas"], ready)
