"""Rules on ``discovery``: its clusters, and what each rule looks for."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.config.rules.instances import engine_faults, scrape_faults
from controlplane.config.rules.sections import Entry, Names, Sections
from controlplane.config.schema.steering import Steering
from controlplane.config.units import parse_duration, parse_power
from controlplane.errors import Fault

_KEYS_OF_KINDS = {
    "service": ("endpoint_slices",),
    "node_label": ("endpoint_slices", "pods"),
    "members": ("inference_pools",),
    "gateway_namespace": ("inference_pools", "inference_pool_imports"),
    "http_routes": ("inference_pools", "inference_pool_imports"),
}
"""Keys of a discovery rule that only some kinds know."""


def discovery_faults(doc: Sections) -> Iterator[Fault]:
    """Check what each rule of discovery says, and that it says it once."""
    yield from doc.unique(doc.rule_list, "rule")
    yield from cluster_faults(doc)
    discovery = doc.root.entry("discovery")
    routed = any(service.get("http_routes") is not None for service in doc.service_list)
    if isinstance(discovery.raw, dict) and not discovery.get("rules") and not routed:
        yield doc.at(
            discovery, "rules" if "rules" in discovery.raw else None,
            "looks for nothing; give at least 1 rule, or http_routes to a service",
        )  # fmt: skip
    expiry = doc.root.entry("steering").number("expiry", parse_duration)
    for rule in doc.rule_list:
        if not isinstance(rule.raw, dict):
            continue
        yield from doc.known(rule, "site", "site", doc.sites)
        yield from doc.known(rule, "model", "model", doc.models)
        yield from engine_faults(doc, rule)
        for keys in (
            ("site", "site_label", "node_label", "site_template"),
            ("model", "model_label"),
        ):
            given = [key for key in keys if rule.get(key) is not None]
            if len(given) != 1:
                yield doc.at(
                    rule, given[1] if given else None, "says it twice; keep one of"
                    f" {', '.join(given)}" if given else "does not say which"
                    f" {keys[0]} its instances are of; give one of {', '.join(keys)}"
                )  # fmt: skip
        kind = rule.text("kind")
        for key, kinds in _KEYS_OF_KINDS.items():
            if kind is not None and rule.get(key) is not None and kind not in kinds:
                yield doc.at(rule, key, f"means nothing to {kind}; remove it")
        yield from pair_faults(doc, rule)
        scrape = rule.entry("scrape")
        yield from scrape_faults(doc, scrape, Steering().expiry if expiry is None else expiry)
        if scrape.get("ca") is not None and scrape.get("https") is not True:
            yield doc.at(scrape, "ca", "is for https; add https: true, or remove it")
        power = rule.entry("power")
        idle, busy = power.number("idle", parse_power), power.number("busy", parse_power)
        if idle is not None and busy is not None and busy < idle:
            yield doc.at(power, "busy", "is less than idle; busy is the draw at full load")


def pair_faults(doc: Sections, rule: Entry) -> Iterator[Fault]:
    """Check keys of a rule of which one makes the other mean nothing."""
    if rule.get("members") is True and rule.get("http_routes") is True:
        yield doc.at(rule, "http_routes", "means nothing to members of pools; remove it")
    if rule.get("port") is not None and rule.get("port_name") is not None:
        yield doc.at(rule, "port_name", "is not asked where port is given; keep one")


def cluster_faults(doc: Sections) -> Iterator[Fault]:
    """Check the clusters of discovery, and where its rules look."""
    clusters = doc.root.entry("discovery").entries("clusters")
    yield from doc.unique(clusters, "cluster")
    for cluster in clusters:
        given = [key for key in ("api", "kubeconfig") if cluster.get(key) is not None]
        if isinstance(cluster.raw, dict) and len(given) != 1:
            reported = (
                "says it twice; keep one of" if given else "does not say where its API is; give"
            )
            yield doc.at(cluster, given[1] if given else None, f"{reported} api, kubeconfig")
    for rule in doc.rule_list:
        if rule.get("cluster") is not None and not clusters:
            yield doc.at(rule, "cluster", "names one, and discovery.clusters is empty")
        yield from doc.known(rule, "cluster", "cluster", Names(clusters))
        listed = rule.get("namespaces")
        if rule.get("namespace") is not None and listed is not None:
            yield doc.at(rule, "namespaces", "is given beside namespace; keep one")
        if isinstance(listed, list) and "*" in listed and len(listed) > 1:
            yield doc.at(rule, "namespaces", 'names others beside "*", which is all; keep one')
