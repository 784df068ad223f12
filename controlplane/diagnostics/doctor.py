"""What is wrong with a fleet and what to do about it: `cats doctor`.

Each examination gives findings; those of documents are pure, the others read files and ask hosts.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from controlplane.config import Config, Discovery, Instance, Tls
from controlplane.config.resolution import SHARED_ADDRESS_REMEDY, names_of, shared_addresses
from controlplane.controller.discovery_status import HTTP_ROUTES
from controlplane.controller.followers import sources_of
from controlplane.errors import ReportError
from controlplane.model import InstanceReport
from controlplane.resources.versions import OLDEST_SUPPORTED
from controlplane.sources.dns import Answer, DnsResolver
from controlplane.sources.kubernetes.access import Access, AccessError
from controlplane.sources.kubernetes.client import ApiClient, ApiError, Failure, new_session
from controlplane.sources.kubernetes.watches import Watch
from controlplane.sources.names import first_choice, usable_addresses
from controlplane.sources.pages import fetch_page, remedy_of
from controlplane.sources.pages import new_session as new_scrape_session
from controlplane.sources.scrape import read_page
from controlplane.telemetry.engines import Dialect
from controlplane.telemetry.engines.custom import build_dialects

EXPIRY_WARNING = 14 * 86400.0
"""Seconds before a certificate's end from which it is reported."""
SKEW = 2.0
"""Seconds that two clocks may be apart; ages are judged against expiries of some ten seconds."""
LAG = 10.0
"""Seconds without an acknowledgement that are reported."""
RESOLVED_WITHIN = 5.0
"""Seconds that a DNS answer may take."""
AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or soon will be."""

    level: Literal["bad", "warning"]
    what: str
    remedy: str


def examine_certificates(config: Config, *, unix_now: float) -> Iterator[Finding]:
    """Look at the files of ``server.tls`` and ``server.admin.tls``."""
    for name, tls in (
        ("server.tls", config.server.tls),
        ("server.admin.tls", config.server.admin.tls),
    ):
        if tls is not None:
            yield from _examine_tls(name, tls, unix_now=unix_now)


def _examine_tls(name: str, tls: Tls, *, unix_now: float) -> Iterator[Finding]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        yield Finding(
            "bad", f"{name}: {tls.cert} and {tls.key} do not fit ({error.reason})",
            "put a certificate and its own key there; they are read again without a restart",
        )  # fmt: skip
        return
    except OSError as error:
        yield Finding(
            "bad", f"{name}: {error.filename or tls.cert}: {error.strerror}",
            "fix the path, and let the server's user read it",
        )  # fmt: skip
        return
    for file in filter(None, (tls.cert, tls.client_ca)):
        ends = _end_of(file)
        if ends is None:
            yield Finding("bad", f"{name}: {file}: no certificate in it", "put a PEM file there")
        elif ends <= unix_now:
            yield Finding("bad", f"{name}: {file} ended {_day(ends)}", "renew it now")
        elif ends - unix_now < EXPIRY_WARNING:
            yield Finding("warning", f"{name}: {file} ends {_day(ends)}", "renew it")


def _day(unix: float) -> str:
    return dt.datetime.fromtimestamp(unix, dt.UTC).date().isoformat()


def _end_of(file: str) -> float | None:
    # The standard library reads a certificate's fields only here; nothing else is worth a package.
    decode: Any = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        return ssl.cert_time_to_seconds(decode(file)["notAfter"])
    except (OSError, ValueError, KeyError):
        return None


async def examine_scrapes(config: Config) -> list[Finding]:
    """Read the metrics of every instance that we would scrape, from here, as ``serve`` does."""
    scraped = [item for item in config.instances if item.scrape is not None]
    dialects = build_dialects(config.telemetry.dialects)
    gate = asyncio.Semaphore(AT_ONCE)
    async with new_scrape_session() as http:

        async def one(instance: Instance) -> list[Finding]:
            async with gate:
                return await _examine_scrape(http, instance, dialects)

        return [finding for found in await asyncio.gather(*map(one, scraped)) for finding in found]


async def _examine_scrape(
    http: aiohttp.ClientSession, instance: Instance, dialects: Mapping[str, Dialect]
) -> list[Finding]:
    scrape = instance.scrape
    if scrape is None:
        return []
    try:
        text = await fetch_page(scrape, http)
        report = read_page(text, instance, at=0.0, wall=time.time(), dialects=dialects)
    except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
        reason, remedy = remedy_of(error)
        return [Finding("bad", f"{instance.name}: {scrape.url} cannot be read: {reason}", remedy)]
    return list(_examine_report(instance, report))


async def examine_names(
    config: Config, look_up: Callable[[str], Awaitable[Answer]]
) -> list[Finding]:
    """Resolve the DNS names of instances' addresses, from here, as ``serve`` does."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> str | Finding:
        try:
            async with gate, asyncio.timeout(RESOLVED_WITHIN):
                usable = usable_addresses(await look_up(name))
        except OSError as error:  # a timeout is one
            reason = error.strerror or str(error) or f"no answer within {RESOLVED_WITHIN:.0f} s"
        else:
            return first_choice(usable)
        those = ", ".join(each.name for each in config.instances if each.host == name)
        return Finding(
            "bad",
            f"the DNS name {name} of {those} is not resolved: {reason}",
            "fix the name or the resolver, or look from where the control plane runs;"
            " without an address an instance gets no requests",
        )

    names = sorted(names_of(config))
    found = dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
    addresses = {name: each for name, each in found.items() if isinstance(each, str)}
    return [
        *(each for each in found.values() if isinstance(each, Finding)),
        *(
            Finding(
                "bad",
                f"{name} gets no requests: its name resolves to the address of {holder}",
                SHARED_ADDRESS_REMEDY,
            )
            for name, holder in shared_addresses(config, addresses).items()
        ),
    ]


