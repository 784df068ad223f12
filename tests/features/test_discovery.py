"""Instances that come and go in a cluster: a real control plane, a real Envoy, a small API."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from testbed.background import until
from testbed.fakes.certificates import Authority
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_pod, make_slice
from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /chat}], models: [{name: m}], policy: static}
instances: INSTANCES
discovery:
  api: {server: "SERVER", ca: "CA", token_file: "TOKEN"}
  namespace: models
  rules:
    - {name: pods, kind: pods, selector: "app=vllm", site: north, model: m, port_name: http}
steering: {period: 100ms, slow_start: 0s}
envoy: {address: 127.0.0.1, port: PORT, health_check: {interval: 100ms}}
"""


class Cluster:
    """An API server, and pods that are plain HTTP servers on loopback."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.server = KubernetesApiServer(tokens={"first"})
        self.token = directory / "token"
        self.fleet = directory / "fleet.yaml"
        self.port = free_port()
        self.token.write_text("first")

    def tls(self) -> ssl.SSLContext:
        """Return what the server shows."""
        pair = self.authority.issue("127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        return context

    def write(self, *, instances: str = "[]", selector: str = "app=vllm") -> str:
        """Write the configuration, and give it."""
        text = FLEET.replace("app=vllm", selector)
        for word, value in {
            "INSTANCES": instances,
            "SERVER": self.server.url,
            "CA": str(self.authority.ca),
            "TOKEN": str(self.token),
            "PORT": str(self.port),
        }.items():
            text = text.replace(word, value)
        self.fleet.write_text(text, encoding="utf-8")
        return text

    def put(self, name: str, origin: Origin, **how: Any) -> None:
        """Let a pod be there."""
        labels, ports = {"app": "vllm"}, {"http": origin.port}
        self.server.put(
            "pods",
            make_pod(name, "127.0.0.1", namespace="models", labels=labels, ports=ports, **how),
        )


async def wait_for_endpoints(envoy: EnvoyProcess, wanted: Collection[Origin], why: str) -> None:
    """Wait until an Envoy has exactly the endpoints of *wanted*, all of them healthy."""
    addresses = {origin.address for origin in wanted}
    await envoy.wait_for(
        lambda clusters: (
            addresses == {each.address for each in clusters.get("chat", ()) if each.healthy}
            and len(clusters["chat"]) == len(addresses)
        ),
        why,
    )


async def wait_for_answers(http: aiohttp.ClientSession, port: int, wanted: set[str]) -> None:
    """Send requests until exactly *wanted* answer twenty of them; none may fail."""
    async with asyncio.timeout(60):
        found: set[str] = set()
        while found != wanted:
            found = set()
            for _ in range(20):
                async with http.get(f"http://127.0.0.1:{port}/chat") as answer:
                    assert 200 == answer.status
                    found.add(await answer.text())


async def metric(control: ControlPlaneProcess, name: str) -> float:
    """Return a metric of the one rule."""
    _, text = await control.get("/metrics")
    start = f'{name}{{rule="pods"}} '
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(start))


@pytest.mark.envoy
async def test_pods_that_come_get_requests_and_those_that_go_lose_them(tmp_path: Path) -> None:
    """Over TLS and a token that is rotated, through 410 Gone, and never down to nothing."""
    cluster = Cluster(tmp_path)
    server = cluster.server
    async with (
        serving_kubernetes(server, tls=cluster.tls()),
        Origin("a") as a,
        Origin("b") as b,
        Origin("c") as c,
        aiohttp.ClientSession() as http,
    ):
        cluster.write()
        async with ControlPlaneProcess(cluster.fleet) as control:
            await control.wait_for_event("first plan delayed until instances are discovered")
            assert 503 == (await control.get("/readyz"))[0]
            cluster.put("a", a)
            await control.wait_ready()
            async with await EnvoyProcess.start(control.bootstrap()) as envoy:
                await wait_for_endpoints(envoy, [a], "have the first pod")
                await wait_for_answers(http, cluster.port, {"a"})

                cluster.put("b", b)
                await wait_for_endpoints(envoy, [a, b], "have the new pod")
                await wait_for_answers(http, cluster.port, {"a", "b"})

                cluster.put("a", a, terminating=True)
                await wait_for_endpoints(envoy, [b], "lose the pod that terminates")
                await wait_for_answers(http, cluster.port, {"b"})
                server.delete("pods", "a", namespace="models")

                server.forget()
                server.break_connections()
                cluster.put("c", c)
                await control.wait_for_event("Kubernetes resource version expired; listing again")
                await wait_for_endpoints(envoy, [b, c], "have the pod of after the 410")

                cluster.token.write_text("second")
                server.tokens = {"second"}
                server.break_connections()
                cluster.put("b", b, ready=False)
                await wait_for_endpoints(envoy, [c], "follow with the new token")

                server.delete("pods", "c", namespace="models")
                reported = await control.wait_for_event(
                    "last instances of a service gone; kept until others are discovered"
                )
                assert ["c"] == reported["instances"]
                await wait_for_answers(http, cluster.port, {"c"})
                assert 1.0 == await metric(control, "cats_discovery_held_instances")

                cluster.put("a", a)
                await wait_for_endpoints(envoy, [a], "have what came after nothing")
                await wait_for_answers(http, cluster.port, {"a"})
                assert 0.0 == await metric(control, "cats_discovery_held_instances")
            control.signal(signal.SIGTERM)
            assert 0 == await control.ended()
            assert "Traceback" not in control.log()


async def test_a_lost_api_keeps_what_is_known_and_a_restart_as_well(tmp_path: Path) -> None:
    """What was found last serves while no one can be asked, with the previous versions."""
    cluster = Cluster(tmp_path)
    server = cluster.server
    state = ("--state-dir", str(tmp_path / "state"))
    async with serving_kubernetes(server, tls=cluster.tls()), Origin("a") as a:
        cluster.write()
        cluster.put("a", a)
        async with ControlPlaneProcess(cluster.fleet, *state) as control:
            await control.wait_ready()
            assert 1.0 == await metric(control, "cats_discovery_ok")
            server.denied = {"pods"}
            server.break_connections()
            reported = await control.wait_for_event("discovery failed; known instances stay in use")
            before = await control.get_json("/api/v1/plan")
            fleet = await control.get_json("/api/v1/fleet")
            assert 0.0 == await metric(control, "cats_discovery_ok")
            control.signal(signal.SIGTERM)
            await control.ended()
        async with ControlPlaneProcess(cluster.fleet, *state) as control:
            await control.wait_ready()
            await control.wait_for_event("saved plan restored")
            await control.wait_for_event("discovery failed; known instances stay in use")
            after = await control.get_json("/api/v1/plan")
            server.denied = set()
            await control.wait_for_event("discovery restored")

    assert "grant the service account get, list and watch on pods" in reported["remedy"]
    (rule,) = fleet["discovery"]
    assert (False, 1, "pods") == (rule["ok"], rule["instances"], rule["rule"])
    assert before["version"] == after["version"]


async def test_the_file_wins_over_what_is_discovered(tmp_path: Path) -> None:
    """A clash is reported by name, in log, metrics and API; the rest takes part."""
    cluster = Cluster(tmp_path)
    async with (
        serving_kubernetes(cluster.server, tls=cluster.tls()),
        Origin("a") as a,
        Origin("b") as b,
    ):
        cluster.write(instances=f'[{{name: own, site: north, address: "{a.address}", model: m}}]')
        cluster.put("a", a)
        cluster.put("b", b)
        cluster.put("own", Origin("none", port=1))
        async with ControlPlaneProcess(cluster.fleet) as control:
            await control.wait_ready()
            document = await control.wait_for(
                "/api/v1/fleet", lambda fleet: len(fleet["instances"]) == 2, "know both"
            )
            refused: dict[str, str] = {}
            async with asyncio.timeout(60):
                while len(refused) < 2:  # a thread writes the log, after the API may say the same
                    refused = {
                        line["instance"]: line["clash"]
                        for line in control.events()
                        if line["event"] == "discovered instance rejected"
                    }
                    await asyncio.sleep(0.05)
            cluster.write(instances="[]")
            await control.wait_for(
                "/api/v1/fleet",
                lambda fleet: {"a", "b", "own"} == {each["name"] for each in fleet["instances"]},
                "take what the file no longer has",
            )

    assert {"own", "b"} == {each["name"] for each in document["instances"]}
    assert {"a": "address", "own": "name"} == refused
    assert 2 == document["discovery"][0]["refused_count"]


async def test_a_mended_rule_ends_the_wait_of_a_start(tmp_path: Path) -> None:
    """What finds nothing serves nothing, until the file is fixed; then it may go as well."""
    cluster = Cluster(tmp_path)
    async with serving_kubernetes(cluster.server, tls=cluster.tls()), Origin("a") as a:
        cluster.write(selector="app=vlm")
        cluster.put("a", a)
        async with ControlPlaneProcess(cluster.fleet) as control:
            reported = await control.wait_for_event(
                "first plan delayed until instances are discovered"
            )
            ready, _ = await control.get("/readyz")
            text = cluster.write()
            await control.wait_ready()
            found = await control.get_json("/api/v1/fleet")
            head, _, tail = text.partition("discovery:")
            own = f'[{{name: own, site: north, address: "{a.address}", model: m}}]'
            head = head.replace("instances: []", f"instances: {own}")
            cluster.fleet.write_text(head + tail[tail.index("steering") :], encoding="utf-8")
            alone = await control.wait_for(
                "/api/v1/fleet",
                lambda fleet: ["own"] == [each["name"] for each in fleet["instances"]],
                "have the file's instance alone",
            )

    assert (0, 503) == (reported["instances"], ready)
    assert ["a"] == [each["name"] for each in found["instances"]]
    assert [] == alone["discovery"]


async def test_a_new_zone_is_a_site_without_an_edit(tmp_path: Path) -> None:
    """Its Envoys get a view, its instances a place; when they go, so does it."""
    cluster = Cluster(tmp_path)
    async with serving_kubernetes(cluster.server, tls=cluster.tls()):
        text = cluster.write()
        rules = text.index("    - {name: pods")
        end = text.index("steering:")
        rule = (
            "    - {name: pods, kind: endpoint_slices, model: m,"
            " site_template: {from: topology.kubernetes.io/zone, name: 'edge-{value}'}}\n"
        )
        cluster.fleet.write_text(text[:rules] + rule + text[end:], encoding="utf-8")

        def put(zone: str, ip: str) -> None:
            cluster.server.put(
                "endpointslices", make_slice(zone, {f"p-{zone}": ip}, namespace="models", zone=zone)
            )

        put("z1", "10.0.0.1")
        async with ControlPlaneProcess(cluster.fleet) as control:
            await control.wait_ready()
            put("z2", "10.0.0.2")
            plan = await control.wait_for(
                "/api/v1/plan",
                lambda plan: "edge-z2" in plan["services"]["chat"]["from"],
                "have shares for the new zone",
            )
            fleet = await control.get_json("/api/v1/fleet")
            cluster.server.delete("endpointslices", "z2", namespace="models")
            await control.wait_for(
                "/api/v1/fleet",
                lambda fleet: {"north", "edge-z1"} == {site["name"] for site in fleet["sites"]},
                "forget the zone that is gone",
            )
            assert "Traceback" not in control.log()

    assert {"p-z1", "p-z2"} == {
        each["instance"] for each in plan["services"]["chat"]["from"]["edge-z2"]
    }
    assert {"north", "edge-z1", "edge-z2"} == {site["name"] for site in fleet["sites"]}


async def test_a_rejection_is_an_event_on_its_object(tmp_path: Path) -> None:
    """Where `kubectl describe` shows it: once, and a role that lacks `create` stops nothing."""
    cluster = Cluster(tmp_path)
    server = cluster.server
    async with serving_kubernetes(server, tls=cluster.tls()), Origin("a") as a:
        text = cluster.write()
        cluster.fleet.write_text(
            text.replace(
                "namespace: models",
                "namespace: models\n  events: true\n  config_map: cats/cats-fleet",
            ),
            encoding="utf-8",
        )
        server.denied = {"events"}
        cluster.put("a", a)
        portless = make_pod("b", "127.0.0.2", namespace="models", labels={"app": "vllm"})
        portless["metadata"]["uid"] = "uid-of-b"
        server.put("pods", portless)
        async with ControlPlaneProcess(cluster.fleet) as control:
            await control.wait_ready()
            failed = await control.wait_for_event("Kubernetes Event not written")
            server.denied = set()
            server.put("pods", {**portless, "metadata": {**portless["metadata"], "name": "c"}})
            await until(lambda: server.events)
            cluster.fleet.write_text(
                cluster.fleet.read_text(encoding="utf-8").replace("kind: edge", "kind: moon"),
                encoding="utf-8",
            )
            await until(lambda: len(server.events) >= 2)
            of_file = server.events.pop()
            cluster.put("a", a, terminating=True)
            await control.wait_for_event(
                "last instances of a service gone; kept until others are discovered"
            )
            assert 1 == len(server.events)

    (event,) = server.events
    assert "grant the service account create on events in namespace models" == failed["remedy"]
    assert ("Pod", "c", "models", "uid-of-b") == tuple(
        event["involvedObject"][key] for key in ("kind", "name", "namespace", "uid")
    )
    assert ("Warning", "InstanceRejected") == (event["type"], event["reason"])
    assert "c: has no port named 'http'; it has: none" == event["message"]
    assert ("ConfigMap", "cats-fleet", "cats") == tuple(
        of_file["involvedObject"][key] for key in ("kind", "name", "namespace")
    )
    assert "FleetRejected" == of_file["reason"]
    assert "'moon'" in of_file["message"]
