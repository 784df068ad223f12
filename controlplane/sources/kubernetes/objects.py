"""What the Kubernetes API answers, read into values that keep only what a rule asks for.

Pods and nodes are of the core API, EndpointSlices of discovery.k8s.io/v1, Gateways of
gateway.networking.k8s.io/v1 and InferencePools of inference.networking.k8s.io/v1.
JSON in, values out; what they become is `mapping`'s business.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from controlplane.config.addresses import is_dns_name
from controlplane.errors import ReportError

MAX_LABELS = 256
"""Labels of one object that are kept."""
MAX_ENDPOINTS = 1000
"""Endpoints of one slice, which the API bounds as well."""
MAX_PORTS = 100
MAX_TARGET_PORTS = 8
"""Of an InferencePool, which the API bounds as well."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Meta:
    """What every object has."""

    namespace: str
    """Empty for a node."""
    name: str
    labels: Labels = field(default_factory=dict)
    uid: str = ""
    """Of this object alone; another of its name has another."""

    @property
    def key(self) -> tuple[str, str]:
        """Return what is unique among objects of one kind."""
        return self.namespace, self.name


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


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Gateway with the addresses that it was given."""

    meta: Meta
    ips: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    """Name -> number of the listeners."""
    names: tuple[str, ...] = ()
    """DNS names, as load balancers of some clouds have in place of addresses."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return where it is reached: its addresses, then its names."""
        return self.ips + self.names


@dataclass(frozen=True, slots=True)
class InferencePool:
    """A pool of engines behind an endpoint picker."""

    meta: Meta
    picker: str = ""
    """Name of the endpoint picker's Service."""
    gateways: tuple[tuple[str, str], ...] = ()
    """(namespace, name) of the Gateways that accepted it."""
    selector: Labels = field(default_factory=dict)
    """Labels that its pods have; none select nothing."""
    target_ports: tuple[int, ...] = ()
    """Ports of each pod that serve, in the pool's order; up to eight."""
    ready: bool = True
    """False once it is being deleted."""
    imported: bool = False
    """Whether it is an InferencePoolImport."""

    def selects(self, labels: Labels) -> bool:
        """Report whether a pod with *labels* is a member."""
        return bool(self.selector) and self.selector.items() <= labels.items()


KubernetesObject = Pod | EndpointSlice | Node | Gateway | InferencePool


def parse_pod(document: Any) -> Pod:
    """Read a pod.

    Raises:
        ReportError: it is none.
    """
    meta = _meta(document)
    spec, status = _map(document, "spec"), _map(document, "status")
    # KEP-753: such an init container starts before the others and runs beside them.
    sidecars = [
        item for item in _maps(spec, "initContainers") if item.get("restartPolicy") == "Always"
    ]
    return Pod(
        meta,
        ip=_ip(_text(status, "podIP")),
        node=_text(spec, "nodeName"),
        ports=_container_ports(_maps(spec, "containers")),
        sidecar_ports=_container_ports(sidecars),
        ready=not _is_deleted(document)
        and _text(status, "phase") == "Running"
        and _condition(status, "Ready") == "True",
    )


def parse_endpoint_slice(document: Any) -> EndpointSlice:
    """Read an EndpointSlice.

    Raises:
        ReportError: it is none.
    """
    endpoints = []
    family = _text(document, "addressType")
    for item in _maps(document, "endpoints")[:MAX_ENDPOINTS]:
        # All addresses of an endpoint are alike, and consumers use the first one.
        addresses = item.get("addresses")
        first = addresses[0] if isinstance(addresses, list) and addresses else ""
        address = first[:253] if isinstance(first, str) else ""
        conditions, target = _map(item, "conditions"), _map(item, "targetRef")
        endpoints.append(
            Endpoint(
                name=_text(target, "name") if _text(target, "kind") == "Pod" else "",
                ip=_ip(address),
                host=_dns_name(address) if family == "FQDN" else "",
                node=_text(item, "nodeName"),
                zone=_text(item, "zone"),
                # An unknown state is to be taken as ready, by the API's own words.
                ready=conditions.get("ready") is not False
                and conditions.get("terminating") is not True,
            )
        )
    ports: dict[str, int] = {}
    for port in _maps(document, "ports"):
        number = port.get("port")
        if _is_port(number) and (port.get("protocol") or "TCP") == "TCP":
            ports.setdefault(_text(port, "name") or str(number), number)
    meta = _meta(document)
    return EndpointSlice(
        meta,
        family=family,
        endpoints=() if _is_deleted(document) else tuple(endpoints),
        service=_owner(document, "Service", meta.namespace),
        ports=_first(ports, MAX_PORTS),
    )


def parse_node(document: Any) -> Node:
    """Read a node.

    Raises:
        ReportError: it is none.
    """
    return Node(_meta(document))


def parse_gateway(document: Any) -> Gateway:
    """Read a Gateway.

    Raises:
        ReportError: it is none.
    """
    addresses = _maps(_map(document, "status"), "addresses")
    ips = [
        ip
        for item in addresses
        if (item.get("type") or "IPAddress") == "IPAddress" and (ip := _ip(_text(item, "value")))
    ]
    names = [
        name
        for item in addresses
        if item.get("type") == "Hostname" and (name := _dns_name(_text(item, "value")))
    ]
    ports = {
        _text(item, "name") or str(item["port"]): item["port"]
        for item in _maps(_map(document, "spec"), "listeners")
        if _is_port(item.get("port"))
    }
    return Gateway(
        _meta(document), ips=tuple(ips), ports=_first(ports, MAX_PORTS), names=tuple(names)
    )


