"""Objects of the Gateway API and of its inference extension, read into values.

Gateways are of gateway.networking.k8s.io/v1, InferencePools of inference.networking.k8s.io/v1 and
InferencePoolImports of inference.networking.x-k8s.io/v1alpha1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.sources.kubernetes.documents import (
    Labels,
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
    text_of,
)

GROUP = "gateway.networking.k8s.io"
MAX_PORTS = 100
MAX_TARGET_PORTS = 8
"""Of an InferencePool, which the API bounds as well."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


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

    @property
    def kind(self) -> str:
        """Return its kind, as HTTPRoutes name it."""
        return "InferencePoolImport" if self.imported else "InferencePool"

    def selects(self, labels: Labels) -> bool:
        """Report whether a pod with *labels* is a member."""
        return bool(self.selector) and self.selector.items() <= labels.items()


def parse_gateway(document: Any) -> Gateway:
    """Read a Gateway.

    Raises:
        ReportError: it is none.
    """
    addresses = mappings_of(mapping_of(document, "status"), "addresses")
    ips = [
        ip
        for item in addresses
        if (item.get("type") or "IPAddress") == "IPAddress"
        and (ip := ip_of(text_of(item, "value")))
    ]
    names = [
        name
        for item in addresses
        if item.get("type") == "Hostname" and (name := dns_name_of(text_of(item, "value")))
    ]
    ports = {
        text_of(item, "name") or str(item["port"]): item["port"]
        for item in mappings_of(mapping_of(document, "spec"), "listeners")
        if is_port(item.get("port"))
    }
    return Gateway(
        meta_of(document), ips=tuple(ips), ports=first_of(ports, MAX_PORTS), names=tuple(names)
    )


def parse_inference_pool(document: Any) -> InferencePool:
    """Read an InferencePool.

    Raises:
        ReportError: it is none.
    """
    meta = meta_of(document)
    spec = mapping_of(document, "spec")
    picker = mapping_of(spec, "endpointPickerRef")
    numbers = [port.get("number") for port in mappings_of(spec, "targetPorts")[:MAX_TARGET_PORTS]]
    return InferencePool(
        meta,
        selector={
            key: value
            for key, value in mapping_of(mapping_of(spec, "selector"), "matchLabels").items()
            if isinstance(key, str) and isinstance(value, str)
        },
        target_ports=tuple(dict.fromkeys(number for number in numbers if is_port(number))),
        picker=_service(picker),
        gateways=_accepted(mappings_of(mapping_of(document, "status"), "parents"), meta.namespace),
        ready=not is_deleted(document),
    )


def parse_inference_pool_import(document: Any) -> InferencePool:
    """Read an InferencePoolImport: a pool of another cluster of the set, behind Gateways of this.

    Its members are not there, and each controller that imports it says in the status which
    Gateways lead to it.

    Raises:
        ReportError: it is none.
    """
    meta = meta_of(document)
    parents = [
        parent
        for controller in mappings_of(mapping_of(document, "status"), "controllers")
        for parent in mappings_of(controller, "parents")
    ]
    return InferencePool(
        meta,
        gateways=_accepted(parents, meta.namespace),
        ready=not is_deleted(document),
        imported=True,
    )


def _accepted(parents: Sequence[Mapping[str, Any]], namespace: str) -> tuple[tuple[str, str], ...]:
    """Return (namespace, name) of the Gateways among *parents* that accepted the object."""
    gateways = set()
    for parent in parents:
        reference = mapping_of(parent, "parentRef")
        if (
            (text_of(reference, "kind") or "Gateway") == "Gateway"
            and text_of(reference, "name")
            and condition_of(parent, "Accepted") == "True"
        ):
            gateways.add((text_of(reference, "namespace") or namespace, text_of(reference, "name")))
    return tuple(sorted(gateways))


def _service(reference: Mapping[str, Any]) -> str:
    """Return the Service that a reference names; empty if none that can have a host name."""
    name = text_of(reference, "name")
    is_service = (text_of(reference, "kind") or "Service") == "Service"
    return name if is_service and _DNS_LABEL.fullmatch(name) else ""
