"""What must agree between several values: names, ranges, and what would never take effect.

The rules read the raw document, not a validated `Config`, so that they also run on a file with
other faults and everything wrong is reported at once. A rule looks only at values of the right
shape; the rest is the schema's to report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from controlplane.config import override_rules
from controlplane.config.addresses import canonical_endpoint
from controlplane.config.engine import Engine
from controlplane.config.faults import nearest
from controlplane.config.schema.envoy import Envoy
from controlplane.config.schema.instances import Instance, Scrape
from controlplane.config.schema.steering import Steering
from controlplane.config.schema.values import NAME_PATTERN
from controlplane.config.source import Document, Path, dotted
from controlplane.config.units import (
    NEVER,
    parse_duration,
    parse_penalty,
    parse_power,
    parse_share,
)
from controlplane.errors import Fault

_NAME = re.compile(NAME_PATTERN)
_KEYS_OF_KINDS = {
    "service": ("endpoint_slices",),
    "node_label": ("endpoint_slices", "pods"),
    "members": ("inference_pools",),
    "gateway_namespace": ("inference_pools",),
}
"""Keys of a discovery rule that only some kinds know."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A mapping of the document; anything else reads as an empty one."""

    path: Path
    raw: Any

    def get(self, key: str) -> Any:
        return self.raw.get(key) if isinstance(self.raw, dict) else None

    def text(self, key: str) -> str | None:
        value = self.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str, parse: Callable[[object], float]) -> float | None:
        value = self.get(key)
        try:
            return None if value is None else parse(value)
        except PydanticCustomError:
            return None

    def entry(self, key: str) -> _Entry:
        return _Entry((*self.path, key), self.get(key))

    def entries(self, key: str) -> list[_Entry]:
        value = self.get(key)
        items = value if isinstance(value, list) else []
        return [_Entry((*self.path, key, i), item) for i, item in enumerate(items)]


def _models_of(instance: _Entry) -> set[str]:
    """Return the names of the models that an instance, or a rule's instances, run."""
    several = instance.get("models")
    if isinstance(several, list):
        names = (each.get("name") if isinstance(each, dict) else each for each in several)
        return {name for name in names if isinstance(name, str)}
    model = instance.text("model")
    return set() if model is None else {model}


class _Names:
    """The names of one list, and whether all of them can be read."""

    def __init__(self, entries: Sequence[_Entry]) -> None:
        self.entries: dict[str, _Entry] = {}
        for entry in entries:
            name = entry.text("name")
            if name is not None:
                self.entries.setdefault(name, entry)
        self.complete = bool(entries) and all(_NAME.match(e.text("name") or "") for e in entries)
        """False leaves dangling references untold: the missing one may be what cannot be read."""


