"""From a telemetry report to the new weights in every real Envoy, beyond the cycle's wait.

The whole control plane runs as ``cats serve`` does, in a process of its own.
An agent's stream reports that an instance is not ready, and then that it is; each report makes an
early cycle, and each such cycle another plan for every service.
The clock starts when the cycle begins to decide and stops when an Envoy's acknowledgement has
arrived, which Envoy sends after it has taken the weights.
The first Envoy's admin port is asked at the same time, over and over, and says when the weights
could first be seen there: that bounds what the acknowledgement says from outside.
Run alone: ``python -m benchmarks.report_to_weight``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import structlog

from benchmarks.figures import Row, Target, main, quantile
from controlplane.app.serving import running
from controlplane.app.settings import Settings
from controlplane.config import parse_config
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.decider import Decision
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb
from controlplane.xds.types import ENDPOINT
from testbed.processes.children import die_with_parent
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

TITLE = "Report to weight: from the cycle's begin until real Envoys have the weights"
SERVICES, INSTANCES = 3, 10
SITE = "north"
PAUSE = 0.3
"""Seconds between two reports, so that one change is over before the next."""
PATIENCE = 10.0


def fleet(port: int) -> str:
    """Write a fleet of three services with ten instances each at two sites."""
    lines = [
        "version: 1",
        f"sites: [{{name: {SITE}, kind: edge, region: eu-north}}, {{name: cloud, kind: cloud}}]",
        f"models: [{', '.join(f'{{name: m{n}}}' for n in range(SERVICES))}]",
        "services:",
        *(
            f"  - {{name: service-{n}, match: [{{path: /s{n}}}], models: [{{name: m{n}}}]}}"
            for n in range(SERVICES)
        ),
        "instances:",
        *(
            f"  - {{name: i{n}-{each}, site: {(SITE, 'cloud')[each % 2]}, model: m{n},"
            f" address: 127.0.0.1:{30_000 + n * INSTANCES + each}, engine: vllm, slots: 32}}"
            for n in range(SERVICES)
            for each in range(INSTANCES)
        ),
        "steering: {period: 1s, slow_start: 0s}",
        f"envoy: {{address: 127.0.0.1, port: {port}, health_check: null}}",
    ]
    return "\n".join(lines)


# The control plane's process.


@dataclass(slots=True)
class _Cycles:
    """Notes when cycles begin, and what came of those that changed the endpoints."""

    control: ControlPlane
    began: float = 0.0
    solved: float = 0.0
    """Seconds that the last decision took; what builds the resources comes on top."""
    version: str = ""
    changed: asyncio.Queue[tuple[str, float]] = field(default_factory=asyncio.Queue)

    def install(self) -> None:
        run_cycle = self.control.cycle.run_once

        async def timed() -> None:
            self.began = time.monotonic()
            await run_cycle()

        decide = self.control.decider.decide

        async def weighed(*arguments: Any, **options: Any) -> Decision:
            decision = await decide(*arguments, **options)
            self.solved = decision.solve_seconds
            return decision

        # Attributes of the one object, so that the code under test stays as it is.
        self.control.cycle.run_once = timed  # type: ignore[method-assign]
        self.control.decider.decide = weighed  # type: ignore[method-assign]
        self.control.cycle.completed.subscribe(lambda _: self._note())

    def _note(self) -> None:
        snapshot = self.control.views.snapshot(SITE)
        version = snapshot.of_type(ENDPOINT).version if snapshot is not None else ""
        if version != self.version:
            self.version = version
            self.changed.put_nowait((version, self.began))

    async def sample(self, envoys: int) -> dict[str, Any]:
        """Wait for a change and for everyone's acknowledgement of it."""
        version, began = await asyncio.wait_for(self.changed.get(), PATIENCE)
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            kept = [each.types.get(ENDPOINT) for each in self.control.registry.envoys]
            if envoys == sum(each is not None and each.acked == version for each in kept):
                return {
                    "began": began,
                    "solved": self.solved,
                    "sent": [each.sent_at for each in kept if each is not None],
                    "acked": [each.acked_at for each in kept if each is not None],
                }
            await asyncio.sleep(0.02)
        return {"began": began, "solved": self.solved, "sent": [], "acked": []}

    def settle(self) -> None:
        """Forget changes so far."""
        while not self.changed.empty():
            self.changed.get_nowait()


async def _serve(file: Path) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = Settings(file, ("127.0.0.1", 0), ("127.0.0.1", 0), settle=0.0)
    async with running(settings) as run:
        cycles = _Cycles(run.control)
        cycles.install()
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print(json.dumps({"port": run.xds_port}), flush=True)
        while line := await reader.readline():
            count = int(line)
            if not count:
                cycles.settle()
            answer = await cycles.sample(count) if count else None
            print(json.dumps(answer), flush=True)


class _ControlPlane:
    """The other end of it."""

    def __init__(self, child: asyncio.subprocess.Process, port: int) -> None:
        self._child = child
        self.port = port

    async def ask(self, count: int) -> Any:
        if self._child.stdin is None or self._child.stdout is None:
            raise AssertionError("not started")
        self._child.stdin.write(b"%d\n" % count)
        return json.loads(await self._child.stdout.readline())


