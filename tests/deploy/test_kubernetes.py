"""What an operator applies: rendered by kubectl, held to the API's schemas and to our own rules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from controlplane.agent.parse import parse_agent_config
from controlplane.config import check_config
from controlplane.sources.kubernetes.access import ACCOUNT
from controlplane.sources.kubernetes.objects import (
    ENDPOINT_SLICES,
    GATEWAYS,
    HTTP_ROUTES,
    INFERENCE_POOL_IMPORTS,
    INFERENCE_POOLS,
    PODS,
)
from controlplane.sources.kubernetes.watches import watches
from deploy import render

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
VERSION = "1.37.0"


def rendered(directory: Path) -> list[dict[str, Any]]:
    """Return the objects that ``kubectl kustomize`` makes; a warning is a failure."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", directory], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def pod_specs(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the pods that *objects* make."""
    for each in objects:
        spec = each.get("spec", {})
        if "template" in spec:
            yield each["metadata"]["name"], spec["template"]["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid(overlay: str) -> None:
    """Every object, strictly: a key that the API does not know would be dropped in silence."""
    objects = rendered(KUBERNETES / "overlays" / overlay)
    for each in objects:
        kubernetes_validate.validate(each, VERSION, strict=True)

    assert objects
    places = {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"}
    # An account is where the control plane's would be, and its rights where the instances are.
    assert (2 if overlay == "cluster-access" else 1) == len(places)


def test_agents_have_a_namespace_that_admits_their_host_network() -> None:
    """No other overlay asks for what PodSecurity refuses under `restricted`."""
    (namespace,) = [
        each for each in rendered(KUBERNETES / "overlays" / "agents") if each["kind"] == "Namespace"
    ]
    on_hosts = {
        overlay
        for overlay in OVERLAYS
        for _, pod in pod_specs(rendered(KUBERNETES / "overlays" / overlay))
        if pod.get("hostNetwork")
    }

    assert {"agents"} == on_hosts
    labels = namespace["metadata"]["labels"]
    assert "privileged" == labels["pod-security.kubernetes.io/enforce"]


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if not name.endswith("-access")])
def test_a_pod_is_locked(overlay: str) -> None:
    """No root, no writable root file system, no token, no capability; memory is bounded."""
    pods = list(pod_specs(rendered(KUBERNETES / "overlays" / overlay)))
    for name, pod in pods:
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert "RuntimeDefault" == pod["securityContext"]["seccompProfile"]["type"], name
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, container["name"]
            assert context["allowPrivilegeEscalation"] is False, container["name"]
            assert ["ALL"] == context["capabilities"]["drop"], container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]

    assert pods


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_pod_mounts_is_there(overlay: str) -> None:
    """ConfigMaps by name, after kustomize has renamed them; Secrets are the operator's."""
    objects = rendered(KUBERNETES / "overlays" / overlay)
    maps = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    for _, pod in pod_specs(objects):
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        wanted = {v["configMap"]["name"] for v in volumes.values() if "configMap" in v}
        mounted = {
            mount["name"]
            for container in (*pod.get("initContainers", ()), *pod["containers"])
            for mount in container.get("volumeMounts", ())
        }
        claims = {"data"}  # of the StatefulSet

        assert wanted <= maps
        assert mounted - claims == volumes.keys()


@pytest.mark.parametrize("overlay", ["single", "ha", "discovery", "lease"])
def test_its_fleet_is_valid(overlay: str) -> None:
    """As `cats check` sees it; and several replicas have a bus."""
    objects = rendered(KUBERNETES / "overlays" / overlay)
    (text,) = [
        each["data"]["fleet.yaml"] for each in objects if each["metadata"]["name"] == "cats-fleet"
    ]
    checked = check_config(text, file="fleet.yaml")
    (replicas,) = [
        each["spec"]["replicas"]
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "cats")
    ]

    assert () == checked.warnings
    assert (replicas > 1) == (checked.config.server.bus != "local")
    assert checked.config.server.tls is not None
    assert checked.config.server.tls.client_ca


