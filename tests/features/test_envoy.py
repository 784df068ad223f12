"""A real Envoy, real instances and the whole control plane, in both xDS modes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.app.serving import Running, running
from controlplane.app.settings import Settings
from controlplane.config import parse_config
from controlplane.resources.bootstrap import build_bootstrap
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_ports

pytestmark = pytest.mark.envoy

Split = Counter[tuple[int, str]]
"""(status, instance that answered) -> requests."""


def fleet(a: str, b: str, *, port: int) -> str:
    """Return two instances at two sites and one service, split 1 to 3."""
    return f"""
version: 1
sites: [{{name: north, kind: edge}}, {{name: cloud, kind: cloud}}]
models: [{{name: emulated}}]
services:
  - name: chat
    match: [{{path: /v1/chat/completions}}]
    models: [{{name: emulated}}]
    policy: static
instances:
  - {{name: a, site: north, address: "{a}", model: emulated, engine: vllm,
     scrape: {{url: "http://{a}/metrics", period: 100ms}}}}
  - {{name: b, site: cloud, address: "{b}", model: emulated, engine: vllm,
     scrape: {{url: "http://{b}/metrics", period: 100ms}}}}
steering: {{period: 100ms}}
envoy: {{address: 127.0.0.1, port: {port}, load_period: 200ms}}
overrides:
  - {{service: chat, instance: a, weight: 25}}
  - {{service: chat, instance: b, weight: 75}}
"""


async def ask(http: aiohttp.ClientSession, port: int, count: int = 40) -> Split:
    """Send requests one after the other."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    answers: Split = Counter()
    for _ in range(count):
        async with http.post(url, json=body) as answer:
            answers[answer.status, answer.headers.get("x-cats-instance", "")] += 1
            await answer.read()
    return answers


def pushes(run: Running) -> dict[str, float]:
    """Return the responses sent so far, by type, without types that had none."""
    registry = run.control.metrics.registry
    kinds = ("Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration")
    sent = {
        kind: registry.get_sample_value("cats_xds_pushes_total", {"type": kind}) for kind in kinds
    }
    return {kind: count for kind, count in sent.items() if count}


def answers_of(run: Running) -> dict[str, tuple[bool, str]]:
    """Return for each type whether the Envoy took the newest, and what it refused."""
    (record,) = run.control.registry.envoys
    return {
        type_url.rpartition(".")[2]: (kept.sent == kept.acked, kept.refused)
        for type_url, kept in record.types.items()
    }


async def connected(envoy: EnvoyProcess, *, wanted: int) -> None:
    """Wait until the Envoy has a control plane, or none."""
    await envoy.wait_for_stat("control_plane.connected_state", lambda value: value == wanted)


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
async def test_requests_follow_the_plan_through_outage_restart_and_drain(
    tmp_path: Path, *, delta: bool
) -> None:
    """The split is the plan's, outlives the control plane, and follows a changed file."""
    file = tmp_path / "fleet.yaml"
    xds_port, port = free_ports(2)
    xds = ("127.0.0.1", xds_port)
    options: dict[str, Any] = {"xds": xds, "admin": ("127.0.0.1", 0)}
    settings = Settings(file, state_dir=tmp_path / "state", settle=0.3, **options)
    async with (
        EmulatedInstance(InstanceSettings()) as a,
        EmulatedInstance(InstanceSettings()) as b,
        aiohttp.ClientSession() as http,
    ):
        text = fleet(a.address, b.address, port=port)
        file.write_text(text, encoding="utf-8")
        bootstrap = build_bootstrap(
            parse_config(text, file=str(file)),
            site="north", envoy_id="e1", xds=xds, admin_port=0, delta=delta,
        )  # fmt: skip
        async with running(settings) as first:
            envoy = await EnvoyProcess.start(bootstrap)
            steady = await ask(http, port)
            taken = answers_of(first)
        async with envoy:
            await connected(envoy, wanted=0)
            alone = await ask(http, port)
            async with running(settings) as second:
                await connected(envoy, wanted=1)
                again = await ask(http, port)
                resent = pushes(second)
                file.write_text(text.replace("weight: 25", "drain: true"), encoding="utf-8")
                await envoy.wait_for(
                    lambda clusters: len(clusters.get("chat", ())) == 1, "drop the drained instance"
                )
                after = await ask(http, port, 10)

    for split in (steady, alone, again):
        assert 40 == split[200, "a"] + split[200, "b"]
        # Exact over a whole turn of Envoy's schedule, which starts anywhere.
        assert 10 == pytest.approx(split[200, "a"], abs=2)
    assert {(200, "b"): 10} == after
    assert {"Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"} == taken.keys()
    assert {(True, "")} == set(taken.values())
    if delta:
        assert {} == resent
