"""From objects to instances, as a rule of the configuration says; values in, values out.

A pod or an endpoint that is not ready is no instance, and no one is reported: that is how pods come
and go. One that is ready and does not say what the rule needs is refused with what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from controlplane.config import (
    BehindGateway,
    Config,
    Conflict,
    DiscoveredInstance,
    DiscoveryRule,
    Engine,
    Instance,
    ObjectRef,
    Orca,
    RejectedInstance,
    Scrape,
)
from controlplane.errors import ReportError
from controlplane.sources.kubernetes.candidates import Candidate, CandidateReader
from controlplane.sources.kubernetes.objects import KubernetesObject
from controlplane.sources.kubernetes.placement import Placement, cut, label_of
from controlplane.sources.kubernetes.watches import is_of_pools

PICKER_METRICS = 9090
"""Port of an endpoint picker's metrics."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a rule comes to."""

    found: tuple[DiscoveredInstance, ...] = ()
    refused: tuple[RejectedInstance, ...] = ()


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


def _name(rule: DiscoveryRule, candidate: Candidate, port: int) -> str:
    text = (
        rule.instance_name.replace("{rule}", rule.name)
        .replace("{namespace}", candidate.namespace)
        .replace("{cluster}", rule.cluster or "")
        .replace("{port}", str(port or ""))
        .replace("{name}", candidate.name)
    )
    return cut(text)


class _Reader:
    """A rule, and what it looks things up in."""

    def __init__(
        self, config: Config, rule: DiscoveryRule, looked_up: Iterable[KubernetesObject]
    ) -> None:
        looked_up = tuple(looked_up)
        self.rule = rule
        self.candidates = CandidateReader(rule, looked_up).candidates
        self._placement = Placement(config, rule, looked_up)
        self._said: dict[frozenset[str], set[str]] = {}
        """Fields that instances were made with, by themselves."""

    def outcome(self, candidate: Candidate) -> _Outcome:
        """Return the instance that a candidate is, or why it is none."""
        order = (
            candidate.namespace, candidate.name, ":" in candidate.ip, candidate.source,
        )  # fmt: skip
        port, reason = 0, candidate.fault or ("" if candidate.ip else "has no address")
        if not reason:
            try:
                port = self.rule.port or self._port(candidate)
                name = _name(self.rule, candidate, port)
                place, made = self._placement.place(candidate)
                instance = self.instance(name, candidate, port, site=place)
                found = DiscoveredInstance(self.rule.name, instance, made, candidate.about)
            except ReportError as error:
                reason = str(error)
            else:
                return _Outcome((*order, port), name, candidate.source, candidate.about, found)
        name = _name(self.rule, candidate, port)
        return _Outcome((*order, port), name, candidate.source, candidate.about, reason=reason)

    def instance(self, name: str, candidate: Candidate, port: int, *, site: str) -> Instance:
        """Make an instance.

        Raises:
            ReportError: what the rule needs is not there.
        """
        rule = self.rule
        is_pool = is_of_pools(rule)
        prior = self._placement.prior(candidate)
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
            "model": rule.model or label_of(candidate.labels, rule.model_label or "", "its model"),
            "engine": rule.engine or (Engine.EPP if is_pool else Engine.GENERIC),
            "service_time": prior.service_time or rule.service_time,
            "scrape": self._scrape(candidate, host, port),
            "orca": None if rule.orca is None else Orca.model_construct(
                port=rule.orca.port, address=None, period=rule.orca.period
            ),
            "power": rule.power,
        }  # fmt: skip
        route = candidate.route
        if route is not None and (route.host or route.path):
            known = {"host": route.host, "path": route.path}
            try:
                reported["gateway"] = BehindGateway.model_validate(
                    {key: value for key, value in known.items() if value}
                )
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["msg"]
                raise ReportError(f"its HTTPRoute cannot be followed: {reason}") from None
        # One set for all that say the same: thousands of their own would be some megabytes.
        said = self._said.setdefault(frozenset(reported), set(reported))
        return Instance.model_construct(_fields_set=said, **reported)

    def _port(self, candidate: Candidate) -> int:
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

    def _scrape(self, candidate: Candidate, host: str, port: int) -> Scrape | None:
        found = self.rule.scrape
        if found is None:
            return None
        default = port
        if is_of_pools(self.rule):
            if not candidate.metrics_host:
                raise ReportError("its endpoint picker is not a Service; remove scrape")
            host, default = candidate.metrics_host, PICKER_METRICS
        scheme = "https" if found.https else "http"
        return Scrape.model_construct(
            url=f"{scheme}://{host}:{found.port or default}{found.path}",
            period=found.period,
            timeout=found.timeout,
            ca=found.ca,
            token_file=found.token_file,
        )
