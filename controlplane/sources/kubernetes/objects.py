"""What the Kubernetes API answers, read into values that keep only what a rule asks for.

Pods and nodes are of the core API, EndpointSlices of discovery.k8s.io/v1; those of the Gateway API
are in `gateway_api`.
JSON in, values out; what they become is `mapping`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.sources.kubernetes.documents import (
    Meta,
    condition_of,
    dns_name_of,
    first_of,
    ip_of,
    is_deleted,
    is_port,
    mapping_of,
    mappings_of,
    meta_of,
    owner_of,
    text_of,
)
from controlplane.sources.kubernetes.gateway_api import (
    GROUP,
    MAX_PORTS,
    Gateway,
    InferencePool,
    parse_gateway,
    parse_inference_pool,
    parse_inference_pool_import,
)
from controlplane.sources.kubernetes.http_routes import HttpRoute, parse_http_route

MAX_ENDPOINTS = 1000
"""Endpoints of one slice, which the API bounds as well."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod."""

    meta: Meta
    ip: str = ""
    node: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Name -> number of the containers' TCP ports; an unnamed one by its number."""
    sidecar_ports: Mapping[str, int] = field(default_factory=dict)
    """The same of its native sidecars: init containers that are restarted always."""
    ready: bool = False
    """Whether it may be sent requests: running, ready, and not being deleted."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind a Service."""

    name: str
    """Of its pod; empty if it has none."""
    ip: str
    node: str = ""
    zone: str = ""
    ready: bool = True
    host: str = ""
    """DNS name, of an endpoint in a slice of the family ``FQDN``."""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A subset of a Service's endpoints."""

    meta: Meta
    family: str
    """``IPv4``, ``IPv6`` or ``FQDN``."""
    endpoints: tuple[Endpoint, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    service: Meta | None = None
    """The Service that owns it, by name and uid."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node, for its labels."""

    meta: Meta


KubernetesObject = Pod | EndpointSlice | Node | Gateway | HttpRoute | InferencePool


def parse_pod(document: Any) -> Pod:
    """Read a pod.

    Raises:
        ReportError: it is none.
    """
    meta = meta_of(document)
    spec, status = mapping_of(document, "spec"), mapping_of(document, "status")
    # KEP-753: such an init container starts before the others and runs beside them.
    sidecars = [
        item
        for item in mappings_of(spec, "initContainers")
        if item.get("restartPolicy") == "Always"
    ]
    return Pod(
        meta,
        ip=ip_of(text_of(status, "podIP")),
        node=text_of(spec, "nodeName"),
        ports=_container_ports(mappings_of(spec, "containers")),
        sidecar_ports=_container_ports(sidecars),
        ready=not is_deleted(document)
        and text_of(status, "phase") == "Running"
        and condition_of(status, "Ready") == "True",
    )


def parse_endpoint_slice(document: Any) -> EndpointSlice:
    """Read an EndpointSlice.

    Raises:
        ReportError: it is none.
    """
    endpoints = []
    family = text_of(document, "addressType")
    for item in mappings_of(document, "endpoints")[:MAX_ENDPOINTS]:
        # All addresses of an endpoint are alike, and consumers use the first one.
        addresses = item.get("addresses")
        first = addresses[0] if isinstance(addresses, list) and addresses else ""
        address = first[:253] if isinstance(first, str) else ""
        conditions, target = mapping_of(item, "conditions"), mapping_of(item, "targetRef")
        endpoints.append(
            Endpoint(
                name=text_of(target, "name") if text_of(target, "kind") == "Pod" else "",
                ip=ip_of(address),
                host=dns_name_of(address) if family == "FQDN" else "",
                node=text_of(item, "nodeName"),
                zone=text_of(item, "zone"),
                # An unknown state is to be taken as ready, by the API's own words.
                ready=conditions.get("ready") is not False
                and conditions.get("terminating") is not True,
            )
        )
    ports: dict[str, int] = {}
    for port in mappings_of(document, "ports"):
        number = port.get("port")
        if is_port(number) and (port.get("protocol") or "TCP") == "TCP":
            ports.setdefault(text_of(port, "name") or str(number), number)
    meta = meta_of(document)
    return EndpointSlice(
        meta,
        family=family,
        endpoints=() if is_deleted(document) else tuple(endpoints),
        service=owner_of(document, "Service", meta.namespace),
        ports=first_of(ports, MAX_PORTS),
    )


def parse_node(document: Any) -> Node:
    """Read a node.

    Raises:
        ReportError: it is none.
    """
    return Node(meta_of(document))


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects, as the API addresses it."""

    name: str
    """In paths and in roles."""
    group: str
    """API group; empty for the core API."""
    parse: Callable[[Any], KubernetesObject]
    """Raises `ReportError`."""
    version: str = "v1"

    def path(self, namespace: str) -> str:
        """Return the path of those in *namespace*; empty where they are in none."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.name}" if namespace else f"{root}/{self.name}"


PODS = Resource("pods", "", parse_pod)
NODES = Resource("nodes", "", parse_node)
EVENTS = Resource("events", "", parse_node)
"""Written only."""
LEASES = Resource("leases", "coordination.k8s.io", parse_node)
"""Read and written one by one; see `leases`."""
ENDPOINT_SLICES = Resource("endpointslices", "discovery.k8s.io", parse_endpoint_slice)
GATEWAYS = Resource("gateways", GROUP, parse_gateway)
HTTP_ROUTES = Resource("httproutes", GROUP, parse_http_route)
INFERENCE_POOLS = Resource("inferencepools", "inference.networking.k8s.io", parse_inference_pool)
INFERENCE_POOL_IMPORTS = Resource(
    "inferencepoolimports",
    "inference.networking.x-k8s.io",
    parse_inference_pool_import,
    version="v1alpha1",
)


def _container_ports(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    ports: dict[str, int] = {}
    for container in containers:
        for port in mappings_of(container, "ports"):
            number = port.get("containerPort")
            if is_port(number) and port.get("protocol", "TCP") == "TCP":
                ports.setdefault(text_of(port, "name") or str(number), number)
    return first_of(ports, MAX_PORTS)
