"""Instances discovered in several Kubernetes clusters: what they cost at rest, and a reaction.

``cats serve`` in a process of its own follows API servers of this process, whose processor time is
not counted. At rest nothing is scraped and no request is sent. A reaction begins with the change
in the API and ends when a client has the endpoints without the one that went, which may have had
to overtake a decision; on the wall it is that of a machine that does nothing else, so the load and
processor time are given beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Row, Target, main, quantile
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_slice
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.replicas import Client, connected

TITLE = "Discovered instances of three clusters, under `optimal`"
CLUSTERS = 3
ENDPOINTS = 100
"""Of a slice."""
SETTLING, REST = 45.0, 120.0
"""Seconds before the fleet counts as settled, and that it is measured then."""
REACTIONS = 5
_PAUSE = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """Return the seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int, field: str) -> float:
    """Return a figure of a process's memory in MB; ``VmRSS`` now, ``VmHWM`` the most so far."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def fleet(servers: list[KubernetesApiServer]) -> str:
    """Return a configuration that follows the slices of each API server."""
    return json.dumps(
        {
            "version": 1,
            "sites": [{"name": f"s{c}", "kind": "edge"} for c in range(CLUSTERS)],
            "models": [{"name": "m"}],
            "services": [{"name": "chat", "match": [{"path": "/"}], "models": [{"name": "m"}]}],
            "discovery": {
                "clusters": [
                    {"name": f"c{c}", "api": {"server": server.url}}
                    for c, server in enumerate(servers)
                ],
                "rules": [
                    {
                        "name": f"c{c}", "cluster": f"c{c}", "kind": "endpoint_slices",
                        "site": f"s{c}", "model": "m", "instance_name": f"c{c}-{{name}}",
                    }
                    for c in range(CLUSTERS)
                ],
            },
        }
    )  # fmt: skip


def piece(cluster: int, number: int, count: int = ENDPOINTS) -> dict[str, object]:
    """Return a slice of *count* endpoints."""
    return make_slice(
        f"s{number}", {f"p{number}-{i}": f"10.{cluster}.{number}.{i + 1}" for i in range(count)}
    )


async def held(client: Client, instance: str, *, present: bool) -> None:
    """Wait until a client's endpoints have *instance*, or have it no longer."""
    async with asyncio.timeout(120):
        while (instance.encode() in client.endpoints_held.get("chat", b"")) != present:  # noqa: ASYNC110 -- elsewhere
            await asyncio.sleep(0.005)


async def measure(slices: int, *, rest: float, reactions: int) -> Row:
    """Measure with *slices* full slices in each cluster."""
    servers = [KubernetesApiServer() for _ in range(CLUSTERS)]
    async with contextlib.AsyncExitStack() as ends:
        directory = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        for cluster, server in enumerate(servers):
            await ends.enter_async_context(serving_kubernetes(server))
            for number in range(slices):
                server.put("endpointslices", piece(cluster, number))
        file = directory / "fleet.yaml"
        file.write_text(fleet(servers), encoding="utf-8")
        control = await ends.enter_async_context(ControlPlaneProcess(file))
        await control.wait_ready()
        await asyncio.sleep(SETTLING)
        before, began = cpu(control.pid), time.monotonic()
        await asyncio.sleep(rest)
        idle = (cpu(control.pid) - before) / (time.monotonic() - began)
        at_rest = memory(control.pid, "VmRSS")
        (client,) = await ends.enter_async_context(
            connected(1, [control.xds_port], endpoints=["chat"])
        )
        await held(client, "c1-p3-99", present=True)
        walls, costs = [], []
        for number in range(1, reactions + 1):
            await asyncio.sleep(_PAUSE)
            before, began = cpu(control.pid), time.monotonic()
            servers[1].put("endpointslices", piece(1, 3, ENDPOINTS - number))
            await held(client, f"c1-p3-{ENDPOINTS - number}", present=False)
            walls.append(time.monotonic() - began)
            costs.append(cpu(control.pid) - before)
        return Row(
            f"{CLUSTERS * slices * ENDPOINTS:,} endpoints",
            {
                "idle % of a core": 100 * idle,
                "memory at rest MB": at_rest,
                "memory at most MB": memory(control.pid, "VmHWM"),
                "reaction p50 s": quantile(walls, 0.5),
                "reaction max s": max(walls),
                "reaction CPU p50 s": quantile(costs, 0.5),
                "load of the machine": os.getloadavg()[0],
            },
            (
                Target("idle % of a core", 5.0),
                Target("memory at rest MB", 200.0),
                Target("reaction max s", 1.0),
            ),
        )


def run_all(*, quick: bool = False) -> list[Row]:
    """Measure with some five thousand endpoints."""
    rest, reactions = (20.0, 2) if quick else (REST, REACTIONS)
    return [asyncio.run(measure(17, rest=rest, reactions=reactions))]


if __name__ == "__main__":
    main(TITLE, run_all)