def test_discovery_may_read_what_its_rules_want_and_nothing_else() -> None:
    """Verbs that read, in one namespace, for the service account whose token the pod has."""
    access = {each["kind"]: each for each in rendered(KUBERNETES / "overlays" / "discovery-access")}
    objects = rendered(KUBERNETES / "overlays" / "discovery")
    allowed = {
        (group, resource)
        for rule in access["Role"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    kinds = (
        ENDPOINT_SLICES, PODS, INFERENCE_POOLS, INFERENCE_POOL_IMPORTS, GATEWAYS, HTTP_ROUTES,
    )  # fmt: skip
    known = {(each.group, each.name) for each in kinds}
    (text,) = [
        each["data"]["fleet.yaml"] for each in objects if each["metadata"]["name"] == "cats-fleet"
    ]
    config = check_config(text, file="fleet.yaml").config
    assert config.discovery is not None
    wanted = [each for rule in config.discovery.rules for each in watches(config, rule)]
    (subject,) = access["RoleBinding"]["subjects"]
    ((_, pod),) = pod_specs(objects)
    projected = [v["projected"] for v in pod["volumes"] if "projected" in v]
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "kubernetes-api"]

    assert {"Role", "RoleBinding"} == access.keys()
    assert [["get", "list", "watch"]] * 5 == [rule["verbs"] for rule in access["Role"]["rules"]]
    assert known == allowed
    assert {(each.resource.group, each.resource.name) for each in wanted} <= allowed
    assert {access["Role"]["metadata"]["namespace"]} == {each.namespace for each in wanted}
    assert ("cats", "cats") == (subject["name"], subject["namespace"])
    assert "cats" == pod["serviceAccountName"]
    assert str(ACCOUNT) == mount["mountPath"]
    assert 1 == len(projected)
    assert [6443] == [
        port["port"]
        for each in objects
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"]["egress"]
        for port in rule["ports"]
        if port["port"] == 6443
    ]


def test_an_edge_clusters_account_may_read_instances_and_nothing_else() -> None:
    """It has a token that lasts, no pod gets it, and its rights are those of discovery."""
    made = {each["kind"]: each for each in rendered(KUBERNETES / "overlays" / "cluster-access")}
    access = {each["kind"]: each for each in rendered(KUBERNETES / "overlays" / "discovery-access")}
    account = made["ServiceAccount"]["metadata"]

    assert {"Namespace", "ServiceAccount", "Secret", "Role", "RoleBinding"} == made.keys()
    assert [access[kind] for kind in ("Role", "RoleBinding")] == [
        made[kind] for kind in ("Role", "RoleBinding")
    ]
    (subject,) = made["RoleBinding"]["subjects"]
    assert (account["name"], account["namespace"]) == (subject["name"], subject["namespace"])
    assert made["ServiceAccount"]["automountServiceAccountToken"] is False
    assert "kubernetes.io/service-account-token" == made["Secret"]["type"]
    assert {"kubernetes.io/service-account.name": account["name"]} == made["Secret"]["metadata"][
        "annotations"
    ]


def test_the_agents_configuration_is_valid() -> None:
    """After the init container has filled in its place."""
    text = (KUBERNETES / "components" / "agent" / "settings.yaml").read_text(encoding="utf-8")
    config = parse_agent_config(
        text.replace("NODE", "node-1").replace("SITE", "edge-north"), file="agent.yaml"
    )

    assert ("node-1", "edge-north") == (config.id, config.site)


def test_the_sidecar_is_native_and_starts_first() -> None:
    """An init container that is restarted always: up before the application, down after it."""
    objects = rendered(KUBERNETES / "overlays" / "sidecar")
    ((_, pod),) = pod_specs(objects)
    (envoy,) = pod["initContainers"]

    assert ("envoy", "Always") == (envoy["name"], envoy["restartPolicy"])
    assert ["assistant"] == [container["name"] for container in pod["containers"]]


def test_monitoring_asks_for_metrics_that_there_are(tmp_path: Path) -> None:
    """The component joins an overlay, and its dashboard names no metric of yesterday."""
    monitored = tmp_path / "monitored"
    monitored.mkdir()
    relative = Path("/".join([".."] * len(monitored.resolve().parts[1:]))) / str(KUBERNETES)[1:]
    (monitored / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [str(relative / "overlays" / "single")],
                "components": [str(relative / "components" / "monitoring")],
            }
        ),
        encoding="utf-8",
    )
    kinds = {each["kind"] for each in rendered(monitored)}
    board = (KUBERNETES / "components" / "monitoring" / "dashboard.json").read_text("utf-8")
    known = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    named = {
        name
        for panel in json.loads(board)["panels"]
        for target in panel["targets"]
        for name in re.findall(r"cats_\w+", target["expr"])
    }

    assert "ServiceMonitor" in kinds
    assert named
    assert [] == sorted(name for name in named if f"`{name.removesuffix('_bucket')}`" not in known)


def test_the_bootstraps_are_what_their_fleet_gives() -> None:
    """`python -m deploy.render` was run."""
    assert 0 == render.main(["--check"])


@pytest.mark.parametrize("component", ["gateway", "sidecar"])
def test_an_envoys_heap_fits_its_container(component: str) -> None:
    """Three quarters of the limit at most: Envoy sheds load before the kernel kills it."""
    folder = KUBERNETES / "components" / component
    heap = re.search(r"max_heap_size_bytes: (\d+)", (folder / "envoy.yaml").read_text())
    limit = re.search(r"limits: \{memory: (\d+)Mi\}", (folder / f"{component}.yaml").read_text())
    assert heap
    assert limit
    assert int(heap[1]) <= 0.75 * int(limit[1]) * 2**20
