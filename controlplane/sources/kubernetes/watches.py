"""What of a cluster has to be followed for a rule of the configuration; values in, values out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controlplane.config import Config, DiscoveryKind, DiscoveryRule
from controlplane.sources.kubernetes.objects import (
    ENDPOINT_SLICES,
    GATEWAYS,
    HTTP_ROUTES,
    INFERENCE_POOL_IMPORTS,
    INFERENCE_POOLS,
    NODES,
    PODS,
    Resource,
)

ZONE = "topology.kubernetes.io/zone"
SERVICE_NAME = "kubernetes.io/service-name"
"""Label of a slice that names its Service."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Objects that have to be followed for a rule."""

    resource: Resource
    namespace: str = ""
    selector: str = ""


@dataclass(frozen=True, slots=True)
class Watches:
    """Everything that has to be followed for a rule."""

    objects: tuple[Watch, ...]
    """Of the rule's kind, one for each namespace."""
    looked_up: tuple[Watch, ...] = ()
    """Nodes, pools, Gateways or HTTPRoutes."""

    def __iter__(self) -> Iterator[Watch]:
        yield from self.objects
        yield from self.looked_up


def watches(config: Config, rule: DiscoveryRule) -> Watches:
    """Return what has to be followed for *rule*."""
    discovery = config.discovery
    namespaces: tuple[str, ...] = rule.namespaces or (
        rule.namespace or (discovery.namespace if discovery else "default"),
    )
    if "*" in namespaces:
        namespaces = ("",)
    selector = rule.selector
    if rule.service is not None:
        of_service = f"{SERVICE_NAME}={rule.service}"
        selector = f"{of_service},{selector}" if selector else of_service
    nodes = (Watch(NODES),) if _needs_nodes(rule) else ()
    if rule.members:
        # The pods are the instances; the few pools say which of them, and at which ports.
        pools = tuple(Watch(INFERENCE_POOLS, each, selector) for each in namespaces)
        return Watches(tuple(Watch(PODS, each) for each in namespaces), (*pools, *nodes))
    if is_of_pools(rule):
        imports = rule.kind is DiscoveryKind.INFERENCE_POOL_IMPORTS
        pools_of = INFERENCE_POOL_IMPORTS if imports else INFERENCE_POOLS
        gateways = (rule.gateway_namespace,) if rule.gateway_namespace else namespaces
        routes = namespaces if rule.http_routes else ()
        return Watches(
            tuple(Watch(pools_of, each, selector) for each in namespaces),
            (
                *(Watch(GATEWAYS, each) for each in gateways),
                *(Watch(HTTP_ROUTES, each) for each in routes),
            ),
        )
    resource = PODS if rule.kind is DiscoveryKind.PODS else ENDPOINT_SLICES
    return Watches(tuple(Watch(resource, each, selector) for each in namespaces), nodes)


def is_of_pools(rule: DiscoveryRule) -> bool:
    """Return whether instances are whole pools behind Gateways."""
    kinds = (DiscoveryKind.INFERENCE_POOLS, DiscoveryKind.INFERENCE_POOL_IMPORTS)
    return rule.kind in kinds and not rule.members


def _needs_nodes(rule: DiscoveryRule) -> bool:
    """Report whether nodes have to be read, which takes a ClusterRole."""
    if is_of_pools(rule):
        return False
    labels = {rule.node_label, rule.site_template.label if rule.site_template else None} - {None}
    if rule.kind is DiscoveryKind.ENDPOINT_SLICES:
        labels -= {ZONE}  # slices say it themselves
    return bool(labels) or rule.priors is not None
