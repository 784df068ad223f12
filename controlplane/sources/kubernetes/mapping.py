"""From objects to instances, as a rule of the configuration says; values in, values out.

A pod or an endpoint that is not ready is no instance, and no one is reported: that is how pods come
and go. One that is ready and does not say what the rule needs is refused with what is missing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.config import (
    Config,
    Conflict,
    DiscoveredInstance,
    DiscoveryKind,
    DiscoveryRule,
    Engine,
    Instance,
    NodePrior,
    ObjectRef,
    Orca,
    RejectedInstance,
    Scrape,
    Site,
)
from controlplane.errors import ReportError
from controlplane.sources.kubernetes.objects import (
    ENDPOINT_SLICES,
    GATEWAYS,
    INFERENCE_POOL_IMPORTS,
    INFERENCE_POOLS,
    NODES,
    PODS,
    EndpointSlice,
    Gateway,
    InferencePool,
    KubernetesObject,
    Labels,
    Meta,
    Node,
    Pod,
    Resource,
)

ZONE = "topology.kubernetes.io/zone"
SERVICE_NAME = "kubernetes.io/service-name"
"""Label of a slice that names its Service."""
LONGEST_NAME = 63
PICKER_METRICS = 9090
"""Port of an endpoint picker's metrics."""
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]")


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
    """Nodes or Gateways."""

    def __iter__(self) -> Iterator[Watch]:
        yield from self.objects
        yield from self.looked_up


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a rule comes to."""

    found: tuple[DiscoveredInstance, ...] = ()
    refused: tuple[RejectedInstance, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
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
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one candidate comes to: an instance, or the reason why it is none."""

    order: tuple[str, str, bool, str, int]
    """Decides between candidates of one name, whatever order their objects came in."""
    name: str
    source: str
    about: ObjectRef | None
    found: DiscoveredInstance | None = None
    reason: str = ""


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
    if _is_of_pools(rule):
        imports = rule.kind is DiscoveryKind.INFERENCE_POOL_IMPORTS
        pools_of = INFERENCE_POOL_IMPORTS if imports else INFERENCE_POOLS
        gateways = (rule.gateway_namespace,) if rule.gateway_namespace else namespaces
        return Watches(
            tuple(Watch(pools_of, each, selector) for each in namespaces),
            tuple(Watch(GATEWAYS, each) for each in gateways),
        )
    resource = PODS if rule.kind is DiscoveryKind.PODS else ENDPOINT_SLICES
    return Watches(tuple(Watch(resource, each, selector) for each in namespaces), nodes)


def _is_of_pools(rule: DiscoveryRule) -> bool:
    """Return whether instances are whole pools behind Gateways."""
    kinds = (DiscoveryKind.INFERENCE_POOLS, DiscoveryKind.INFERENCE_POOL_IMPORTS)
    return rule.kind in kinds and not rule.members


def _needs_nodes(rule: DiscoveryRule) -> bool:
    """Report whether nodes have to be read, which takes a ClusterRole."""
    if _is_of_pools(rule):
        return False
    labels = {rule.node_label, rule.site_template.label if rule.site_template else None} - {None}
    if rule.kind is DiscoveryKind.ENDPOINT_SLICES:
        labels -= {ZONE}  # slices say it themselves
    return bool(labels) or rule.priors is not None


def map_objects(
    config: Config,
    rule: DiscoveryRule,
    objects: Iterable[KubernetesObject],
    looked_up: Iterable[KubernetesObject] = (),
) -> Mapped:
    """Return the instances among *objects*.

    Args:
        config: for the zones of its sites.
        rule: what makes an instance.
        objects: of the rule's kind.
        looked_up: nodes or Gateways, where the rule asks for them.
    """
    return Mapper(config, rule).map(objects, looked_up)


