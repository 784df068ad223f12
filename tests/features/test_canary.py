"""A policy on trial: one client site's real Envoy follows it, the other one's does not."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_ports

pytestmark = pytest.mark.envoy

FLEET = """
version: 1
sites:
  - {{name: north, kind: edge, listener: {{port: {north}}}}}
  - {{name: south, kind: edge, listener: {{port: {south}}}}}
models: [{{name: emulated}}]
services:
  - name: chat
    match: [{{path: /v1/chat/completions}}]
    models: [{{name: emulated}}]
    policy: static
    canary: {{client_site: north, policy: nearest}}
instances:
  - {{name: a, site: north, address: "{a}", model: emulated, engine: vllm,
     scrape: {{url: "http://{a}/metrics", period: 100ms}}}}
  - {{name: b, site: south, address: "{b}", model: emulated, engine: vllm,
     scrape: {{url: "http://{b}/metrics", period: 100ms}}}}
network: {{paths: [{{from: north, to: south, rtt: 20ms}}]}}
steering: {{period: 100ms}}
envoy: {{address: 127.0.0.1, load_period: 200ms}}
"""


async def ask(http: aiohttp.ClientSession, port: int, count: int = 40) -> Counter[str]:
    """Send requests one after the other; count the instances that answered."""
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    answers: Counter[str] = Counter()
    for _ in range(count):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with http.post(url, json=body) as answer:
            assert 200 == answer.status
            answers[answer.headers["x-cats-instance"]] += 1
            await answer.read()
    return answers


async def test_a_canary_steers_one_client_site_and_both_can_be_compared(tmp_path: Path) -> None:
    """North follows the trial, south the standing policy; both latencies are reported; it ends."""
    file = tmp_path / "fleet.yaml"
    ports = dict(zip(("north", "south"), free_ports(2), strict=True))
    async with AsyncExitStack() as ends:
        a, b = [
            await ends.enter_async_context(EmulatedInstance(InstanceSettings())) for _ in range(2)
        ]
        text = FLEET.format(a=a.address, b=b.address, **ports)
        file.write_text(text, encoding="utf-8")
        control = await ends.enter_async_context(ControlPlaneProcess(file))
        await control.wait_ready()
        for site in ports:
            await ends.enter_async_context(
                await EnvoyProcess.start(control.bootstrap(site=site, envoy_id=site))
            )
        http = await ends.enter_async_context(aiohttp.ClientSession())
        answers = {site: await ask(http, port) for site, port in ports.items()}
        shown = await control.wait_for(
            "/api/v1/overview",
            lambda document: all(v is not None for v in document["canaries"][0].values()),
            "say both latencies",
        )
        explained = await control.get_json("/api/v1/explain?service=chat&from=north")
        rest = await control.get_json("/api/v1/explain?service=chat&from=south")
        plan = await control.get_json("/api/v1/plan")
        _, metrics = await control.get("/metrics")

        def ended(document: Any) -> bool:
            return not document["canaries"]

        without = [line for line in text.splitlines() if "canary" not in line]
        file.write_text("\n".join(without), encoding="utf-8")
        await control.wait_for("/api/v1/plan", ended, "end the canary")

    assert Counter(a=40) == answers["north"]
    assert 20 == pytest.approx(answers["south"]["a"], abs=2)
    (canary,) = shown["canaries"]
    assert ("chat", "north", "nearest", "static") == tuple(
        canary[key] for key in ("service", "from", "policy", "standing")
    )
    # Half of what the standing policy would send crosses 20 ms.
    assert 0.01 == pytest.approx(canary["predicted_standing"] - canary["predicted"], abs=0.004)
    standing = explained["canary"]["standing"]
    assert "nearest" == explained["policy"]
    assert ("static", {"a": 0.5, "b": 0.5}) == (
        standing["policy"],
        {item["instance"]: item["share"] for item in standing["instances"]},
    )
    assert rest["canary"] is None
    assert "static" == rest["policy"]
    assert [explained["canary"]["from"]] == [item["from"] for item in plan["canaries"]]
    for part in ("canary", "rest"):
        assert f'part="{part}"' in metrics.partition("cats_canary_observed_latency_seconds{")[2]