def _examine_report(instance: Instance, report: InstanceReport) -> Iterator[Finding]:
    name, engine = instance.name, str(instance.engine)
    if not report.ready:
        yield Finding(
            "bad", f"{name}: it gets no requests: {report.not_ready_reason}", "see its own log"
        )
    if report.missing:
        names = ", ".join(signal.value for signal in report.missing)
        yield Finding(
            "warning", f"{name}: its metrics lack {names}",
            f"see that the engine is {engine} and exports them; steering uses its prior meanwhile",
        )  # fmt: skip
    for line in report.refused:
        yield Finding("warning", f"{name}: {line}", "see its engine in the configuration")
    for line in report.ignored:
        if "repeats" in line:
            yield Finding(
                "warning", f"{name}: {line}", "see what exports this page, or filter its series"
            )


def unexamined(config: Config | None, *, running: bool) -> tuple[str, ...]:
    """Return what was not looked at, a clause each."""
    left: list[str] = []
    if config is None:
        left.append("certificates, metrics pages and discovery (give -c fleet.yaml)")
    else:
        unscraped = sum(item.scrape is None for item in config.instances)
        if unscraped:
            left.append(f"metrics of {unscraped} instances that are not scraped")
        left.append("whether instances answer requests, and their own certificates")
    if not running:
        left.append(
            "Envoys, agents, clocks and what the control plane knows of instances (add --admin)"
        )
    return tuple(left)


async def examine_discovery(config: Config) -> list[Finding]:
    """Ask the Kubernetes API, from here, for one object of each kind that a rule needs."""
    discovery = config.discovery
    if discovery is None:
        return []
    found: list[Finding] = []
    wanted: dict[str, dict[Watch, list[str]]] = {}
    for source in sources_of(config):
        for key in source.keys:
            wanted.setdefault(key.name, {}).setdefault(key.wanted, []).append(source.name)
    async with new_session() as http:
        for name, of_cluster in wanted.items():
            found += await _examine_cluster(discovery, name, of_cluster, http)
    return found


