"""What is wrong with a fleet and what to do about it: `cats doctor`.

Examinations of the documents of a running control plane are here, and pure; `certificates` reads
files and `reachability` asks hosts.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from controlplane.config import Config
from controlplane.controller.discovery_status import HTTP_ROUTES
from controlplane.diagnostics.answers import examine_answers
from controlplane.diagnostics.certificates import examine_certificates
from controlplane.diagnostics.finding import Finding
from controlplane.diagnostics.reachability import examine_discovery, examine_names, examine_scrapes
from controlplane.resources.generations import OLDEST_SUPPORTED
from controlplane.sources.dns import DnsResolver

SKEW = 2.0
"""Seconds that two clocks may be apart; ages are judged against expiries of some ten seconds."""
LAG = 10.0
"""Seconds without an acknowledgement that are reported."""


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
            rule["remedy"] or "check the API server",
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
        found += [*examine_fleet(fleet), *examine_failing(fleet), *examine_answers(fleet)]
        found += examine_envoys(envoys)
    return sorted(found, key=lambda finding: finding.level)
