"""What one plan would change against another: shares that move, latency won and lost.

Values in, JSON-ready document out, as in `controlplane.admin_api.documents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

from controlplane.admin_api.values import Document
from controlplane.steering.outcomes import predicted_latency
from controlplane.steering.plan import Assignment, Plan

MOST_PAIRS = 500
"""Pairs reported, those whose requests move most first."""


def encode_effect(before: Plan, after: Plan) -> Document:
    """Return what *after* changes: cost, mean latency, and each pair whose shares move."""
    pairs = [
        _pair(assignment, after.assignments.get(key))
        for key, assignment in before.assignments.items()
    ]
    moved = sorted((item for item in pairs if item["moved"] > 5e-4), key=lambda i: -i["moved"])
    return {
        "cost": [before.predicted_cost, after.predicted_cost],
        "latency": [_mean(pairs, 0), _mean(pairs, 1)],
        "money_per_hour": [_hourly(before, "money"), _hourly(after, "money")],
        "carbon_grams_per_hour": [_hourly(before, "carbon"), _hourly(after, "carbon")],
        "pairs": moved[:MOST_PAIRS],
        "pairs_left_out": max(0, len(moved) - MOST_PAIRS),
    }


def _hourly(plan: Plan, name: str) -> float:
    return 3600.0 * fsum(each.rate * getattr(each, name) for each in plan.spending.values())


def _pair(before: Assignment, after: Assignment | None) -> Document:
    shares = [_shares(before), _shares(after) if after else {}]
    names = shares[0].keys() | shares[1].keys()
    changes = {
        name: [round(side.get(name, 0.0), 6) for side in shares]
        for name in sorted(names)
        if abs(shares[0].get(name, 0.0) - shares[1].get(name, 0.0)) > 5e-4
    }
    return {
        "service": before.service,
        "from": before.client_site,
        "demand": before.demand,
        "moved": sum(abs(a - b) for a, b in changes.values()) / 2
        if shares[0] and shares[1]
        else float(bool(names)),
        "latency": [predicted_latency(before), predicted_latency(after) if after else None],
        "shares": changes,
        "note": after.note if after else "",
    }


def _shares(assignment: Assignment) -> Mapping[str, float]:
    return {item.instance: item.share for item in assignment.allocations if item.priority == 0}


def _mean(pairs: list[Document], side: int) -> float | None:
    """Return the mean predicted latency over all requests; None if a pair does not say."""
    known = [item for item in pairs if item["latency"][side] is not None]
    rate = fsum(item["demand"] for item in known)
    if rate <= 0:
        return None
    return fsum(item["demand"] * item["latency"][side] for item in known) / rate