async def _examine_cluster(
    discovery: Discovery,
    name: str,
    wanted: Mapping[Watch, list[str]],
    http: aiohttp.ClientSession,
) -> list[Finding]:
    cluster = discovery.cluster(name)
    try:
        Access(cluster).place()
    except AccessError as error:
        if name:
            return [Finding("bad", f"cluster {name}: {error}", error.remedy)]
        remedy = "run it where the control plane runs, or ask that one with --admin"
        return [Finding("warning", f"discovery cannot be tried from here: {error}", remedy)]
    except OSError:
        pass  # reported below, with its remedy
    client = ApiClient(cluster, http)
    found = []
    for each, rules in wanted.items():
        of = f"rule {', '.join(rules)}: {each.resource.name}"
        try:
            page = await client.list_page(
                each.resource, each.namespace, selector=each.selector, limit=1
            )
        except ApiError as error:
            found.append(Finding("bad", f"{of} cannot be read: {error}", error.remedy))
            if error.failure is Failure.UNREACHABLE:
                break  # nor can the others, and each would wait as long
            continue
        if not page.items:
            found.append(
                Finding(
                    "warning", f"{of}: none in {each.namespace or 'the cluster'}",
                    "see namespace, selector and service of the rule",
                )
            )  # fmt: skip
    return found


def examine_clock(date_header: str | None, *, unix_now: float) -> Iterator[Finding]:
    """Compare our clock with the control plane's, which wrote *date_header*."""
    try:
        theirs = email.utils.parsedate_to_datetime(date_header or "").timestamp()
    except (TypeError, ValueError):
        return
    apart = abs(unix_now - theirs - 0.5)  # the header has whole seconds
    if apart > SKEW:
        yield Finding(
            "warning", f"the control plane's clock and this one are {apart:.0f} s apart",
            "run an NTP client on both; agents' reports are dated by their own clocks",
        )  # fmt: skip


def examine_fleet(fleet: Any) -> Iterator[Finding]:
    """Look at ``/api/v1/fleet``."""
    if fleet["frozen"]:
        yield Finding(
            "bad", "all instances silent; plan frozen",
            "see whether their metrics can be reached, or the agents run",
        )  # fmt: skip
    for fault in fleet["config"]["faults"]:
        yield Finding("bad", f"the newest configuration is refused: {fault}", "fix the file")
    for rule in fleet.get("discovery", ()):
        yield from _examine_rule(rule)
    for item in fleet["instances"]:
        name, phase = item["name"], item["phase"]
        remedy = _PHASES.get(phase)
        if remedy is not None:
            level: Literal["bad", "warning"] = "warning" if phase in ("unknown", "stale") else "bad"
            reason = f": {item['reason']}" if item["reason"] else ""
            since = f" for {item['since']:.0f} s" if item.get("since") else ""
            awaited = f"; it awaits {item['awaited']}" if item.get("awaited") else ""
            yield Finding(
                level, f"{name} is {phase.replace('_', ' ')}{since}{reason}{awaited}", remedy
            )
        if item["missing"]:
            yield Finding(
                "warning", f"{name} does not report {', '.join(item['missing'])}",
                "see that its engine is the configured one and of a present version",
            )  # fmt: skip
        if item.get("disbelieved") and remedy is None:
            yield Finding(
                "warning",
                f"{name}: {', '.join(item['disbelieved'])} not believed: {item['reason']}",
                "see docs/phases.md; traffic goes on by what Envoys see",
            )
        if item["trust"] < 0.9:
            yield Finding(
                "warning", f"{name} is trusted by {item['trust']:.0%}: Envoys see other latencies",
                "see whether its metrics are of this instance, or something stands between",
            )  # fmt: skip


def examine_failing(fleet: Any) -> Iterator[Finding]:
    """Look at what instances fail that others answer, in ``/api/v1/fleet``."""
    for item in fleet.get("failing", ()):
        yield Finding(
            "bad",
            f"{item['instance']} fails {item['probability']:.0%} of its requests for"
            f" {item['service']} more than other instances do ({item['class'].replace('_', ' ')})"
            f" for {item['since']:.0f} s; it awaits {item['awaited']}",
            f"see the log of {item['instance']}, and 'cats explain {item['service']}'",
        )