class _Rules:
    def __init__(self, document: Document) -> None:
        self._document = document
        root = _Entry((), document.tree)
        self.root = root
        self.site_list = root.entries("sites")
        self.model_list = root.entries("models")
        self.service_list = root.entries("services")
        self.instance_list = root.entries("instances")
        self.override_list = root.entries("overrides")
        self.sites = _Names(self.site_list)
        self.models = _Names(self.model_list)
        self.services = _Names(self.service_list)
        self.instances = _Names(self.instance_list)
        self.rule_list = root.entry("discovery").entries("rules")
        if self.rule_list:
            self.instances.complete = False  # who else there is shows while running
        if any(rule.get("site_template") is not None for rule in self.rule_list):
            self.sites.complete = False
        self.devices = {
            name for name, e in self.sites.entries.items() if e.text("kind") == "device"
        }

    def at(self, entry: _Entry, key: str | None, message: str) -> Fault:
        path = entry.path if key is None else (*entry.path, key)
        return self._document.fault(path, message)

    def line(self, path: Path) -> int:
        return self._document.fault(path, "").line

    # Names.

    def unique(self, entries: Sequence[_Entry], what: str) -> Iterator[Fault]:
        seen: dict[str, _Entry] = {}
        for entry in entries:
            name = entry.text("name")
            if name is None:
                continue
            first = seen.setdefault(name, entry)
            if first is not entry:
                yield self.at(
                    entry,
                    "name",
                    f"'{name}' already names the {what} on line"
                    f" {self.line((*first.path, 'name'))}; choose another",
                )

    def known(self, entry: _Entry, key: str, what: str, names: _Names) -> Iterator[Fault]:
        name = entry.text(key)
        if name is not None and name not in names.entries and names.complete:
            yield self.at(entry, key, f"no {what} is named '{name}'{nearest(name, names.entries)}")
        elif name is None or self.rule_list:
            return
        elif what == "instance" and not self.instance_list:
            yield self.at(entry, key, f"no instance is named '{name}'; instances is empty")

    def base_cycles(self) -> Iterator[Fault]:
        reported: set[str] = set()
        for entry in self.model_list:
            chain: list[str] = []
            name = entry.text("name")
            while name is not None and name not in chain:
                chain.append(name)
                model = self.models.entries.get(name)
                name = model.text("base") if model else None
            if name is not None and name == chain[0] and not reported.intersection(chain):
                reported.update(chain)
                yield self.at(
                    entry, "base", f"goes in a circle: {' -> '.join([*chain, name])}; remove one"
                )

    # Instances.

    def instance_faults(self) -> Iterator[Fault]:
        expiry = self.root.entry("steering").number("expiry", parse_duration)
        expiry = Steering().expiry if expiry is None else expiry
        addresses: dict[tuple[str, str], _Entry] = {}
        for instance in self.instance_list:
            yield from self.known(instance, "site", "site", self.sites)
            yield from self.known(instance, "model", "model", self.models)
            yield from self.engine_faults(instance)
            yield from self.instance_model_faults(instance)
            site = instance.text("site") or ""
            address = instance.text("address")
            if address is not None:
                key = (site if site in self.devices else "", canonical_endpoint(address))
                first = addresses.setdefault(key, instance)
                if first is not instance:
                    name = first.text("name") or dotted(first.path)
                    yield self.at(
                        instance, "address", f"'{address}' is already the address of '{name}'"
                        "; an address is one instance"
                    )  # fmt: skip
                host, _, port = address.rpartition(":")
                if host in ("127.0.0.1", "[::1]") and port == str(self.listener_port(site)):
                    yield self.at(
                        instance, "address", f"port {port} is where the Envoys of '{site}' listen;"
                        " requests would go in a circle, so choose another"
                    )  # fmt: skip
            yield from self.scrape_faults(instance.entry("scrape"), expiry)
            orca = instance.entry("orca")
            if isinstance(orca.raw, dict) and orca.get("port") is orca.get("address") is None:
                yield self.at(orca, None, "says not where; give port, or address as IP:PORT")
            power = instance.entry("power")
            idle, busy = power.number("idle", parse_power), power.number("busy", parse_power)
            if idle is not None and busy is not None and busy < idle:
                yield self.at(power, "busy", "is less than idle; busy is the draw at full load")

    def engine_faults(self, entry: _Entry) -> Iterator[Fault]:
        """Check that an engine is known, or a dialect of the file."""
        name = entry.text("engine")
        own = self.root.entry("telemetry").get("dialects")
        names = [*(engine.value for engine in Engine), *(own if isinstance(own, dict) else ())]
        if name is not None and name not in names:
            listed = [each for each in names if isinstance(each, str)]
            hint = nearest(name, listed) or f"; it is one of {', '.join(listed)}"
            yield self.at(
                entry,
                "engine",
                f"'{name}' is neither an engine nor one of telemetry.dialects{hint}",
            )

    def instance_model_faults(self, instance: _Entry) -> Iterator[Fault]:
        if not isinstance(instance.raw, dict):
            return
        several = instance.get("models")
        if several is None:
            if (
                instance.get("model") is None
                and not set(instance.raw) - Instance.model_fields.keys()
            ):
                yield self.at(instance, None, "runs nothing; give model, or models for several")
            return
        if instance.get("model") is not None:
            yield self.at(instance, "model", "is one model, and models lists several; keep one key")
        if instance.get("served_as") is not None:
            yield self.at(
                instance, "served_as", "belongs to one model; write it beside each of models, as"
                " {name: NAME, served_as: WHAT}"
            )  # fmt: skip
        if several == []:
            yield self.at(instance, "models", "is empty; list what the instance serves")
        yield from self.listed_model_faults(instance, several)

    def listed_model_faults(self, instance: _Entry, several: Any) -> Iterator[Fault]:
        seen: set[str] = set()
        for index, each in enumerate(several if isinstance(several, list) else ()):
            name = each.get("name") if isinstance(each, dict) else each
            path = (*instance.path, "models", index)
            if not isinstance(name, str):
                continue
            if name not in self.models.entries and self.models.complete:
                hint = nearest(name, self.models.entries)
                yield self._document.fault(path, f"no model is named '{name}'{hint}")
            if name in seen:
                yield self._document.fault(path, f"'{name}' is listed twice; remove one")
            seen.add(name)

    def agent_faults(self) -> Iterator[Fault]:
        agents = self.root.entry("server").entries("agents")
        yield from self.unique(agents, "agent")
        for agent in agents:
            given = 0
            for key, what, names in (
                ("sites", "site", self.sites), ("instances", "instance", self.instances)
            ):  # fmt: skip
                listed = agent.get(key)
                listed = listed if isinstance(listed, list) else []
                given += len(listed)
                for index, name in enumerate(listed):
                    if isinstance(name, str) and names.complete and name not in names.entries:
                        yield self._document.fault(
                            (*agent.path, key, index),
                            f"no {what} is named '{name}'{nearest(name, names.entries)}",
                        )
            tls = self.root.entry("server").entry("tls")
            if (
                isinstance(agent.raw, dict)
                and agent.get("token_hash_file") is None
                and tls.get("client_ca") is None
            ):
                yield self.at(
                    agent, None, "could be anybody; give token_hash_file, or server.tls.client_ca"
                    " so that agents show certificates"
                )  # fmt: skip
            if not given and isinstance(agent.raw, dict):
                yield self.at(agent, None, "may report nothing; give sites, instances or both")

    def discovery_faults(self) -> Iterator[Fault]:
        yield from self.unique(self.rule_list, "rule")
        yield from self.cluster_faults()
        expiry = self.root.entry("steering").number("expiry", parse_duration)
        for rule in self.rule_list:
            if not isinstance(rule.raw, dict):
                continue
            yield from self.known(rule, "site", "site", self.sites)
            yield from self.known(rule, "model", "model", self.models)
            yield from self.engine_faults(rule)
            for keys in (
                ("site", "site_label", "node_label", "site_template"),
                ("model", "model_label"),
            ):
                given = [key for key in keys if rule.get(key) is not None]
                if len(given) != 1:
                    yield self.at(
                        rule, given[1] if given else None, "says it twice; keep one of"
                        f" {', '.join(given)}" if given else "does not say which"
                        f" {keys[0]} its instances are of; give one of {', '.join(keys)}"
                    )  # fmt: skip
            kind = rule.text("kind")
            for key, kinds in _KEYS_OF_KINDS.items():
                if kind is not None and rule.get(key) is not None and kind not in kinds:
                    yield self.at(rule, key, f"means nothing to {kind}; remove it")
            if rule.get("port") is not None and rule.get("port_name") is not None:
                yield self.at(rule, "port_name", "is not asked where port is given; keep one")
            scrape = rule.entry("scrape")
            yield from self.scrape_faults(scrape, Steering().expiry if expiry is None else expiry)
            if scrape.get("ca") is not None and scrape.get("https") is not True:
                yield self.at(scrape, "ca", "is for https; add https: true, or remove it")
            power = rule.entry("power")
            idle, busy = power.number("idle", parse_power), power.number("busy", parse_power)
            if idle is not None and busy is not None and busy < idle:
                yield self.at(power, "busy", "is less than idle; busy is the draw at full load")

    def cluster_faults(self) -> Iterator[Fault]:
        """Check the clusters of discovery, and where its rules look."""
        clusters = self.root.entry("discovery").entries("clusters")
        yield from self.unique(clusters, "cluster")
        for cluster in clusters:
            given = [key for key in ("api", "kubeconfig") if cluster.get(key) is not None]
            if isinstance(cluster.raw, dict) and len(given) != 1:
                reported = (
                    "says it twice; keep one of" if given else "does not say where its API is; give"
                )
                yield self.at(cluster, given[1] if given else None, f"{reported} api, kubeconfig")
        for rule in self.rule_list:
            if rule.get("cluster") is not None and not clusters:
                yield self.at(rule, "cluster", "names one, and discovery.clusters is empty")
            yield from self.known(rule, "cluster", "cluster", _Names(clusters))
            listed = rule.get("namespaces")
            if rule.get("namespace") is not None and listed is not None:
                yield self.at(rule, "namespaces", "is given beside namespace; keep one")
            if isinstance(listed, list) and "*" in listed and len(listed) > 1:
                yield self.at(rule, "namespaces", 'names others beside "*", which is all; keep one')

    def listener_port(self, site: str) -> int:
        own = self.sites.entries.get(site, _Entry((), None)).entry("listener").get("port")
        port = self.root.entry("envoy").get("port") if own is None else own
        return port if isinstance(port, int) else Envoy().port

    def scrape_faults(self, scrape: _Entry, expiry: float) -> Iterator[Fault]:
        period = scrape.number("period", parse_duration)
        timeout = scrape.number("timeout", parse_duration)
        effective = Scrape.model_fields["period"].default if period is None else period
        if timeout is not None and timeout > effective > 0:
            yield self.at(
                scrape, "timeout", f"is longer than the period ({_seconds(effective)});"
                " a scrape must end before the next begins"
            )  # fmt: skip
        if period is not None and period >= expiry > 0:
            yield self.at(
                scrape, "period", f"is not shorter than steering.expiry ({_seconds(expiry)});"
                " the instance would be forgotten between two scrapes"
            )  # fmt: skip
        url = scrape.text("url") or ""
        for key in ("ca", "cert") if url.startswith("http://") else ():
            if scrape.get(key) is not None:
                yield self.at(scrape, key, "is for https, and the url is http; change one")

    # Services.

    def service_faults(self) -> Iterator[Fault]:
        matches: dict[tuple[Any, ...], tuple[_Entry, _Entry]] = {}
        for service in self.service_list:
            yield from self.unique(service.entries("models"), "model")
            penalties = []
            for model in service.entries("models"):
                yield from self.known(model, "name", "model", self.models)
                penalties.append(model.number("penalty", parse_penalty))
            if penalties and all(penalty == NEVER for penalty in penalties):
                yield self.at(service, "models", "all have the penalty never; nothing may serve it")
            for match in service.entries("match"):
                yield from self.match_faults(service, match, matches)
            slo = service.entry("slo")
            ttft, latency = (
                slo.number("ttft", parse_duration),
                slo.number("latency", parse_duration),
            )
            if ttft is not None and latency is not None and ttft > latency:
                yield self.at(slo, "ttft", "is longer than latency, which includes it")
            yield from self.protocol_faults(service)
            yield from self.residency_faults(service)
            yield from self.canary_faults(service)

    def protocol_faults(self, service: _Entry) -> Iterator[Fault]:
        if (service.text("protocol") or "auto") != "auto":
            return
        found: dict[str, str] = {}
        for listed in service.entries("models"):
            model = self.models.entries.get(listed.text("name") or "")
            protocol = None if model is None else model.text("protocol")
            if protocol is not None and protocol != "auto":
                found.setdefault(protocol, listed.text("name") or "")
        if len(found) > 1:
            reported = " and ".join(f"'{name}' {protocol}" for protocol, name in found.items())
            yield self.at(
                service, "models",
                f"are spoken to in different protocols ({reported}); an Envoy speaks"
                " one to a service, so set protocol on the service, or split it"
            )  # fmt: skip

    def canary_faults(self, owner: _Entry) -> Iterator[Fault]:
        """Return what is wrong with the canary of a service, or of ``steering``."""
        canary = owner.entry("canary")
        yield from self.known(canary, "client_site", "site", self.sites)
        default = self.root.entry("steering").text("policy") or Steering().policy.value
        standing = owner.text("policy") or default
        if canary.text("policy") == standing:
            yield self.at(
                canary, "policy", f"'{standing}' decides everywhere already, so nothing would be"
                " tried; name another policy"
            )  # fmt: skip

    def match_faults(
        self, service: _Entry, match: _Entry, seen: dict[tuple[Any, ...], tuple[_Entry, _Entry]]
    ) -> Iterator[Fault]:
        if not isinstance(match.raw, dict):
            return
        header = match.get("header")
        if header is not None and not isinstance(header, dict):
            return
        if not header and match.get("path") is None and match.get("model") is None:
            if not set(match.raw) - {"path", "header", "model"}:
                yield self.at(
                    match, None, "an empty match would take every request;"
                    " give a path, a header or a model"
                )  # fmt: skip
            return
        # RFC 9110, section 5.1: field names are case-insensitive.
        headers = frozenset((name.lower(), str(v)) for name, v in (header or {}).items())
        key = (str(match.get("path")), headers, str(match.get("model")))
        owner, first = seen.setdefault(key, (service, match))
        if first is match:
            return
        if owner is service:
            yield self.at(match, None, f"is the same as {dotted(first.path)}; remove one")
        else:
            name = owner.text("name") or dotted(owner.path)
            yield self.at(
                match, None, f"service '{name}' has the same match (line {self.line(first.path)});"
                " a request can belong to one service only"
            )  # fmt: skip

    def residency_faults(self, service: _Entry) -> Iterator[Fault]:
        regions = {region for e in self.site_list if (region := e.text("region"))}
        allow = service.entry("residency").get("allow")
        for i, region in enumerate(allow if isinstance(allow, list) else []):
            if isinstance(region, str) and region not in regions and self.sites.complete:
                hint = nearest(region, sorted(regions)) or "; no site has a region"
                yield self._document.fault(
                    (*service.path, "residency", "allow", i),
                    f"no site is in region '{region}'{hint}",
                )

    # Network and steering.

    def path_faults(self) -> Iterator[Fault]:
        seen: dict[tuple[str | None, str | None], _Entry] = {}
        for path in self.root.entry("network").entries("paths"):
            yield from self.known(path, "from", "site", self.sites)
            yield from self.known(path, "to", "site", self.sites)
            ends = path.text("from"), path.text("to")
            if None in ends:
                continue
            if ends[0] == ends[1]:
                yield self.at(
                    path, "to", "leads to where it begins;"
                    " network.local_rtt is the round trip within a site"
                )  # fmt: skip
            first = seen.setdefault(ends, path)
            if first is not path:
                yield self.at(
                    path, None, f"the path from '{ends[0]}' to '{ends[1]}' is already given on"
                    f" line {self.line(first.path)}; join the two"
                )  # fmt: skip
            if path.get("rtt") is None and path.get("bandwidth") is None:
                yield self.at(path, None, "says nothing of the path; give rtt or bandwidth")

    def steering_faults(self) -> Iterator[Fault]:
        steering = self.root.entry("steering")
        yield from self.canary_faults(steering)
        given = {key: steering.number(key, parse_duration) for key in ("period", "expiry")}
        defaults = Steering()
        period = defaults.period if given["period"] is None else given["period"]
        expiry = defaults.expiry if given["expiry"] is None else given["expiry"]
        if 0 < expiry <= period:
            key = "period" if given["expiry"] is None else "expiry"
            yield self.at(
                steering, key, f"expiry ({_seconds(expiry)}) must be longer than period"
                f" ({_seconds(period)}), or every instance would be unknown at each decision"
            )  # fmt: skip

    # Overrides.

    def override_faults(self) -> Iterator[Fault]:
        seen: dict[tuple[str | None, ...], _Entry] = {}
        for override in self.override_list:
            if not isinstance(override.raw, dict):
                continue
            for key, names in (
                ("service", self.services), ("instance", self.instances), ("site", self.sites)
            ):  # fmt: skip
                yield from self.known(override, key, key, names)
            if override.get("instance") is None and override.get("site") is None:
                yield self.at(override, None, override_rules.NO_PLACE)
            place = tuple(override.text(key) for key in ("service", "instance", "site"))
            first = seen.setdefault(place, override)
            if first is not override:
                yield self.at(
                    override, None, "is for the same place as the one on line"
                    f" {self.line(first.path)}; join the two"
                )  # fmt: skip
            yield from self.contradictions(override)
            yield from self.misplaced(override)
        yield from self.oversubscribed()

    def contradictions(self, override: _Entry) -> Iterator[Fault]:
        for key, message in override_rules.contradictions(
            drain=override.get("drain") is True,
            pin=override.get("pin") is True,
            min_share=override.number("min_share", parse_share),
            max_share=override.number("max_share", parse_share),
        ):
            yield self.at(override, key, message)
        known = {"service", "instance", "site", "reason", *override_rules.EFFECTS}
        given = [override.get(key) for key in override_rules.EFFECTS]
        if set(override.raw) <= known and all(value is None or value is False for value in given):
            yield self.at(override, None, override_rules.NO_EFFECT)

    def misplaced(self, override: _Entry) -> Iterator[Fault]:
        instance = self.instances.entries.get(override.text("instance") or "")
        if instance is None:
            return
        # What is unknown, or cannot be read, has an error of its own.
        site, home = override.text("site"), instance.text("site")
        service = self.services.entries.get(override.text("service") or "")
        served = [] if service is None else [m.text("name") for m in service.entries("models")]
        running = _models_of(instance)
        is_read = (
            service is not None and None not in served and running <= self.models.entries.keys()
        )
        for key, message in override_rules.misplacements(
            instance=override.text("instance") or "",
            home=home or "",
            site=site if site in self.sites.entries and home in self.sites.entries else None,
            models=sorted(running),
            service=override.text("service") if is_read else None,
            served=[name for name in served if name is not None],
        ):
            yield self.at(override, key, message)

    def oversubscribed(self) -> Iterator[Fault]:
        totals: dict[str | None, float] = {}
        for override in self.override_list:
            if override.text("instance") is None:
                continue
            service = override.text("service")
            share = override.number("min_share", parse_share) or 0.0
            totals[service] = totals.get(service, 0.0) + share
            if share and totals[service] > 1 + 1e-9:
                yield self.at(
                    override, "min_share", f"brings the least shares of '{service or 'all'}' to"
                    f" {totals[service]:.0%}; together at most 100%"
                )  # fmt: skip

    # What is allowed and yet not what was meant.

    def scrape_warnings(self) -> Iterator[Fault]:
        """Warn of metrics' URLs that name a host alone: engines serve a page of their own there."""
        for instance in self.instance_list:
            scrape = instance.entry("scrape")
            url = scrape.text("url") or ""
            if url and urlsplit(url).path in ("", "/") and not urlsplit(url).query:
                yield self.at(
                    scrape,
                    "url",
                    f"has no path; engines serve metrics at {url.rstrip('/')}/metrics",
                )

    def warnings(self) -> Iterator[Fault]:
        yield from self.scrape_warnings()
        running = {name for e in (*self.instance_list, *self.rule_list) for name in _models_of(e)}
        anything = any(rule.get("model_label") is not None for rule in self.rule_list)
        regions = {e.text("name"): e.text("region") or "" for e in self.site_list}
        policies = {e.text("name"): e.text("policy") for e in self.service_list}
        default = self.root.entry("steering").text("policy")
        for service in self.service_list:
            usable = {
                m.text("name")
                for m in service.entries("models")
                if m.number("penalty", parse_penalty) != NEVER
            }
            if not usable & running and not anything:
                yield self.at(
                    service, "models", "no instance runs any of these; requests get 503"
                    " until one is added"
                )  # fmt: skip
            allow = service.entry("residency").get("allow")
            if (
                allow
                and not self.rule_list
                and not any(
                    _models_of(e) & usable and regions.get(e.text("site")) in allow
                    for e in self.instance_list
                )
            ):
                yield self.at(
                    service, "residency", "no instance of its models is in these regions;"
                    " requests get 503 until one is added"
                )  # fmt: skip
            timeout = service.number("timeout", parse_duration)
            latency = service.entry("slo").number("latency", parse_duration)
            if timeout and latency and timeout < latency:
                yield self.at(service, "timeout", "cuts answers that slo.latency still allows")
        for override in self.override_list:
            policy = policies.get(override.text("service")) or default
            if override.get("weight") is not None and not (
                policy == "static" or override.get("pin") is True
            ):
                yield self.at(
                    override, "weight", "has no effect until the policy is static or"
                    " the override also has pin: true"
                )  # fmt: skip
        for instance in self.instance_list:
            if instance.get("tls") is False and not self.root.entry("envoy").get("instance_tls"):
                yield self.at(
                    instance, "tls", "has no effect: no instance is spoken to in TLS until"
                    " envoy.instance_tls is set"
                )  # fmt: skip
        yield from self.canary_warnings()
        yield from self.shared_localities()

    def canary_warnings(self) -> Iterator[Fault]:
        steering = self.root.entry("steering")
        if isinstance(steering.get("canary"), dict) and all(
            s.text("policy") or s.get("canary") for s in self.service_list
        ):
            yield self.at(
                steering, "canary", "has no effect: every service has a policy or a canary of its"
                " own"
            )  # fmt: skip
        if steering.text("mode") == "observe":
            for owner in (steering, *self.service_list):
                if isinstance(owner.get("canary"), dict):
                    yield self.at(
                        owner, "canary", "is only proposed in observe mode; to push it at that site"
                        " alone, use mode: steer and policy: static"
                    )  # fmt: skip

    def shared_localities(self) -> Iterator[Fault]:
        seen: dict[tuple[str, str], str] = {}
        for site in self.site_list:
            region, zone, name = (site.text(key) or "" for key in ("region", "zone", "name"))
            if region and zone and seen.setdefault((region, zone), name) != name:
                yield self.at(
                    site, "zone", f"site '{seen[region, zone]}' has the same region and zone;"
                    " Envoys that do not name their site in node.metadata.site belong to neither"
                )  # fmt: skip


def find_faults(document: Document) -> list[Fault]:
    """Return what is wrong between values, as far as they can be read."""
    rules = _Rules(document)
    faults: list[Fault] = []
    for entries, what in (
        (rules.site_list, "site"),
        (rules.model_list, "model"),
        (rules.service_list, "service"),
        (rules.instance_list, "instance"),
    ):
        faults += rules.unique(entries, what)
    for model in rules.model_list:
        faults += rules.known(model, "base", "model", rules.models)
    faults += rules.base_cycles()
    faults += rules.instance_faults()
    faults += rules.discovery_faults()
    faults += rules.agent_faults()
    faults += rules.service_faults()
    faults += rules.path_faults()
    faults += rules.steering_faults()
    faults += rules.override_faults()
    return faults


def find_warnings(document: Document) -> list[Fault]:
    """Return what a valid document says that would hardly be meant."""
    return list(_Rules(document).warnings())


def _seconds(duration: float) -> str:
    return f"{duration:g}s"
