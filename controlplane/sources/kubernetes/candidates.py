"""What of an object is ready and could be an instance: a pod, an endpoint, a pool or its member."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.config import DiscoveryRule, ObjectRef
from controlplane.errors import ReportError
from controlplane.sources.kubernetes.documents import Labels, Meta
from controlplane.sources.kubernetes.gateway_api import Gateway, InferencePool
from controlplane.sources.kubernetes.http_routes import HttpRoute
from controlplane.sources.kubernetes.objects import (
    ENDPOINT_SLICES,
    INFERENCE_POOL_IMPORTS,
    INFERENCE_POOLS,
    EndpointSlice,
    KubernetesObject,
    Pod,
)
from controlplane.sources.kubernetes.pool_routes import PoolRoute, pool_route
from controlplane.sources.kubernetes.watches import SERVICE_NAME


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something ready that could be an instance."""

    name: str
    namespace: str
    labels: Labels
    ip: str
    """Or a DNS name, which is resolved before Envoys get it."""
    ports: Mapping[str, int]
    node: str = ""
    zone: str = ""
    sidecar_ports: Mapping[str, int] = field(default_factory=dict)
    """Ports that count by name, or where the object names no others."""
    source: str = ""
    """What it was read from, as a rejection names it."""
    about: ObjectRef | None = None
    """The object that an Event on it names."""
    metrics_host: str = ""
    """Where metrics are, if not at the address."""
    route: PoolRoute | None = None
    """What its requests have, at a Gateway that others stand behind."""
    fault: str = ""


class CandidateReader:
    """Reads objects by a rule.

    Args:
        rule: what makes an instance.
        looked_up: Gateways, HTTPRoutes and pools, where the rule asks for them.
    """

    def __init__(self, rule: DiscoveryRule, looked_up: Iterable[KubernetesObject]) -> None:
        self.rule = rule
        self.gateways: dict[tuple[str, str], Gateway] = {}
        self.routes: list[HttpRoute] = []
        self.pools: list[InferencePool] = []
        for each in looked_up:
            if isinstance(each, Gateway):
                self.gateways[each.meta.key] = each
            elif isinstance(each, HttpRoute):
                self.routes.append(each)
            elif isinstance(each, InferencePool) and each.ready:
                self.pools.append(each)
        self.routes.sort(key=lambda route: route.meta.key)
        self.pools.sort(key=lambda pool: pool.meta.key)

    def candidates(self, each: KubernetesObject) -> Iterator[Candidate]:
        """Return what of an object is ready."""
        match each:
            case Pod(ready=True) if self.rule.members:
                yield from self._member(each)
            case Pod(ready=True):
                yield Candidate(
                    each.meta.name, each.meta.namespace, each.meta.labels,
                    each.ip, each.ports, sidecar_ports=each.sidecar_ports, node=each.node,
                    source=f"pod {each.meta.namespace}/{each.meta.name}",
                    about=_about("v1", "Pod", each.meta),
                )  # fmt: skip
            case EndpointSlice():
                yield from _endpoints(each)
            case InferencePool(ready=True):
                yield self._pool(each)

    def _member(self, pod: Pod) -> Iterator[Candidate]:
        """Return a pod once for each target port of the pools that select it."""
        for pool in self.pools:
            if pool.meta.namespace != pod.meta.namespace or not pool.selects(pod.meta.labels):
                continue
            # What to narrow where two pools claim one pod.
            selector = ",".join(f"{key}={value}" for key, value in sorted(pool.selector.items()))
            for port in pool.target_ports:
                name = pod.meta.name if len(pool.target_ports) == 1 else f"{pod.meta.name}-{port}"
                yield Candidate(
                    name, pod.meta.namespace, {**pool.meta.labels, **pod.meta.labels},
                    pod.ip, {str(port): port}, node=pod.node,
                    source=f"pool {pool.meta.namespace}/{pool.meta.name}, which selects"
                    f" {selector}",
                    about=_about("v1", "Pod", pod.meta),
                )  # fmt: skip

    def _pool(self, pool: InferencePool) -> Candidate:
        at = [gateway for key in pool.gateways if (gateway := self.gateways.get(key))]
        # One that can be reached comes first, and an address before a name.
        at.sort(key=lambda gateway: (not gateway.hosts, not gateway.ips))
        fault = ""
        if not pool.gateways:
            fault = "no Gateway has accepted the pool; see its status.parents"
        elif not at:
            names = ", ".join("/".join(key) for key in pool.gateways)
            fault = f"its Gateway {names} is not among those read; set gateway_namespace"
        elif not at[0].hosts:
            fault = "its Gateway has no address in its status yet"
        route = None
        if self.rule.http_routes and at and not fault:
            try:
                route = pool_route(pool, at[0], self.routes)
            except ReportError as error:
                fault = str(error)
        ports = at[0].ports if at else {}
        if route is not None and route.port and self.rule.port_name is None:
            ports = {"its HTTPRoute's": route.port}
        host = f"{pool.picker}.{pool.meta.namespace}.svc" if pool.picker else ""
        return Candidate(
            pool.meta.name, pool.meta.namespace, pool.meta.labels,
            at[0].hosts[0] if at and at[0].hosts else "", ports, route=route,
            source=f"pool {pool.meta.namespace}/{pool.meta.name}", about=_about_pool(pool),
            metrics_host=host, fault=fault,
        )  # fmt: skip


def _endpoints(piece: EndpointSlice) -> Iterator[Candidate]:
    service = piece.meta.labels.get(SERVICE_NAME)
    source = f"service {service}" if service else f"slice {piece.meta.name}"
    fault = (
        ""
        if piece.family in ("IPv4", "IPv6", "FQDN")
        else f"its slice has addresses of the type {piece.family[:40]}, and only IPv4, IPv6 and"
        " FQDN are discovered; list it under instances"
    )
    # A Service is what people look at; its slices have names that no one chose.
    about = (
        _about("v1", "Service", piece.service)
        if piece.service is not None
        else _about(f"{ENDPOINT_SLICES.group}/v1", "EndpointSlice", piece.meta)
    )
    for endpoint in piece.endpoints:
        if endpoint.ready:
            yield Candidate(
                endpoint.name or (endpoint.ip or endpoint.host).replace(".", "-").replace(":", "-"),
                piece.meta.namespace, piece.meta.labels, endpoint.ip or endpoint.host, piece.ports,
                source=source, node=endpoint.node, zone=endpoint.zone, fault=fault, about=about,
            )  # fmt: skip


def _about(api_version: str, kind: str, meta: Meta) -> ObjectRef:
    return ObjectRef(api_version, kind, meta.namespace, meta.name, meta.uid)


def _about_pool(pool: InferencePool) -> ObjectRef:
    of = INFERENCE_POOL_IMPORTS if pool.imported else INFERENCE_POOLS
    return _about(f"{of.group}/{of.version}", pool.kind, pool.meta)
