"""Rules on instances, their engines, models and metrics pages, and on agents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from controlplane.config.addresses import canonical_endpoint
from controlplane.config.document import dotted
from controlplane.config.engine import Engine
from controlplane.config.faults import nearest
from controlplane.config.rules.sections import Entry, Sections, models_of
from controlplane.config.schema.envoy import Envoy
from controlplane.config.schema.instances import Instance, Scrape
from controlplane.config.schema.steering import Steering
from controlplane.config.units import parse_duration, parse_power
from controlplane.errors import Fault


def instance_faults(doc: Sections) -> Iterator[Fault]:
    """Check instances: names they refer to, addresses, metrics pages, power."""
    expiry = doc.root.entry("steering").number("expiry", parse_duration)
    expiry = Steering().expiry if expiry is None else expiry
    addresses: dict[tuple[str, str], list[Entry]] = {}
    for instance in doc.instance_list:
        yield from doc.known(instance, "site", "site", doc.sites)
        yield from doc.known(instance, "model", "model", doc.models)
        yield from engine_faults(doc, instance)
        yield from instance_model_faults(doc, instance)
        site = instance.text("site") or ""
        address = instance.text("address")
        if address is not None:
            key = (site if site in doc.devices else "", canonical_endpoint(address))
            yield from place_faults(doc, instance, addresses.setdefault(key, []))
            addresses[key].append(instance)
            host, _, port = address.rpartition(":")
            if host in ("127.0.0.1", "[::1]") and port == str(listener_port(doc, site)):
                yield doc.at(
                    instance, "address", f"port {port} is where the Envoys of '{site}' listen;"
                    " requests would go in a circle, so choose another"
                )  # fmt: skip
        yield from scrape_faults(doc, instance.entry("scrape"), expiry)
        orca = instance.entry("orca")
        if isinstance(orca.raw, dict) and orca.get("port") is orca.get("address") is None:
            yield doc.at(orca, None, "says not where; give port, or address as IP:PORT")
        power = instance.entry("power")
        idle, busy = power.number("idle", parse_power), power.number("busy", parse_power)
        if idle is not None and busy is not None and busy < idle:
            yield doc.at(power, "busy", "is less than idle; busy is the draw at full load")


def place_faults(doc: Sections, instance: Entry, others: Iterable[Entry]) -> Iterator[Fault]:
    """Check that *instance* has room at its address beside *others*; see `config.places`."""
    address = instance.text("address")
    for other in others:
        name = other.text("name") or dotted(other.path)
        reported = f"'{address}' is already the address of '{name}'"
        if _gateway_key(instance) == _gateway_key(other):
            yield doc.at(instance, "address", f"{reported}; an address is one instance")
            return
        for service in doc.service_list:
            listed = {each.text("name") for each in service.entries("models")}
            if listed & models_of(instance) and listed & models_of(other):
                yield doc.at(
                    instance, "address", f"{reported}, and the service '{service.text('name')}' has"
                    " both; have the gateway listen for one of them at another port"
                )  # fmt: skip
                return


def _gateway_key(instance: Entry) -> tuple[str, str]:
    gateway = instance.entry("gateway")
    host, path = gateway.text("host") or "", gateway.text("path") or ""
    return host.lower().removesuffix("."), path.rstrip("/")


def engine_faults(doc: Sections, entry: Entry) -> Iterator[Fault]:
    """Check that an engine is known, or a dialect of the file."""
    name = entry.text("engine")
    own = doc.root.entry("telemetry").get("dialects")
    names = [*(engine.value for engine in Engine), *(own if isinstance(own, dict) else ())]
    if name is not None and name not in names:
        listed = [each for each in names if isinstance(each, str)]
        hint = nearest(name, listed) or f"; it is one of {', '.join(listed)}"
        yield doc.at(
            entry,
            "engine",
            f"'{name}' is neither an engine nor one of telemetry.dialects{hint}",
        )


def instance_model_faults(doc: Sections, instance: Entry) -> Iterator[Fault]:
    """Check that an instance says what it runs, in one way."""
    if not isinstance(instance.raw, dict):
        return
    several = instance.get("models")
    if several is None:
        if instance.get("model") is None and not set(instance.raw) - Instance.model_fields.keys():
            yield doc.at(instance, None, "runs nothing; give model, or models for several")
        return
    if instance.get("model") is not None:
        yield doc.at(instance, "model", "is one model, and models lists several; keep one key")
    if instance.get("served_as") is not None:
        yield doc.at(
            instance, "served_as", "belongs to one model; write it beside each of models, as"
            " {name: NAME, served_as: WHAT}"
        )  # fmt: skip
    if several == []:
        yield doc.at(instance, "models", "is empty; list what the instance serves")
    yield from listed_model_faults(doc, instance, several)


def listed_model_faults(doc: Sections, instance: Entry, several: Any) -> Iterator[Fault]:
    """Check the models that an instance lists."""
    seen: set[str] = set()
    for index, each in enumerate(several if isinstance(several, list) else ()):
        name = each.get("name") if isinstance(each, dict) else each
        path = (*instance.path, "models", index)
        if not isinstance(name, str):
            continue
        if name not in doc.models.entries and doc.models.complete:
            hint = nearest(name, doc.models.entries)
            yield doc.fault(path, f"no model is named '{name}'{hint}")
        if name in seen:
            yield doc.fault(path, f"'{name}' is listed twice; remove one")
        seen.add(name)


def scrape_faults(doc: Sections, scrape: Entry, expiry: float) -> Iterator[Fault]:
    """Check that a page is read often enough for its values to stay known, which last *expiry*."""
    period = scrape.number("period", parse_duration)
    timeout = scrape.number("timeout", parse_duration)
    effective = Scrape.model_fields["period"].default if period is None else period
    if timeout is not None and timeout > effective > 0:
        yield doc.at(
            scrape, "timeout", f"is longer than the period ({_seconds(effective)});"
            " a scrape must end before the next begins"
        )  # fmt: skip
    if period is not None and period >= expiry > 0:
        yield doc.at(
            scrape, "period", f"is not shorter than steering.expiry ({_seconds(expiry)});"
            " the instance would be forgotten between two scrapes"
        )  # fmt: skip
    url = scrape.text("url") or ""
    for key in ("ca", "cert") if url.startswith("http://") else ():
        if scrape.get(key) is not None:
            yield doc.at(scrape, key, "is for https, and the url is http; change one")


def agent_faults(doc: Sections) -> Iterator[Fault]:
    """Check what agents may report, and that each can be identified."""
    agents = doc.root.entry("server").entries("agents")
    yield from doc.unique(agents, "agent")
    for agent in agents:
        given = 0
        for key, what, names in (
            ("sites", "site", doc.sites), ("instances", "instance", doc.instances)
        ):  # fmt: skip
            listed = agent.get(key)
            listed = listed if isinstance(listed, list) else []
            given += len(listed)
            for index, name in enumerate(listed):
                if isinstance(name, str) and names.complete and name not in names.entries:
                    yield doc.fault(
                        (*agent.path, key, index),
                        f"no {what} is named '{name}'{nearest(name, names.entries)}",
                    )
        tls = doc.root.entry("server").entry("tls")
        if (
            isinstance(agent.raw, dict)
            and agent.get("token_hash_file") is None
            and tls.get("client_ca") is None
        ):
            yield doc.at(
                agent, None, "could be anybody; give token_hash_file, or server.tls.client_ca"
                " so that agents show certificates"
            )  # fmt: skip
        if not given and isinstance(agent.raw, dict):
            yield doc.at(agent, None, "may report nothing; give sites, instances or both")


def listener_port(doc: Sections, site: str) -> int:
    """Return the port that the Envoys of *site* listen on."""
    own = doc.sites.entries.get(site, Entry((), None)).entry("listener").get("port")
    port = doc.root.entry("envoy").get("port") if own is None else own
    return port if isinstance(port, int) else Envoy().port


def _seconds(duration: float) -> str:
    return f"{duration:g}s"
