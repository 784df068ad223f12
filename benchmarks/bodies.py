"""What reading a body's model and replacing its name cost an Envoy, as ratios to streaming it.

One Envoy before one upstream server; the same requests, one after the other, over three fleets
that differ in how the service is known: by its path, by the body's model, and by that with another
name at the instance. Counted is the processor time of the Envoy alone, so other load on the machine
changes little.
Run alone: ``python -m benchmarks.bodies``.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, main
from testbed.processes.envoy_mesh import Mesh, running_mesh

TITLE = "Bodies: processor time of an Envoy per request, by what it does to them"
SIZES = {"4 kB": (4_000, 600), "64 kB": (64_000, 300), "1 MB": (1_000_000, 40),
         "20 MB": (20_000_000, 4)}  # fmt: skip
"""Name -> bytes of the body, requests."""
KINDS = ("streamed", "model read", "name replaced")


def run_all(*, quick: bool = False) -> list[Row]:
    """Measure each size under each kind."""
    spent = {kind: asyncio.run(_measure(kind, quick=quick)) for kind in KINDS}
    rows = []
    for size in SIZES:
        base = spent["streamed"][size]
        figures = {f"{kind} us": 1e6 * spent[kind][size] for kind in KINDS}
        figures |= {f"{kind} / streamed": spent[kind][size] / base for kind in KINDS[1:]}
        rows.append(Row(size, figures))
    return rows


async def _measure(kind: str, *, quick: bool) -> dict[str, float]:
    """Return size -> seconds of processor time of a request."""
    match = {"path": "/v1/chat"} | ({} if kind == "streamed" else {"model": "asked"})
    served = "asked" if kind == "model read" else "own"
    services: list[dict[str, Any]] = [{"name": "chat", "match": [match], "models": [{"name": "m"}]}]
    models = [{"name": "m"} | ({} if kind == "streamed" else {"served_as": served})]
    async with running_mesh(
        {"a": "north"}, services=services, split={"chat": {"a": 1}}, models=models
    ) as mesh:
        return {
            size: await _cost(mesh, length, max(2, count // 10) if quick else count)
            for size, (length, count) in SIZES.items()
        }


async def _cost(mesh: Mesh, length: int, count: int) -> float:
    body = json.dumps({"messages": "x" * length, "model": "asked"}).encode()
    await _ask(mesh, body)
    before = _processor_time(mesh.envoy.pid)
    for _ in range(count):
        await _ask(mesh, body)
    return (_processor_time(mesh.envoy.pid) - before) / count


async def _ask(mesh: Mesh, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await mesh.request("/v1/chat", data=io.BytesIO(body), headers=headers)
    if answer.status != 200:
        raise RuntimeError(f"the Envoy answered {answer.status}: {answer.text}")


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(TITLE, run_all)