def _examine_rule(rule: Any) -> Iterator[Finding]:
    name = rule["rule"]
    if not rule["ok"]:
        age = "" if rule["age"] is None else f" for {rule['age']:.0f} s"
        yield Finding(
            "bad", f"rule {name}: the Kubernetes API does not answer{age}: {rule['reason']}",
            rule["remedy"] or "see the API server",
        )  # fmt: skip
    if rule["held"]:
        yield Finding(
            "bad", f"rule {name}: {rule['held']} instances are gone and kept, since nothing else"
            " serves their service", "see their pods, and the selector of the rule",
        )  # fmt: skip
    if rule["kind"] == HTTP_ROUTES and rule["ok"] and rule["listed"] and not rule["matches"]:
        yield Finding(
            "warning", f"rule {name}: no HTTPRoute leads to its pool or Service",
            "see the backendRefs of the HTTPRoutes, and route_namespaces",
        )  # fmt: skip
    for item in rule["refused"]:
        yield Finding(
            "warning", f"rule {name}: {item['name']} does not take part ({item['clash']})",
            item["message"],
        )  # fmt: skip
    if (more := rule["refused_count"] - len(rule["refused"])) > 0:
        yield Finding("warning", f"rule {name}: {more} more do not take part", "see /api/v1/fleet")


_PHASES = {
    "unknown": "give it a scrape, or run an agent beside it; what Envoys see counts until then",
    "stale": "see whether its metrics answer in time; what Envoys see counts until then",
    "expired": "see whether it runs and can be reached; a report or an answered trial ends it",
    "not_ready": "see its own log; it says itself that it must get nothing",
    "quarantined": "its reports cannot be true and do not count; see what exports its metrics",
}


def examine_envoys(document: Any) -> Iterator[Finding]:
    """Look at ``/api/v1/envoys``."""
    if not document["envoys"]:
        yield Finding(
            "warning", "no Envoy is connected",
            "start one with the output of cats bootstrap, and see its log",
        )  # fmt: skip
    for envoy in document["envoys"]:
        if not envoy["known_site"]:
            yield Finding(
                "warning", f"Envoy {envoy['id']} names the unknown site '{envoy['site']}'",
                "add the site, or fix node.metadata.site in its bootstrap",
            )  # fmt: skip
        if not envoy.get("supported", True):
            yield Finding(
                "bad", f"Envoy {envoy['id']} is {envoy['agent']}, older than {OLDEST_SUPPORTED}",
                f"upgrade it to {OLDEST_SUPPORTED} or newer; its requests are not observed until"
                " then",
            )  # fmt: skip
        for kind, state in envoy["types"].items():
            if state["refused"]:
                yield Finding(
                    "bad", f"Envoy {envoy['id']} refuses {kind}: {state['refusal']}",
                    "it keeps the last one it took; see its version, and report the text to us",
                )  # fmt: skip
            elif state["acknowledged"] != state["sent"]:
                waited = document["at"] - (state["sent_at"] or document["at"])
                if waited > LAG:
                    yield Finding(
                        "warning", f"Envoy {envoy['id']} owes {kind} an answer for {waited:.0f} s",
                        "see whether it hangs, and its network",
                    )  # fmt: skip


async def examine(config: Config | None, documents: Iterable[Any]) -> list[Finding]:
    """Make every examination there is input for.

    Args:
        config: what ``-c`` names, if it does.
        documents: date header, fleet and envoys of a running control plane, or nothing.
    """
    found: list[Finding] = []
    if config is not None:
        found += examine_certificates(config, unix_now=time.time())
        with DnsResolver() as dns:
            found += await examine_names(config, dns.look_up)
        found += await examine_scrapes(config)
        found += await examine_discovery(config)
    given = tuple(documents)
    if given:
        date, fleet, envoys = given
        found += examine_clock(date, unix_now=time.time())
        found += [*examine_fleet(fleet), *examine_failing(fleet)]
        found += examine_envoys(envoys)
    return sorted(found, key=lambda finding: finding.level)