class Mapper:
    """Applies one rule again and again; objects that have not changed are not read again.

    Args:
        config: for the zones of its sites.
        rule: what makes an instance.
    """

    def __init__(self, config: Config, rule: DiscoveryRule) -> None:
        self._config = config
        self._rule = rule
        self._identities: tuple[int, ...] | None = None
        self._kept: tuple[KubernetesObject, ...] = ()
        """What was looked up last; kept, so that its identities are nothing else's."""
        self._reader = _Reader(config, rule, ())
        self._read: dict[tuple[str, str], tuple[KubernetesObject, tuple[_Outcome, ...]]] = {}

    def map(
        self,
        objects: Iterable[KubernetesObject],
        looked_up: Iterable[KubernetesObject] = (),
    ) -> Mapped:
        """Return the instances among *objects*.

        Args:
            objects: of the rule's kind; one that is the very object of the last call costs a
                look-up.
            looked_up: nodes or Gateways, where the rule asks for them.
        """
        before = self._read
        looked_up = tuple(looked_up)
        identities = tuple(map(id, looked_up))
        if identities != self._identities:
            # What is looked up can change any instance, and seldom changes.
            self._identities, self._kept = identities, looked_up
            self._reader = _Reader(self._config, self._rule, looked_up)
            before = {}
        read = {}
        for each in objects:
            known = before.get(each.meta.key)
            if known is None or known[0] is not each:
                known = each, tuple(map(self._reader.outcome, self._reader.candidates(each)))
            read[each.meta.key] = known
        self._read = read
        return _decide(self._rule, [out for _, outs in read.values() for out in outs])


def _decide(rule: DiscoveryRule, outcomes: list[_Outcome]) -> Mapped:
    """Choose one instance for each name."""
    outcomes.sort(key=lambda outcome: outcome.order)
    chosen: dict[str, _Outcome] = {}
    refused: dict[RejectedInstance, None] = {}
    for each in outcomes:
        if each.found is None:
            continue
        first = chosen.setdefault(each.name, each)
        if first is each or first.found is None or _is_same(first.found, each.found):
            continue  # the same endpoint, in two slices or two families
        message = (
            f"{_shown(each.found)} of {each.source} has the same name as {_shown(first.found)} of"
            f" {first.source}, which is used; narrow the selector, or add {{port}} or {{namespace}}"
            " to instance_name"
        )
        refused[RejectedInstance(rule.name, each.name, Conflict.NAME, message, each.about)] = None
    for each in outcomes:
        if each.found is None and each.name not in chosen:
            refusal = RejectedInstance(
                rule.name, each.name, Conflict.OBJECT, each.reason, each.about
            )
            refused[refusal] = None
    found = tuple(each.found for each in chosen.values() if each.found is not None)
    return Mapped(found, tuple(refused))


def _is_same(one: DiscoveredInstance, other: DiscoveredInstance) -> bool:
    """Report whether two are one instance: at one address, or at one port in both families."""
    a, b = one.instance, other.instance
    if (a.port, a.model, a.site) != (b.port, b.model, b.site):
        return False
    return a.host == b.host or (":" in a.host) != (":" in b.host)


def _shown(found: DiscoveredInstance) -> str:
    return f"{found.instance.address} ({found.instance.model} at {found.instance.site})"


def _name(rule: DiscoveryRule, candidate: _Candidate, port: int) -> str:
    text = (
        rule.instance_name.replace("{rule}", rule.name)
        .replace("{namespace}", candidate.namespace)
        .replace("{cluster}", rule.cluster or "")
        .replace("{port}", str(port or ""))
        .replace("{name}", candidate.name)
    )
    return _cut(text)


def _cut(text: str) -> str:
    """Return *text* as a name may be; a longer one is cut, and made unique."""
    name = _NO_NAME.sub("-", text).strip("._-")
    if len(name) <= LONGEST_NAME and name:
        return name
    mark = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"{name[: LONGEST_NAME - 9].rstrip('._-')}-{mark}".lstrip("-")