@asynccontextmanager
async def _control_plane(file: Path) -> AsyncIterator[_ControlPlane]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.report_to_weight", "--serve", str(file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        if child.stdout is None:
            raise AssertionError("not started")
        yield _ControlPlane(child, json.loads(await child.stdout.readline())["port"])
    finally:
        child.kill()
        await child.communicate()


# The agent and the Envoys.


class _Agent:
    """An agent's stream, which reports every instance each time."""

    def __init__(self, channel: Any) -> None:
        self._call = channel.stream_stream("/cats.telemetry.v1.Telemetry/Report")()
        self._sequence = 0

    async def report(self, *, ready: bool) -> None:
        """Say of one instance of each service whether it is ready, and of the others that."""
        self._sequence += 1
        batch = pb.ReportBatch(sequence=self._sequence)
        batch.agent.id, batch.agent.site = "bench", "cloud"
        batch.sent_at.GetCurrentTime()
        for service in range(SERVICES):
            for each in range(INSTANCES):
                report = batch.instances.add(
                    instance=f"i{service}-{each}", engine="vllm", not_ready=not (ready or each)
                )
                report.measured_at.GetCurrentTime()
                report.signals.update({"running": 4.0, "waiting": 0.0})
        await self._call.write(batch.SerializeToString())
        status = pb.ReportStatus.FromString(await self._call.read())
        if status.refused:
            raise AssertionError(f"refused: {status.refused[0]}")


class _Watch:
    """Asks an Envoy's admin port over and over; remembers when its endpoints changed."""

    def __init__(self, envoy: EnvoyProcess) -> None:
        self._host, _, port = envoy.admin_url.removeprefix("http://").partition(":")
        self._port = int(port)
        self.changes: list[float] = []

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        seen: list[bytes] = []
        try:
            while True:
                writer.write(b"GET /clusters HTTP/1.1\r\nhost: bench\r\n\r\n")
                page = await _read_body(reader)
                at = time.monotonic()
                # Clusters and hosts come in another order each time.
                reported = sorted(line for line in page.splitlines() if b"::weight::" in line)
                if reported != seen:
                    seen = reported
                    self.changes.append(at)
                await asyncio.sleep(0.001)
        finally:
            writer.close()


async def _read_body(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    if length:
        return await reader.readexactly(int(length))
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


async def measure(envoys: int, samples: int) -> Row:
    """Measure with so many Envoys."""
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cats-bench-")))
        ports = [free_port() for _ in range(envoys)]
        file = place / "fleet.yaml"
        file.write_text(fleet(ports[0]))
        server = await stack.enter_async_context(_control_plane(file))
        children = []
        for number, port in enumerate(ports):
            bootstrap = build_bootstrap(
                parse_config(fleet(port), file="fleet.yaml"),
                site=SITE,
                envoy_id=f"envoy-{number}",
                xds=("127.0.0.1", server.port),
                admin_port=0,
            )
            # All bind the listener of the one fleet: Envoy shares its port (SO_REUSEPORT).
            children.append(await stack.enter_async_context(await EnvoyProcess.start(bootstrap)))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        )
        agent = _Agent(channel)
        await agent.report(ready=True)
        watch = _Watch(children[0])
        watching = asyncio.create_task(watch.run())
        await asyncio.sleep(3.0)
        found = []
        for number in range(samples):
            await server.ask(0)
            sent_at = time.monotonic()
            await agent.report(ready=bool(number % 2))
            found.append((sent_at, await server.ask(envoys)))
            await asyncio.sleep(PAUSE)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return _row(envoys, found, watch.changes)


def _row(envoys: int, found: list[tuple[float, Any]], seen: list[float]) -> Row:
    live = [at - one["began"] for _, one in found for at in one["acked"]]
    sent = [at - one["began"] for _, one in found for at in one["sent"]]
    whole = [at - sent_at for sent_at, one in found for at in one["acked"]]
    shown = [
        next((at for at in seen if at >= one["began"]), float("nan")) - one["began"]
        for _, one in found
    ]
    complete = sum(len(one["acked"]) == envoys for _, one in found)
    targets = {
        1: (Target("live p50 ms", 10.0),),
        50: (Target("live p99 ms", 100.0),),
    }
    return Row(
        f"{envoys} Envoy{'s' if envoys > 1 else ''}",
        {
            "changes": float(len(found)),
            "complete %": 100 * complete / len(found),
            "solved p50 ms": 1000 * quantile((one["solved"] for _, one in found), 0.5),
            "decided and sent p50 ms": 1000 * quantile(sent, 0.5),
            "live p50 ms": 1000 * quantile(live, 0.5),
            "live p99 ms": 1000 * quantile(live, 0.99),
            "live max ms": 1000 * quantile(live, 1.0),
            "shown by admin p50 ms": 1000 * quantile(shown, 0.5),
            "with the wait p50 ms": 1000 * quantile(whole, 0.5),
        },
        targets.get(envoys, ()),
    )


def run_all(*, quick: bool = False) -> list[Row]:
    """Measure with 1, 10 and 50 Envoys."""
    cases = ((1, 10), (5, 10)) if quick else ((1, 60), (10, 40), (50, 30))
    return [asyncio.run(measure(envoys, samples)) for envoys, samples in cases]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(_serve(Path(sys.argv[2])))
        os._exit(0)
    main(TITLE, run_all)