def parse_inference_pool(document: Any) -> InferencePool:
    """Read an InferencePool.

    Raises:
        ReportError: it is none.
    """
    meta = _meta(document)
    spec = _map(document, "spec")
    picker = _map(spec, "endpointPickerRef")
    numbers = [port.get("number") for port in _maps(spec, "targetPorts")[:MAX_TARGET_PORTS]]
    return InferencePool(
        meta,
        selector={
            key: value
            for key, value in _map(_map(spec, "selector"), "matchLabels").items()
            if isinstance(key, str) and isinstance(value, str)
        },
        target_ports=tuple(dict.fromkeys(number for number in numbers if _is_port(number))),
        picker=_service(picker),
        gateways=_accepted(_maps(_map(document, "status"), "parents"), meta.namespace),
        ready=not _is_deleted(document),
    )


def parse_inference_pool_import(document: Any) -> InferencePool:
    """Read an InferencePoolImport: a pool of another cluster of the set, behind Gateways of this.

    Its members are not there, and each controller that imports it says in the status which
    Gateways lead to it.

    Raises:
        ReportError: it is none.
    """
    meta = _meta(document)
    parents = [
        parent
        for controller in _maps(_map(document, "status"), "controllers")
        for parent in _maps(controller, "parents")
    ]
    return InferencePool(
        meta,
        gateways=_accepted(parents, meta.namespace),
        ready=not _is_deleted(document),
        imported=True,
    )


def _accepted(parents: Sequence[Mapping[str, Any]], namespace: str) -> tuple[tuple[str, str], ...]:
    """Return (namespace, name) of the Gateways among *parents* that accepted the object."""
    gateways = set()
    for parent in parents:
        reference = _map(parent, "parentRef")
        if (
            (_text(reference, "kind") or "Gateway") == "Gateway"
            and _text(reference, "name")
            and _condition(parent, "Accepted") == "True"
        ):
            gateways.add((_text(reference, "namespace") or namespace, _text(reference, "name")))
    return tuple(sorted(gateways))


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
GATEWAYS = Resource("gateways", "gateway.networking.k8s.io", parse_gateway)
INFERENCE_POOLS = Resource("inferencepools", "inference.networking.k8s.io", parse_inference_pool)
INFERENCE_POOL_IMPORTS = Resource(
    "inferencepoolimports",
    "inference.networking.x-k8s.io",
    parse_inference_pool_import,
    version="v1alpha1",
)


def _meta(document: Any) -> Meta:
    meta = _map(document, "metadata")
    name = _text(meta, "name")
    if not name:
        raise ReportError("an object without a name")
    labels = {
        key: value
        for key, value in _map(meta, "labels").items()
        if isinstance(key, str) and isinstance(value, str)
    }
    return Meta(
        namespace=_text(meta, "namespace"),
        name=name,
        labels=_first(labels, MAX_LABELS),
        uid=_text(meta, "uid"),
    )


def _owner(document: Any, kind: str, namespace: str) -> Meta | None:
    for owner in _maps(_map(document, "metadata"), "ownerReferences"):
        if owner.get("kind") == kind and _text(owner, "name"):
            return Meta(namespace, _text(owner, "name"), uid=_text(owner, "uid"))
    return None


def _container_ports(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    ports: dict[str, int] = {}
    for container in containers:
        for port in _maps(container, "ports"):
            number = port.get("containerPort")
            if _is_port(number) and port.get("protocol", "TCP") == "TCP":
                ports.setdefault(_text(port, "name") or str(number), number)
    return _first(ports, MAX_PORTS)


def _service(reference: Mapping[str, Any]) -> str:
    """Return the Service that a reference names; empty if none that can have a host name."""
    name = _text(reference, "name")
    is_service = (_text(reference, "kind") or "Service") == "Service"
    return name if is_service and _DNS_LABEL.fullmatch(name) else ""


def _map(document: Any, key: str) -> Mapping[str, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, dict) else {}


def _maps(document: Any, key: str) -> list[Mapping[str, Any]]:
    value = document.get(key) if isinstance(document, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value[:253] if isinstance(value, str) else ""


def _first(values: Mapping[str, Any], count: int) -> dict[str, Any]:
    return dict(list(values.items())[:count])


def _dns_name(text: str) -> str:
    """Return a DNS name in its usual form; empty if it is none."""
    name = text.lower().rstrip(".")
    return name if is_dns_name(name) else ""


def _is_port(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _is_deleted(document: Any) -> bool:
    return bool(_map(document, "metadata").get("deletionTimestamp"))


def _condition(document: Any, kind: str) -> str:
    for item in _maps(document, "conditions"):
        if item.get("type") == kind:
            return _text(item, "status")
    return ""


def _ip(text: str) -> str:
    """Return an address that can be connected to, in its usual form; empty if it is none."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if ip.is_unspecified or ip.is_multicast or "%" in text:
        return ""
    return str(ip)
