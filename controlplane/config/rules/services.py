"""Rules on models and services: chains of bases, protocols, canaries, matches, residency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controlplane.config.document import dotted
from controlplane.config.faults import nearest
from controlplane.config.matches import canonical_host
from controlplane.config.rules.sections import Entry, Names, Sections
from controlplane.config.schema.steering import Steering
from controlplane.config.units import NEVER, parse_duration, parse_penalty, parse_size
from controlplane.errors import Fault


def base_cycles(doc: Sections) -> Iterator[Fault]:
    """Check that no model is its own base."""
    reported: set[str] = set()
    for entry in doc.model_list:
        chain: list[str] = []
        name = entry.text("name")
        while name is not None and name not in chain:
            chain.append(name)
            model = doc.models.entries.get(name)
            name = model.text("base") if model else None
        if name is not None and name == chain[0] and not reported.intersection(chain):
            reported.update(chain)
            yield doc.at(
                entry, "base", f"goes in a circle: {' -> '.join([*chain, name])}; remove one"
            )


def service_faults(doc: Sections) -> Iterator[Fault]:
    """Check services, what they match and where they may run."""
    matches: dict[tuple[Any, ...], tuple[Entry, Entry]] = {}
    for service in doc.service_list:
        yield from doc.unique(service.entries("models"), "model")
        penalties = []
        for model in service.entries("models"):
            yield from doc.known(model, "name", "model", doc.models)
            penalties.append(model.number("penalty", parse_penalty))
        if penalties and all(penalty == NEVER for penalty in penalties):
            yield doc.at(service, "models", "all have the penalty never; nothing may serve it")
        for match in service.entries("match"):
            yield from match_faults(doc, service, match, matches)
        slo = service.entry("slo")
        ttft, latency = (
            slo.number("ttft", parse_duration),
            slo.number("latency", parse_duration),
        )
        if ttft is not None and latency is not None and ttft > latency:
            yield doc.at(slo, "ttft", "is longer than latency, which includes it")
        yield from http_route_faults(doc, service)
        yield from affinity_faults(doc, service)
        yield from protocol_faults(doc, service)
        yield from residency_faults(doc, service)
        yield from canary_faults(doc, service)


def http_route_faults(doc: Sections, service: Entry) -> Iterator[Fault]:
    """Check where *service* has its matches from."""
    if not isinstance(service.raw, dict):
        return
    if service.get("match") is None and service.get("http_routes") is None:
        yield doc.at(service, None, "'match' is missing; give it, or http_routes")
    clusters = doc.root.entry("discovery").entries("clusters")
    for source in service.entries("http_routes"):
        if not isinstance(source.raw, dict):
            continue
        if not isinstance(doc.root.get("discovery"), dict):
            yield doc.at(source, None, "asks a Kubernetes API, and there is no discovery; add it")
        given = [key for key in ("pool", "service") if source.get(key) is not None]
        if len(given) != 1:
            wrong = "says it twice; keep one of" if given else "does not say where they lead; give"
            yield doc.at(source, given[1] if given else None, f"{wrong} pool, service")
        if source.get("cluster") is not None and not clusters:
            yield doc.at(source, "cluster", "names one, and discovery.clusters is empty")
        yield from doc.known(source, "cluster", "cluster", Names(clusters))
        listed = source.get("route_namespaces")
        if isinstance(listed, list) and "*" in listed and len(listed) > 1:
            yield doc.at(
                source, "route_namespaces", 'names others beside "*", which is all; keep one'
            )


def affinity_faults(doc: Sections, service: Entry) -> Iterator[Fault]:
    """Check that sessions are named in one way."""
    affinity = service.entry("affinity")
    if not isinstance(affinity.raw, dict):
        return
    named = [key for key in ("header", "cookie") if affinity.get(key) is not None]
    if len(named) == 2:
        yield doc.at(affinity, "cookie", "a session is named by a header or a cookie; remove one")
    elif not named:
        yield doc.at(
            affinity, None, "does not say what names a session; give header, such as"
            " x-session-id, or cookie"
        )  # fmt: skip


def protocol_faults(doc: Sections, service: Entry) -> Iterator[Fault]:
    """Check that the models of *service* speak one protocol."""
    if (service.text("protocol") or "auto") != "auto":
        return
    found: dict[str, str] = {}
    for listed in service.entries("models"):
        model = doc.models.entries.get(listed.text("name") or "")
        protocol = None if model is None else model.text("protocol")
        if protocol is not None and protocol != "auto":
            found.setdefault(protocol, listed.text("name") or "")
    if len(found) > 1:
        reported = " and ".join(f"'{name}' {protocol}" for protocol, name in found.items())
        yield doc.at(
            service, "models",
            f"are spoken to in different protocols ({reported}); an Envoy speaks"
            " one to a service, so set protocol on the service, or split it"
        )  # fmt: skip


def canary_faults(doc: Sections, owner: Entry) -> Iterator[Fault]:
    """Return what is wrong with the canary of a service, or of ``steering``."""
    canary = owner.entry("canary")
    yield from doc.known(canary, "client_site", "site", doc.sites)
    default = doc.root.entry("steering").text("policy") or Steering().policy.value
    standing = owner.text("policy") or default
    if canary.text("policy") == standing:
        yield doc.at(
            canary, "policy", f"'{standing}' decides everywhere already, so nothing would be"
            " tried; name another policy"
        )  # fmt: skip


def match_faults(
    doc: Sections, service: Entry, match: Entry, seen: dict[tuple[Any, ...], tuple[Entry, Entry]]
) -> Iterator[Fault]:
    """Check one match against those of all services, which *seen* collects."""
    if not isinstance(match.raw, dict):
        return
    header = match.get("header")
    if header is not None and not isinstance(header, dict):
        return
    yield from body_size_faults(doc, match.entry("body_size"))
    conditions = ("path", "model", "host", "body_size")
    if not header and all(match.get(key) is None for key in conditions):
        if not set(match.raw) - {"header", *conditions}:
            yield doc.at(
                match, None, "an empty match would take every request;"
                " give a path, a header or a model"
            )  # fmt: skip
        return
    # RFC 9110, section 5.1: field names are case-insensitive.
    headers = frozenset((name.lower(), str(v)) for name, v in (header or {}).items())
    host = match.text("host") or ""
    size = str(match.get("body_size"))
    # The prefix of all paths is no condition.
    path = None if match.get("path") == "/*" else match.get("path")
    key = (str(path), headers, str(match.get("model")), canonical_host(host) or host, size)
    owner, first = seen.setdefault(key, (service, match))
    if first is match:
        return
    if owner is service:
        yield doc.at(match, None, f"is the same as {dotted(first.path)}; remove one")
    else:
        name = owner.text("name") or dotted(owner.path)
        yield doc.at(
            match, None, f"service '{name}' has the same match (line {doc.line(first.path)});"
            " a request can belong to one service only"
        )  # fmt: skip


def body_size_faults(doc: Sections, size: Entry) -> Iterator[Fault]:
    """Check that some length is in a class of lengths."""
    least, below = size.number("least", parse_size), size.number("below", parse_size)
    if below is not None and below <= (least or 0.0):
        yield doc.at(size, "below", "is no more than least, so no length is between; raise it")


def residency_faults(doc: Sections, service: Entry) -> Iterator[Fault]:
    """Check that the regions of *service* exist."""
    regions = {region for e in doc.site_list if (region := e.text("region"))}
    allow = service.entry("residency").get("allow")
    for i, region in enumerate(allow if isinstance(allow, list) else []):
        if isinstance(region, str) and region not in regions and doc.sites.complete:
            hint = nearest(region, sorted(regions)) or "; no site has a region"
            yield doc.fault(
                (*service.path, "residency", "allow", i),
                f"no site is in region '{region}'{hint}",
            )
