"""The overview with names as keys, and the difference between two of them.

A page that is live needs the whole overview once and then what changed: figures are rounded to
what a reader sees, so that a quiet fleet changes little. A difference is a document of the same
shape: mappings are merged, everything else replaces, and the key ``""``, which no name is, lists
the keys that are gone. (JSON Merge Patch, RFC 7396, cannot set null, which here means not known.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]

GONE = ""
"""Key of the list of keys that are gone."""
FRESH = 5.0
"""Seconds within which a report is called fresh; older ones are rounded to that."""

_BRIEF = ("latency", "rate", "planned", "failures", "running", "waiting", "power")


def key_overview(overview: Mapping[str, Any]) -> Document:
    """Return an overview of `admin_api.overview` with names as keys.

    ``flows`` becomes ``shares`` (service -> client site -> instance -> share) and ``rates``
    (service -> client site -> requests a second): shares change with plans only.
    """
    keyed: Document = {
        name: value
        for name, value in overview.items()
        if name not in ("sites", "services", "instances", "flows", "latency")
    }
    keyed["sites"] = {item["name"]: _brief(item) for item in overview["sites"]}
    keyed["services"] = {item["name"]: item for item in overview["services"]}
    keyed["instances"] = {item["name"]: _brief(item) for item in overview["instances"]}
    keyed["shares"] = {
        service: {row["from"]: dict(row["to"]) for row in rows}
        for service, rows in overview["flows"].items()
    }
    keyed["rates"] = {
        service: {row["from"]: round_briefly(row["rate"]) for row in rows}
        for service, rows in overview["flows"].items()
    }
    keyed["latency"] = {
        service: {site: [round_briefly(each) for each in pair] for site, pair in sites.items()}
        for service, sites in overview["latency"].items()
    }
    return keyed


def _brief(item: Mapping[str, Any]) -> Document:
    """Return *item* with figures of three digits, and an age in steps."""
    changed: Document = {name: round_briefly(item[name]) for name in _BRIEF if name in item}
    if (age := item.get("age")) is not None:
        changed["age"] = age // FRESH * FRESH
    return {**item, **changed}


def round_briefly(value: float | None) -> float | None:
    """Return *value* with three digits, as many as a reader takes in."""
    return None if value is None else float(f"{value:.3g}")


def find_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """Return what turns *before* into *after*; empty if they are the same."""
    found: Document = {}
    for name, value in after.items():
        if name not in before:
            found[name] = value
            continue
        former = before[name]
        if isinstance(value, dict) and isinstance(former, dict):
            if inner := find_difference(former, value):
                found[name] = inner
        elif value != former:
            found[name] = value
    if gone := [name for name in before if name not in after]:
        found[GONE] = gone
    return found


def apply_difference(document: Document, difference: Mapping[str, Any]) -> None:
    """Change *document* as `find_difference` says."""
    for name in difference.get(GONE, ()):
        document.pop(name, None)
    for name, value in difference.items():
        if name == GONE:
            continue
        former = document.get(name)
        if isinstance(value, dict) and isinstance(former, dict):
            apply_difference(former, value)
        else:
            document[name] = value
