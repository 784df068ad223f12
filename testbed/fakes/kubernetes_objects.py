"""Objects of a Kubernetes cluster as its API writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.fakes.kubernetes_api import Document

# Objects as the API has them, with what a test does not care about left out.


def make_pod(
    name: str,
    ip: str,
    *,
    labels: Mapping[str, str] | None = None,
    namespace: str = "default",
    node: str = "node-1",
    ports: Mapping[str, int] | None = None,
    ready: bool = True,
    terminating: bool = False,
) -> Document:
    """Make a pod that runs."""
    meta: Document = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
    if terminating:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    listed = [{"name": key, "containerPort": port} for key, port in (ports or {}).items()]
    return {
        "metadata": meta,
        "spec": {"nodeName": node, "containers": [{"name": "engine", "ports": listed}]},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def make_slice(
    name: str,
    endpoints: Mapping[str, str],
    *,
    service: str = "vllm",
    namespace: str = "default",
    ports: Mapping[str, int] | None = None,
    zone: str = "",
    labels: Mapping[str, str] | None = None,
    family: str = "IPv4",
    conditions: Mapping[str, Mapping[str, bool]] | None = None,
) -> Document:
    """Make an EndpointSlice; *endpoints* is pod -> address."""
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service, **(labels or {})},
        },
        "addressType": family,
        "endpoints": [
            {
                "addresses": [ip],
                "targetRef": {"kind": "Pod", "name": pod},
                "nodeName": "node-1",
                "conditions": dict((conditions or {}).get(pod, {"ready": True})),
                **({"zone": zone} if zone else {}),
            }
            for pod, ip in endpoints.items()
        ],
        "ports": [{"name": key, "port": port} for key, port in (ports or {"http": 8000}).items()],
    }


def make_node(name: str, labels: Mapping[str, str]) -> Document:
    """Make a node."""
    return {"metadata": {"name": name, "labels": dict(labels)}}


def make_gateway(
    name: str,
    addresses: Mapping[str, str],
    *,
    namespace: str = "default",
    ports: Mapping[str, int] | None = None,
) -> Document:
    """Make a Gateway; *addresses* is value -> type."""
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"listeners": [{"name": k, "port": p} for k, p in (ports or {"http": 80}).items()]},
        "status": {"addresses": [{"type": k, "value": v} for v, k in addresses.items()]},
    }


def make_http_route(
    name: str,
    backends: Sequence[str],
    *,
    matches: Sequence[Mapping[str, Any]] = (),
    hostnames: Sequence[str] = (),
    replaced_prefix: str | None = None,
    namespace: str = "default",
    listener: str = "",
) -> Document:
    """Make an HTTPRoute; *backends* are ``Service/NAME`` or ``InferencePool/NAME``."""
    references = []
    for each in backends:
        kind, _, of = each.partition("/")
        group = {} if kind == "Service" else {"group": "inference.networking.k8s.io"}
        references.append({"kind": kind, "name": of, **group})
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": replaced_prefix}}
    filters = [] if replaced_prefix is None else [{"type": "URLRewrite", "urlRewrite": rewrite}]
    rule = {"matches": [dict(each) for each in matches], "backendRefs": references}
    parent = {"name": "gateway"} | ({"sectionName": listener} if listener else {})
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [parent],
            "hostnames": list(hostnames),
            "rules": [rule | ({"filters": filters} if filters else {})],
        },
    }


def make_pool(
    name: str,
    *,
    namespace: str = "default",
    accepted: bool = True,
    labels: Mapping[str, str] | None = None,
) -> Document:
    """Make an InferencePool behind an endpoint picker."""
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "targetPorts": [{"number": 8000}],
            "endpointPickerRef": {"name": f"{name}-epp", "port": {"number": 9002}},
        },
        "status": {
            "parents": [
                {
                    "parentRef": {"kind": "Gateway", "name": "gateway"},
                    "conditions": [{"type": "Accepted", "status": "True" if accepted else "False"}],
                }
            ]
        },
    }
