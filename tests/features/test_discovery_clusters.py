"""Two control planes that see two Kubernetes clusters steer across both through a real Envoy."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from testbed.fakes.certificates import Authority, server_context
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_pod
from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.nats_servers import running_nats
from testbed.processes.ports import free_port, free_ports
from testbed.processes.replicas import Replicas
from tests.features.test_discovery import wait_for_answers, wait_for_endpoints

FLEET = """
version: 1
sites: [{name: cloud, kind: cloud}, {name: edge, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /chat}], models: [{name: m}], policy: static}
discovery:
  clusters:
    - {name: cloud, kubeconfig: "KUBECONFIG"}
    - {name: edge, api: {server: "EDGE", ca: "CA", token_file: "TOKEN"}}
  rules:
    - {name: cloud, cluster: cloud, kind: pods, namespaces: [llm, llm-test], selector: app=vllm,
       site: cloud, model: m, port_name: http, instance_name: "{cluster}-{name}"}
    - {name: edge, cluster: edge, kind: pods, namespaces: ["*"], selector: app=vllm,
       site: edge, model: m, port_name: http, instance_name: "{cluster}-{name}"}
steering: {period: 100ms, slow_start: 0s}
envoy: {address: 127.0.0.1, port: ENVOY, health_check: {interval: 100ms}}
server: {bus: "BUS"}
"""

pytestmark = pytest.mark.timeout(600)


class Clusters:
    """Two API servers, each with an authority and a token of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cloud = KubernetesApiServer(tokens={"cloud-token"})
        self.edge = KubernetesApiServer(tokens={"edge-token"})
        self.authorities = {
            name: Authority(directory, name=f"{name}-ca") for name in ("cloud", "edge")
        }
        (directory / "edge-token").write_text("edge-token")

    def tls(self, name: str) -> ssl.SSLContext:
        """Return what the API server of a cluster shows."""
        return server_context(self.authorities[name].issue("127.0.0.1"))

    def put(self, server: KubernetesApiServer, origin: Origin, name: str, namespace: str) -> None:
        """Let a pod be there."""
        labels, ports = {"app": "vllm"}, {"http": origin.port}
        server.put(
            "pods", make_pod(name, "127.0.0.1", namespace=namespace, labels=labels, ports=ports)
        )

    def fleet(self, name: str, *, bus: str, envoy: int, edge: str = "") -> Path:
        """Write a configuration, and return its file."""
        kubeconfig = self.directory / "kubeconfig"
        ca = base64.b64encode(self.authorities["cloud"].ca.read_bytes()).decode()
        cluster = {"server": self.cloud.url, "certificate-authority-data": ca}
        kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                    "clusters": [{"name": "k", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": "cloud-token"}}],
                }
            ),
            encoding="utf-8",
        )
        text = FLEET
        for word, value in {
            "KUBECONFIG": str(kubeconfig),
            "EDGE": edge or self.edge.url,
            "CA": str(self.authorities["edge"].ca),
            "TOKEN": str(self.directory / "edge-token"),
            "ENVOY": str(envoy),
            "BUS": bus,
        }.items():
            text = text.replace(f'"{word}"' if word != "ENVOY" else word, f'"{value}"'
                                if word != "ENVOY" else value)  # fmt: skip
        file = self.directory / name
        file.write_text(text, encoding="utf-8")
        return file


@contextlib.asynccontextmanager
async def serving(clusters: Clusters) -> AsyncIterator[None]:
    """Serve both API servers."""
    async with (
        serving_kubernetes(clusters.cloud, tls=clusters.tls("cloud")),
        serving_kubernetes(clusters.edge, tls=clusters.tls("edge")),
    ):
        yield


async def cluster_ok(control: ControlPlaneProcess) -> dict[str, float]:
    """Return whether the API of each cluster answers, as the metrics say."""
    _, text = await control.get("/metrics")
    start = 'cats_discovery_cluster_ok{cluster="'
    return {
        line.removeprefix(start).partition('"')[0]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith(start)
    }


