"""What a valid document says that would hardly be meant."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from controlplane.config.rules.sections import Sections, models_of
from controlplane.config.units import NEVER, parse_duration, parse_penalty
from controlplane.errors import Fault


def scrape_warnings(doc: Sections) -> Iterator[Fault]:
    """Warn of metrics' URLs that name a host alone: engines serve a page of their own there."""
    for instance in doc.instance_list:
        scrape = instance.entry("scrape")
        url = scrape.text("url") or ""
        if url and urlsplit(url).path in ("", "/") and not urlsplit(url).query:
            yield doc.at(
                scrape,
                "url",
                f"has no path; engines serve metrics at {url.rstrip('/')}/metrics",
            )


def warnings(doc: Sections) -> Iterator[Fault]:
    """Return what a valid document says that would hardly be meant."""
    yield from scrape_warnings(doc)
    running = {name for e in (*doc.instance_list, *doc.rule_list) for name in models_of(e)}
    anything = any(rule.get("model_label") is not None for rule in doc.rule_list)
    regions = {e.text("name"): e.text("region") or "" for e in doc.site_list}
    policies = {e.text("name"): e.text("policy") for e in doc.service_list}
    default = doc.root.entry("steering").text("policy")
    for service in doc.service_list:
        usable = {
            m.text("name")
            for m in service.entries("models")
            if m.number("penalty", parse_penalty) != NEVER
        }
        if not usable & running and not anything:
            yield doc.at(
                service, "models", "no instance runs any of these; requests get 503"
                " until one is added"
            )  # fmt: skip
        allow = service.entry("residency").get("allow")
        if (
            allow
            and not doc.rule_list
            and not any(
                models_of(e) & usable and regions.get(e.text("site")) in allow
                for e in doc.instance_list
            )
        ):
            yield doc.at(
                service, "residency", "no instance of its models is in these regions;"
                " requests get 503 until one is added"
            )  # fmt: skip
        timeout = service.number("timeout", parse_duration)
        latency = service.entry("slo").number("latency", parse_duration)
        if timeout and latency and timeout < latency:
            yield doc.at(service, "timeout", "cuts answers that slo.latency still allows")
    for override in doc.override_list:
        policy = policies.get(override.text("service")) or default
        if override.get("weight") is not None and not (
            policy == "static" or override.get("pin") is True
        ):
            yield doc.at(
                override, "weight", "has no effect until the policy is static or"
                " the override also has pin: true"
            )  # fmt: skip
    for instance in doc.instance_list:
        if instance.get("tls") is False and not doc.root.entry("envoy").get("instance_tls"):
            yield doc.at(
                instance, "tls", "has no effect: no instance is spoken to in TLS until"
                " envoy.instance_tls is set"
            )  # fmt: skip
    yield from idle_affinity_timeouts(doc)
    yield from idle_batteries(doc)
    yield from idle_device_shares(doc)
    yield from idle_pins(doc)
    yield from idle_prices(doc)
    yield from unread_models(doc)
    yield from canary_warnings(doc)
    yield from shared_localities(doc)


def idle_affinity_timeouts(doc: Sections) -> Iterator[Fault]:
    """Warn of times after which sessions would be forgotten, which a hash does not remember."""
    for service in doc.service_list:
        affinity = service.entry("affinity")
        if affinity.get("timeout") is not None and affinity.get("cookie") is None:
            yield doc.at(
                affinity, "timeout", "has no effect: a hash of the header places sessions, however"
                " long they pause; leave it out"
            )  # fmt: skip


def idle_batteries(doc: Sections) -> Iterator[Fault]:
    """Warn of batteries of sites that are no devices."""
    for site in doc.site_list:
        if site.get("battery") is not None and site.text("kind") != "device":
            yield doc.at(
                site, "battery", "has no effect: only a device's battery is spared; leave it out,"
                " or make the site's kind device"
            )  # fmt: skip


