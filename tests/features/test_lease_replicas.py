"""Two control planes of one cluster without a broker: a Lease says who decides."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import aiohttp
import pytest

from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_pod
from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port, free_ports
from tests.features.test_discovery import wait_for_answers, wait_for_endpoints

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /chat}], models: [{name: m}], policy: static}
discovery:
  api: {server: "API"}
  rules: [{name: pods, kind: pods, selector: app=vllm, site: north, model: m, port_name: http}]
steering: {period: 100ms, slow_start: 0s}
envoy: {address: 127.0.0.1, port: ENVOY, health_check: {interval: 100ms}}
server:
  bus: kubernetes
  replicas: {lease: fleet-a, namespace: cats, api: {server: "API"}, port: PEERS, key_file: KEY}
"""

pytestmark = pytest.mark.timeout(240)


def put(server: KubernetesApiServer, origin: Origin, name: str) -> None:
    """Let a pod be there."""
    pod = make_pod(name, "127.0.0.1", labels={"app": "vllm"}, ports={"http": origin.port})
    server.put("pods", pod)


@pytest.mark.envoy
async def test_another_replica_goes_on_when_the_leader_is_killed(tmp_path: Path) -> None:
    """An Envoy of a follower is steered by the leader's plan, and by the follower's after that."""
    server, envoy_port = KubernetesApiServer(), free_port()
    key = tmp_path / "key"
    key.write_text("0123456789abcdef\n", encoding="ascii")
    files = []
    async with (
        serving_kubernetes(server),
        Origin("a") as a,
        Origin("b") as b,
        aiohttp.ClientSession() as http,
        contextlib.AsyncExitStack() as ends,
    ):
        put(server, a, "a")
        for number, peers in enumerate(free_ports(2)):
            text = (
                FLEET.replace("API", server.url).replace("PEERS", str(peers))
                .replace("KEY", str(key)).replace("ENVOY", str(envoy_port))
            )  # fmt: skip
            files.append(tmp_path / f"fleet-{number}.yaml")
            files[-1].write_text(text, encoding="utf-8")
        leader = await ends.enter_async_context(ControlPlaneProcess(files[0]))
        await leader.wait_ready()
        await leader.wait_for_event("this replica leads")
        lease = f"{server.url}/apis/coordination.k8s.io/v1/namespaces/cats/leases/fleet-a"
        async with http.get(lease) as answer:
            assert 200 == answer.status
        follower = await ends.enter_async_context(ControlPlaneProcess(files[1]))
        await follower.wait_ready()
        envoy = await ends.enter_async_context(await EnvoyProcess.start(follower.bootstrap()))
        await wait_for_endpoints(envoy, [a], "have the leader's instance")
        versions = {(await each.get_json("/api/v1/plan"))["version"] for each in (leader, follower)}
        assert 1 == len(versions)

        leader.signal(signal.SIGKILL)
        await leader.ended()
        put(server, b, "b")
        await wait_for_endpoints(envoy, [a, b], "have what came under the next leader")
        await wait_for_answers(http, envoy_port, {"a", "b"})
        await follower.wait_for_event("this replica leads")
