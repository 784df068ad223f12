"""What needs an operator now, from the overview: each alert once, with since when and what to do.

The alert rules in deploy/monitoring watch the metrics over time and page people; these name what is
the case at this instant, for those who look. Pure: documents in, documents out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Document = dict[str, Any]

MOST = 100
"""Alerts listed."""
NAMED = 6
"""Instances or sites named in one alert; more are counted."""
CLOCK = 2.0
"""Seconds that an agent's clock may be off."""

KEPT = 60.0
"""Seconds for which an alert that has ended keeps its date.

An instance that goes on trial for some seconds and fails it has not been well meanwhile.
"""

_OUT = ("expired", "not_ready", "quarantined")


class AlertBook:
    """Remembers since when each alert has been the case."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}
        """Alert -> when it began and when it was last the case, Unix times."""

    def date(self, alerts: Iterable[Document], *, at: float) -> list[Document]:
        """Return *alerts* with ``since`` (Unix time), the worst first.

        One that was gone for less than `KEPT` has the date of its first time.
        """
        found = {alert["id"]: alert for alert in alerts}
        lately = {name: seen for name, seen in self._seen.items() if at - seen[1] < KEPT}
        now = {name: (lately.get(name, (at, at))[0], at) for name in found}
        self._seen = {**lately, **now}
        dated = [{**alert, "since": now[name][0]} for name, alert in found.items()]
        dated.sort(key=lambda alert: (alert["level"] != "bad", alert["since"]))
        return dated[:MOST]


def find_alerts(
    overview: Mapping[str, Any], *, agents: Iterable[Mapping[str, Any]] = (), bus_ok: bool = True
) -> Iterator[Document]:
    """Yield the alerts of an overview.

    Args:
        overview: a document of `admin_api.overview`.
        agents: the connected agents, of `admin_api.documents.encode_agents`.
        bus_ok: whether the other replicas can be reached, where there are some.
    """
    if overview["frozen"]:
        yield _alert(
            "bad", "fleet silent", "", "Every instance is silent; the last plan is kept.",
            "Check whether the metrics of instances can be reached from the control plane.",
        )  # fmt: skip
    if not bus_ok:
        yield _alert(
            "bad", "bus unreachable", "", "Other replicas cannot be heard; the last plan stays.",
            "Check NATS and its JetStream.",
        )  # fmt: skip
    for fault in overview["config"]["faults"]:
        yield _alert(
            "bad", "configuration rejected", fault.partition(": ")[0], fault,
            "Fix the file; the last good configuration keeps serving.",
        )  # fmt: skip
    for item in overview["refusals"]:
        yield _alert(
            "bad", "resources rejected", f"{item['envoy']} {item['type']}",
            f"{item['envoy']} at {item['site'] or 'an unknown site'} rejects {item['type']}:"
            f" {item['text']}",
            "Its last good resources keep serving; see the reason, and the version of Envoy.",
            envoy=item["envoy"],
        )  # fmt: skip
    yield from _site_alerts(overview)
    yield from _instance_alerts(overview)
    yield from _note_alerts(overview)
    for agent in agents:
        if abs(agent["clock_offset"]) > CLOCK:
            yield _alert(
                "warn", "clock off", agent["id"],
                f"The clock of agent {agent['id']} is off by {agent['clock_offset']:.1f} s.",
                "Synchronise the clock of its machine; ages of its reports are corrected.",
            )  # fmt: skip


def _site_alerts(overview: Mapping[str, Any]) -> Iterator[Document]:
    dead = [
        site["name"]
        for site in overview["sites"]
        if site["phases"] and all(phase in _OUT for phase in site["phases"])
    ]
    if dead:
        # One alert however many: who loses a network loses many sites at once.
        yield _alert(
            "bad", "site out of service", "",
            f"No instance is in service at {_some(dead)}.",
            "Check their network and instances; 'cats doctor' does both.", site=dead[0],
        )  # fmt: skip
    for site in overview["sites"]:
        name = site["name"]
        if site["lagging"]:
            yield _alert(
                "warn", "Envoys lag", name,
                f"{site['lagging']} of {site['envoys']} Envoys at {name} have not acknowledged the"
                " endpoints that are served.",
                "See their connections and their logs.", site=name,
            )  # fmt: skip
        power, budget = site["power"], site["power_budget"]
        if power is not None and budget and power > budget:
            yield _alert(
                "warn", "power budget exceeded", name,
                f"{name} draws {power:.0f} W of {budget:.0f} W.",
                "Steering keeps new load away; lower the load of others, or raise the budget.",
                site=name,
            )  # fmt: skip


def _instance_alerts(overview: Mapping[str, Any]) -> Iterator[Document]:
    """Yield one alert for each phase and reason, however many instances have it."""
    groups: dict[tuple[str, str], list[str]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for item in overview["instances"]:
        if item["phase"] in _OUT:
            # "silent for 14 s" and "silent for 15 s" are one reason, and the same as before.
            key = item["phase"], re.sub(r"\d+(\.\d+)?", "#", item["reason"])
            groups.setdefault(key, []).append(item["name"])
            reasons.setdefault(key, item["reason"])
    for (phase, subject), names in groups.items():
        reason = reasons[phase, subject]
        words = phase.replace("_", " ")
        yield _alert(
            "bad" if phase != "quarantined" else "warn", f"instances {words}", subject,
            f"{_some(names)}: {words}; {reason}",
            "Check them, and what reports them; each is tried again by itself.",
            instance=names[0],
        )  # fmt: skip


def _note_alerts(overview: Mapping[str, Any]) -> Iterator[Document]:
    groups: dict[tuple[str, str], list[str]] = {}
    for item in overview["notes"]:
        groups.setdefault((item["service"], item["note"]), []).append(item["from"])
    for (service, note), sites in groups.items():
        yield _alert(
            "warn", "fallback in use", f"{service} {note}",
            f"{service}: {note} (from {_some(sites)})",
            "See why in the explanation of the service.", service=service, site=sites[0],
        )  # fmt: skip


def _alert(level: str, kind: str, subject: str, text: str, remedy: str, **links: str) -> Document:
    return {
        "id": f"{kind} {subject}",
        "level": level,
        "kind": kind,
        "text": text,
        "remedy": remedy,
        "links": links,
    }


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
