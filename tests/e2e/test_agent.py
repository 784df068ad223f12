"""A real agent beside a real control plane: what it measures arrives, and moves weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import aiohttp

from testbed.fakes.delay_proxy import relaying
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.children import Children
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.ports import free_port

FLEET = """\
version: 1
sites:
  - {{name: north, kind: edge}}
  - {{name: cloud, kind: cloud}}
models: [{{name: m}}]
services:
  - {{name: chat, match: [{{path: /v1/chat/completions}}], models: [{{name: m}}]}}
instances:
  - {{name: near, site: north, address: "127.0.0.1:{near}", model: m, engine: vllm}}
  - {{name: far, site: cloud, address: "127.0.0.1:{far}", model: m, engine: vllm}}
steering: {{period: 200ms, slow_start: 0}}
"""

AGENT = """\
version: 1
id: north-1
site: north
period: 200ms
control_planes: [{{address: "127.0.0.1:{xds}"}}]
instances:
  - {{name: near, engine: vllm,
     scrape: {{url: "http://127.0.0.1:{near}/metrics", period: 200ms, timeout: 200ms}}}}
  - {{name: far, engine: vllm,
     scrape: {{url: "http://127.0.0.1:{far}/metrics", period: 200ms, timeout: 200ms}}}}
probes:
  period: 300ms
  targets: [{{site: cloud, address: "127.0.0.1:{relay}", kind: http, path: /health}}]
api: {{address: "127.0.0.1:{api}"}}
"""


def instance(document: Any, name: str) -> Any:
    """Return one instance of a fleet's document."""
    return next(item for item in document["instances"] if item["name"] == name)


def rtt(document: Any) -> Any:
    """Return the round trip from north to cloud."""
    (path,) = [p for p in document["paths"] if (p["from"], p["to"]) == ("north", "cloud")]
    return path["rtt"]


async def test_an_agent_reports_instances_network_and_training(tmp_path: Path) -> None:
    """Engines' signals, the machine's, a measured round trip, and a job's push."""
    api = free_port()
    async with (
        EmulatedInstance(InstanceSettings(model="m")) as near,
        EmulatedInstance(InstanceSettings(model="m")) as far,
        relaying(far.port, delay=0.02) as relay,
        Children(tmp_path / "logs") as children,
        aiohttp.ClientSession() as session,
    ):
        ports = {"near": near.port, "far": far.port, "relay": relay.port, "api": api}
        fleet = tmp_path / "fleet.yaml"
        fleet.write_text(FLEET.format(**ports))
        async with ControlPlaneProcess(fleet) as plane:
            agent = tmp_path / "agent.yaml"
            agent.write_text(AGENT.format(**ports, xds=plane.xds_port))
            command = [sys.executable, "-m", "controlplane", "agent", "-c", str(agent)]
            child = await children.start("agent", command)
            await plane.wait_ready()

            first = await plane.wait_for(
                "/api/v1/fleet",
                lambda d: (
                    instance(d, "near")["phase"] == "live"
                    and "utilisation" in instance(d, "near")["signals"]
                    and rtt(d)["source"] == "agent"
                    # The first measurements are the start's on a busy machine.
                    and 0.035 < rtt(d)["value"] < 0.2
                ),
                "know what the agent reports",
                within=120,
            )
            async with session.put(
                f"http://127.0.0.1:{api}/v1/training/job-1", json={"share": 0.5, "for": 60}
            ) as answer:
                pushed = answer.status
            trained = await plane.wait_for(
                "/api/v1/fleet",
                lambda d: instance(d, "near")["signals"]["training"]["value"] == 0.5,
                "know of the training job",
            )
            async with session.get(f"http://127.0.0.1:{api}/v1/state") as answer:
                state = await answer.json()
            ended, log = child.running, child.last_lines()

    assert 204 == pushed
    assert {"agent"} == {s["source"] for s in instance(first, "near")["signals"].values()}
    assert {"running", "waiting", "kv_use", "memory", "training"} <= instance(first, "near")[
        "signals"
    ].keys()
    assert "agent" == instance(trained, "far")["signals"]["training"]["source"]
    (line,) = state["control_planes"]
    assert line["connected"]
    assert line["accepted"] > 0, log
    assert ended
