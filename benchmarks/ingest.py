"""What telemetry costs: reports taken in by one process, and the agent that sends them."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from benchmarks.figures import Row, Target, main
from benchmarks.served import Usage, usage
from controlplane.agent.link import METHOD
from controlplane.config import Config
from controlplane.fleet import FleetState
from controlplane.grpc_services.agents import AgentService, AgentSettings
from controlplane.grpc_transport.calls import Conversation
from controlplane.grpc_transport.client import dialled
from controlplane.grpc_transport.server import GrpcServer
from controlplane.runtime.log import set_up_logs
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance

TITLE = "Telemetry: reports into one process, and what an agent costs"
PER_AGENT = 10
"""Instances of one agent; each is reported once a second."""


def make_config(agents: int) -> Config:
    """Return a fleet with ten instances for each agent."""
    sites = [f"site-{number}" for number in range(max(1, agents // 10))]
    return Config.model_validate(
        {
            "version": 1,
            "sites": [{"name": name, "kind": "edge"} for name in sites],
            "models": [{"name": "m"}],
            "services": [{"name": "s", "match": [{"path": "/"}], "models": [{"name": "m"}]}],
            "instances": [
                {
                    "name": f"i-{agent}-{one}",
                    "site": sites[agent % len(sites)],
                    "address": f"10.{agent // 250}.{agent % 250}.{one + 1}:80",
                    "model": "m",
                }
                for agent in range(agents)
                for one in range(PER_AGENT)
            ],
        }
    )


def _serve(pipe: Connection, agents: int) -> None:
    set_up_logs(level="error")
    asyncio.run(_ingest(pipe, agents))


async def _ingest(pipe: Connection, agents: int) -> None:
    fleet = FleetState(make_config(agents), now=time.monotonic())
    taken = 0

    def take(report: object) -> None:
        nonlocal taken
        fleet.apply(report, now=time.monotonic())  # type: ignore[arg-type]  # any report
        taken += 1

    server = GrpcServer()
    AgentService(take, settings=AgentSettings(max_streams=2 * agents)).serve_on(server)
    pipe.send(await server.listen("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, pipe.recv):
        pipe.send((taken, usage()))
    await server.stop()


async def _agent(port: int, number: int, done: asyncio.Event) -> None:
    async with dialled(f"127.0.0.1:{port}") as connection:
        await _report(connection.call(METHOD), number, done)


async def _report(call: Conversation, number: int, done: asyncio.Event) -> None:
    await asyncio.sleep(number % 1000 / 1000)
    sequence = 0
    while not done.is_set():
        started_at = time.monotonic()
        sequence += 1
        batch = pb.ReportBatch(agent=pb.Agent(id=f"a-{number}", site="site-0"), sequence=sequence)
        batch.sent_at.GetCurrentTime()
        for one in range(PER_AGENT):
            report = batch.instances.add(instance=f"i-{number}-{one}")
            report.measured_at.CopyFrom(batch.sent_at)
            signals = report.signals
            signals["running"] = signals["kv_use"] = 0.5
            signals["waiting"] = 0
            signals["utilisation"] = 0.7
            for counter in ("completed", "latency_sum", "latency_count", "ttft_sum",
                            "ttft_count", "prompt_tokens", "output_tokens"):  # fmt: skip
                signals[counter] = 10.0 * sequence
        await call.write(batch.SerializeToString())
        await call.read()
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - started_at)))


async def measure_ingest(agents: int, seconds: float) -> Row:
    """Let *agents* report once a second for *seconds*, after a quarter of it to warm up."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve, args=(there, agents), daemon=True)
    child.start()
    loop = asyncio.get_running_loop()

    async def ask() -> tuple[int, Usage, float]:
        here.send(True)
        taken, used = await loop.run_in_executor(None, here.recv)
        return taken, used, time.monotonic()

    port = await loop.run_in_executor(None, here.recv)
    done = asyncio.Event()
    tasks = [asyncio.create_task(_agent(port, number, done)) for number in range(agents)]
    await asyncio.sleep(max(5.0, seconds / 4))
    first = await ask()
    await asyncio.sleep(seconds / 2)
    middle = await ask()
    await asyncio.sleep(seconds / 2)
    last = await ask()
    done.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    here.send(False)
    child.join(10)
    child.kill()
    elapsed = last[2] - first[2]
    rate = (last[0] - first[0]) / elapsed
    share = (last[1].cpu - first[1].cpu) / elapsed
    figures = {
        "reports/s": rate,
        "core %": 100 * share,
        "core % at 10,000/s": 100 * share * 10_000 / rate,
        "RSS MB": last[1].rss,
        "growth MB": last[1].rss - middle[1].rss,
    }
    targets = (Target("core % at 10,000/s", 60), Target("growth MB", 3))
    return Row(f"{agents} agents, {PER_AGENT} reports a second each", figures, targets)


AGENT = """\
version: 1
id: bench
site: site-0
control_planes: [{{address: "127.0.0.1:{port}"}}]
instances:
{instances}
"""


async def measure_agent(seconds: float) -> Row:
    """Run ``cats agent`` beside ten emulated engines, each scraped once a second."""
    accepted = 0

    def take(_: object) -> None:
        nonlocal accepted
        accepted += 1

    server = GrpcServer()
    AgentService(take).serve_on(server)
    port = await server.listen("127.0.0.1", 0)
    engines = [EmulatedInstance(InstanceSettings(model="m")) for _ in range(PER_AGENT)]
    for engine in engines:
        await engine.__aenter__()
    lines = "\n".join(
        f'  - {{name: i-{n}, engine: vllm, scrape: {{url: "http://{engine.address}/metrics"}}}}'
        for n, engine in enumerate(engines)
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "agent.yaml"
        file.write_text(AGENT.format(port=port, instances=lines))
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane", "agent", "-c", str(file)),
            stderr=asyncio.subprocess.DEVNULL,
        )
        process = psutil.Process(child.pid)
        await asyncio.sleep(8)
        before, began, count = process.cpu_times(), time.monotonic(), accepted
        await asyncio.sleep(seconds)
        after, elapsed = process.cpu_times(), time.monotonic() - began
        memory = process.memory_full_info()
        child.terminate()
        await child.wait()
    for engine in engines:
        await engine.__aexit__(None, None, None)
    await server.stop()
    spent = after.user + after.system - before.user - before.system
    figures = {
        "reports/s": (accepted - count) / elapsed,
        "core %": 100 * spent / elapsed,
        "RSS MB": memory.rss / 1e6,
        "own MB": memory.uss / 1e6,
    }
    targets = (Target("core %", 2), Target("RSS MB", 60))
    return Row("one agent, ten instances, 1 s", figures, targets)


def run_all(*, quick: bool = False) -> list[Row]:
    """Run both."""
    set_up_logs(level="error")
    return asyncio.run(_run(quick=quick))


async def _run(*, quick: bool) -> list[Row]:
    agents, seconds = (100, 6.0) if quick else (1000, 20.0)
    return [
        await measure_ingest(agents, seconds),
        await measure_agent(5.0 if quick else 20.0),
    ]


if __name__ == "__main__":
    main(TITLE, run_all)