@pytest.mark.envoy
async def test_two_replicas_steer_across_two_clusters_with_one_of_them_away(
    tmp_path: Path,
) -> None:
    """A lost cluster keeps its instances; the other one's still come, and a new leader goes on."""
    clusters, port = Clusters(tmp_path), free_port()
    async with (
        serving(clusters),
        running_nats(tmp_path) as nats,
        Origin("a") as a,
        Origin("b") as b,
        Origin("c") as c,
        Origin("d") as d,
        Origin("e") as e,
        aiohttp.ClientSession() as http,
    ):
        clusters.put(clusters.cloud, a, "p-0", "llm")
        clusters.put(clusters.edge, b, "p-0", "factory")
        fleet = clusters.fleet("fleet.yaml", bus=nats.url, envoy=port)
        replicas = Replicas(fleet, 2)
        async with contextlib.AsyncExitStack() as ends:
            ends.push_async_callback(replicas.close)
            await replicas.start(0)
            leader = await replicas.leader()
            follower = await replicas.start(1)
            envoy = await ends.enter_async_context(
                await EnvoyProcess.start(follower.bootstrap(site="edge"))
            )
            await wait_for_endpoints(envoy, [a, b], "have an instance of each cluster")
            await wait_for_answers(http, port, {"a", "b"})

            clusters.edge.busy = True
            clusters.edge.break_connections()
            clusters.put(clusters.cloud, c, "p-1", "llm-test")
            await wait_for_endpoints(envoy, [a, b, c], "have what came in the other cluster")
            await wait_for_answers(http, port, {"a", "b", "c"})
            for control in replicas.running.values():
                lost = await control.wait_for_event("discovery failed; known instances stay in use")
                assert ("edge", "edge") == (lost["cluster"], lost["rule"])
                assert {"cloud": 1.0, "edge": 0.0} == await cluster_ok(control)

            replicas.running[leader].signal(signal.SIGKILL)
            await replicas.running.pop(leader).ended()
            clusters.put(clusters.cloud, d, "p-2", "llm")
            await wait_for_endpoints(envoy, [a, b, c, d], "go on under the other leader")

            clusters.edge.delete("pods", "p-0", namespace="factory")
            clusters.put(clusters.edge, e, "p-1", "factory")
            clusters.edge.busy = False
            await wait_for_endpoints(envoy, [a, c, d, e], "follow the cluster that is back")
            await wait_for_answers(http, port, {"a", "c", "d", "e"})
            assert {"cloud": 1.0, "edge": 1.0} == await cluster_ok(follower)


async def test_a_follower_that_sees_another_cluster_says_what_it_misses(tmp_path: Path) -> None:
    """It stays unready, and the log names the leader's instances that it does not know."""
    clusters = Clusters(tmp_path)
    elsewhere = KubernetesApiServer(tokens={"edge-token"})
    async with (
        serving(clusters),
        serving_kubernetes(elsewhere, tls=clusters.tls("edge")),
        running_nats(tmp_path) as nats,
        Origin("a") as a,
        Origin("b") as b,
    ):
        clusters.put(clusters.cloud, a, "p-0", "llm")
        clusters.put(clusters.edge, b, "p-0", "factory")
        clusters.put(elsewhere, b, "p-9", "factory")
        right = clusters.fleet("right.yaml", bus=nats.url, envoy=10000)
        wrong = clusters.fleet("wrong.yaml", bus=nats.url, envoy=10000, edge=elsewhere.url)
        ports = free_ports(4)
        async with ControlPlaneProcess(right, ports=(ports[0], ports[1])) as leader:
            await leader.wait_ready()
            async with ControlPlaneProcess(wrong, ports=(ports[2], ports[3])) as follower:
                said = await follower.wait_for_event("leader's plan not served")
                ready, _ = await follower.get("/readyz")
                plan = await leader.get_json("/api/v1/plan")

    assert (503, ["edge-p-0"]) == (ready, said["unknown"])
    assert (plan["version"], "nothing") == (said["version"], said["serving"])
    assert "same access to clusters on every replica" in said["remedy"]