def idle_device_shares(doc: Sections) -> Iterator[Fault]:
    """Warn of shares of devices under rules, which keep a device as the last resort."""
    devices = {e.text("name") for e in doc.site_list if e.text("kind") == "device"}
    home = {e.text("name"): e.text("site") for e in doc.instance_list}
    default = doc.root.entry("steering").text("policy") or "optimal"
    policies = {e.text("name"): e.text("policy") or default for e in doc.service_list}
    for override in doc.override_list:
        place = override.text("site") or home.get(override.text("instance"))
        if place not in devices or override.get("pin") is True:
            continue
        service = override.text("service")
        deciding = {policies.get(service)} if service else set(policies.values())
        for key in ("min_share", "weight"):
            if override.get(key) is not None and "optimal" not in deciding:
                yield doc.at(
                    override, key, f"has no effect: under this policy the instances of the device"
                    f" site {place} answer when nothing else does; pin them, or use policy optimal"
                )  # fmt: skip


def idle_pins(doc: Sections) -> Iterator[Fault]:
    """Warn of services that a pin of a site leaves alone, since nothing there may serve them."""
    if doc.rule_list:
        return  # what is discovered may be there
    for override in doc.override_list:
        site = override.text("site")
        if override.get("pin") is not True or not site:
            continue
        there = {name for e in doc.instance_list if e.text("site") == site for name in models_of(e)}
        alone = [
            service.text("name") or ""
            for service in doc.service_list
            if override.text("service") in (None, service.text("name"))
            and not there & {m.text("name") for m in service.entries("models")}
        ]
        if alone:
            yield doc.at(
                override, "pin", f"leaves {', '.join(alone[:5])} alone: no instance at {site} runs"
                " their models"
            )  # fmt: skip


def idle_prices(doc: Sections) -> Iterator[Fault]:
    """Warn of prices that nothing weighs against delay."""
    steering = doc.root.entry("steering")
    if steering.get("energy_value"):
        return
    for key in ("carbon_price", "tariffs"):
        if steering.get(key):
            yield doc.at(steering, key, "has no effect without energy_value; set it")
    for owner in (*doc.service_list, *doc.instance_list):
        if owner.get("price"):
            yield doc.at(owner, "price", "has no effect without steering.energy_value; set it")


def unread_models(doc: Sections) -> Iterator[Fault]:
    """Warn of matches on a model that Envoys do not read: that of gRPC messages."""
    for service in doc.service_list:
        listed = (doc.models.entries.get(m.text("name") or "") for m in service.entries("models"))
        spoken = {model.text("protocol") for model in listed if model is not None}
        own = service.text("protocol") or "auto"
        if own != "grpc" and not (own == "auto" and "grpc" in spoken):
            continue
        for match in service.entries("match"):
            if match.get("model") is not None:
                yield doc.at(
                    match,
                    "model",
                    "is read of JSON and forms, and the service speaks gRPC, whose messages never"
                    " match; match the method's path, such as"
                    " /inference.GRPCInferenceService/*, or a header",
                )


def canary_warnings(doc: Sections) -> Iterator[Fault]:
    """Warn of canaries that never take effect."""
    steering = doc.root.entry("steering")
    if isinstance(steering.get("canary"), dict) and all(
        s.text("policy") or s.get("canary") for s in doc.service_list
    ):
        yield doc.at(
            steering, "canary", "has no effect: every service has a policy or a canary of its"
            " own"
        )  # fmt: skip
    if steering.text("mode") == "observe":
        for owner in (steering, *doc.service_list):
            if isinstance(owner.get("canary"), dict):
                yield doc.at(
                    owner, "canary", "is only proposed in observe mode; to push it at that site"
                    " alone, use mode: steer and policy: static"
                )  # fmt: skip


def shared_localities(doc: Sections) -> Iterator[Fault]:
    """Warn of sites that Envoys cannot distinguish by locality."""
    seen: dict[tuple[str, str], str] = {}
    for site in doc.site_list:
        region, zone, name = (site.text(key) or "" for key in ("region", "zone", "name"))
        if region and zone and seen.setdefault((region, zone), name) != name:
            yield doc.at(
                site, "zone", f"site '{seen[region, zone]}' has the same region and zone;"
                " Envoys that do not name their site in node.metadata.site belong to neither"
            )  # fmt: skip