class _Reader:
    """A rule, and what it looks things up in."""

    def __init__(
        self, config: Config, rule: DiscoveryRule, looked_up: Iterable[KubernetesObject]
    ) -> None:
        self.rule = rule
        self._said: dict[frozenset[str], set[str]] = {}
        """Fields that instances were made with, by themselves."""
        self.nodes: dict[str, Labels] = {}
        self.gateways: dict[tuple[str, str], Gateway] = {}
        self.pools: list[InferencePool] = []
        self.zones: dict[str, list[str]] = {}
        for each in looked_up:
            if isinstance(each, Node):
                self.nodes[each.meta.name] = each.meta.labels
            elif isinstance(each, Gateway):
                self.gateways[each.meta.key] = each
            elif isinstance(each, InferencePool) and each.ready:
                self.pools.append(each)
        self.pools.sort(key=lambda pool: pool.meta.key)
        for site in config.sites:
            for zone in {site.zone, *site.zones} - {""}:
                self.zones.setdefault(zone, []).append(site.name)
        self.names = {site.name for site in config.sites}

    def candidates(self, each: KubernetesObject) -> Iterator[_Candidate]:
        """Return what of an object is ready."""
        match each:
            case Pod(ready=True) if self.rule.members:
                yield from self._member(each)
            case Pod(ready=True):
                yield _Candidate(
                    each.meta.name, each.meta.namespace, each.meta.labels,
                    each.ip, each.ports, sidecar_ports=each.sidecar_ports, node=each.node,
                    source=f"pod {each.meta.namespace}/{each.meta.name}",
                    about=_about("v1", "Pod", each.meta),
                )  # fmt: skip
            case EndpointSlice():
                yield from _endpoints(each)
            case InferencePool(ready=True):
                yield self._pool(each)

    def _member(self, pod: Pod) -> Iterator[_Candidate]:
        """Return a pod once for each target port of the pools that select it."""
        for pool in self.pools:
            if pool.meta.namespace != pod.meta.namespace or not pool.selects(pod.meta.labels):
                continue
            for port in pool.target_ports:
                name = pod.meta.name if len(pool.target_ports) == 1 else f"{pod.meta.name}-{port}"
                yield _Candidate(
                    name, pod.meta.namespace, {**pool.meta.labels, **pod.meta.labels},
                    pod.ip, {str(port): port}, node=pod.node,
                    source=f"pool {pool.meta.namespace}/{pool.meta.name}",
                    about=_about("v1", "Pod", pod.meta),
                )  # fmt: skip

    def outcome(self, candidate: _Candidate) -> _Outcome:
        """Return the instance that a candidate is, or why it is none."""
        order = (
            candidate.namespace, candidate.name, ":" in candidate.ip, candidate.source,
        )  # fmt: skip
        port, reason = 0, candidate.fault or ("" if candidate.ip else "has no address")
        if not reason:
            try:
                port = self.rule.port or self._port(candidate)
                name = _name(self.rule, candidate, port)
                place, made = self._place(candidate)
                instance = self.instance(name, candidate, port, site=place)
                found = DiscoveredInstance(self.rule.name, instance, made, candidate.about)
            except ReportError as error:
                reason = str(error)
            else:
                return _Outcome((*order, port), name, candidate.source, candidate.about, found)
        name = _name(self.rule, candidate, port)
        return _Outcome((*order, port), name, candidate.source, candidate.about, reason=reason)

    def _pool(self, pool: InferencePool) -> _Candidate:
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
        host = f"{pool.picker}.{pool.meta.namespace}.svc" if pool.picker else ""
        return _Candidate(
            pool.meta.name, pool.meta.namespace, pool.meta.labels,
            at[0].hosts[0] if at and at[0].hosts else "", at[0].ports if at else {},
            source=f"pool {pool.meta.namespace}/{pool.meta.name}", about=_about_pool(pool),
            metrics_host=host, fault=fault,
        )  # fmt: skip

    def instance(self, name: str, candidate: _Candidate, port: int, *, site: str) -> Instance:
        """Make an instance.

        Raises:
            ReportError: what the rule needs is not there.
        """
        rule = self.rule
        is_pool = _is_of_pools(rule)
        prior = self._prior(candidate)
        host = f"[{candidate.ip}]" if ":" in candidate.ip else candidate.ip
        # What no one said is learned; a default would pass for said.
        reported: dict[str, Any] = {
            key: getattr(rule, key) for key in rule.model_fields_set & {"slots", "tls"}
        }
        if prior.slots is not None:
            reported["slots"] = prior.slots
        reported |= {
            "name": name,
            "site": site,
            "address": f"{host}:{port}",
            "model": rule.model or _label(candidate.labels, rule.model_label or "", "its model"),
            "engine": rule.engine or (Engine.EPP if is_pool else Engine.GENERIC),
            "service_time": prior.service_time or rule.service_time,
            "scrape": self._scrape(candidate, host, port),
            "orca": None if rule.orca is None else Orca.model_construct(
                port=rule.orca.port, address=None, period=rule.orca.period
            ),
            "power": rule.power,
        }  # fmt: skip
        # One set for all that say the same: thousands of their own would be some megabytes.
        said = self._said.setdefault(frozenset(reported), set(reported))
        return Instance.model_construct(_fields_set=said, **reported)

    def _port(self, candidate: _Candidate) -> int:
        ports, sidecars = candidate.ports, candidate.sidecar_ports
        if self.rule.port_name is not None:
            for known in (ports, sidecars):
                if self.rule.port_name in known:
                    return known[self.rule.port_name]
            names = ", ".join((*ports, *sidecars)) or "none"
            raise ReportError(f"has no port named '{self.rule.port_name}'; it has: {names}")
        # A proxy or a log shipper beside the engine does not make the engine's port ambiguous.
        counted = ports or sidecars
        numbers = set(counted.values())
        if len(numbers) != 1:
            reason = "names no port" if not numbers else f"has the ports {', '.join(counted)}"
            raise ReportError(f"{reason}; give port or port_name in the rule")
        return numbers.pop()

    def _prior(self, candidate: _Candidate) -> NodePrior:
        priors = self.rule.priors
        if priors is None:
            return NodePrior()
        hardware = self.nodes.get(candidate.node, {}).get(priors.label, "")
        return priors.values.get(hardware, NodePrior())

    def _place(self, candidate: _Candidate) -> tuple[str, Site | None]:
        """Return the name of a candidate's site, and the site if it is made of a label."""
        template = self.rule.site_template
        if template is None:
            return self._site(candidate), None
        from_zone = template.label == ZONE
        value = candidate.zone if from_zone else ""
        value = value or self.nodes.get(candidate.node, {}).get(template.label, "")
        value = value or candidate.labels.get(template.label, "")
        if not value:
            raise ReportError(
                f"neither its node nor it has the label {template.label}, which would name its site"
            )
        here = self.zones.get(value, [])
        if len(here) == 1:
            return here[0], None
        cluster = self.rule.cluster or ""
        name = _cut(template.name.replace("{cluster}", cluster).replace("{value}", value))
        zone = value if from_zone else ""
        return name, Site.model_construct(
            name=name, kind=template.kind, region=template.region, zone=zone
        )

    def _site(self, candidate: _Candidate) -> str:
        rule = self.rule
        if rule.site is not None:
            return rule.site
        if rule.site_label is not None:
            place = _label(candidate.labels, rule.site_label, "its site")
        elif rule.node_label == ZONE and candidate.zone:
            place = candidate.zone
        elif rule.kind is DiscoveryKind.ENDPOINT_SLICES and rule.node_label == ZONE:
            # The slice's own word, so that nodes need not be read.
            raise ReportError(
                f"its endpoint has no zone, which would name its site; label its node with {ZONE}"
            )
        else:
            labels = self.nodes.get(candidate.node)
            if labels is None:
                shown = candidate.node or "of its own"
                raise ReportError(f"its node {shown} is not known, which would name its site")
            place = _label(labels, rule.node_label or "", "its site", of="its node")
        if place in self.names:
            return place
        here = self.zones.get(place, [])
        if len(here) == 1:
            return here[0]
        reported = f"the sites {', '.join(here)} share the zone" if here else "no site has the zone"
        raise ReportError(f"no site is named '{place}', and {reported} '{place}'")

    def _scrape(self, candidate: _Candidate, host: str, port: int) -> Scrape | None:
        found = self.rule.scrape
        if found is None:
            return None
        default = port
        if _is_of_pools(self.rule):
            if not candidate.metrics_host:
                raise ReportError("its endpoint picker is no Service; remove scrape")
            host, default = candidate.metrics_host, PICKER_METRICS
        scheme = "https" if found.https else "http"
        return Scrape.model_construct(
            url=f"{scheme}://{host}:{found.port or default}{found.path}",
            period=found.period,
            timeout=found.timeout,
            ca=found.ca,
            token_file=found.token_file,
        )


def _endpoints(piece: EndpointSlice) -> Iterator[_Candidate]:
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
            yield _Candidate(
                endpoint.name or (endpoint.ip or endpoint.host).replace(".", "-").replace(":", "-"),
                piece.meta.namespace, piece.meta.labels, endpoint.ip or endpoint.host, piece.ports,
                source=source, node=endpoint.node, zone=endpoint.zone, fault=fault, about=about,
            )  # fmt: skip


def _about(api_version: str, kind: str, meta: Meta) -> ObjectRef:
    return ObjectRef(api_version, kind, meta.namespace, meta.name, meta.uid)


def _about_pool(pool: InferencePool) -> ObjectRef:
    kind, of = "InferencePool", INFERENCE_POOLS
    if pool.imported:
        kind, of = "InferencePoolImport", INFERENCE_POOL_IMPORTS
    return _about(f"{of.group}/{of.version}", kind, pool.meta)


def _label(labels: Labels, label: str, what: str, *, of: str = "") -> str:
    value = labels.get(label)
    if not value:
        raise ReportError(f"{of or 'it'} has no label {label}, which would name {what}")
    return value
