"""Latency as planned and as seen, per pair, and for canaries beside what they are tried against.

Values in, values out; what shows them (API, metrics, dashboard) does not count them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum

from controlplane.config import PolicyName
from controlplane.fleet.view import FleetView
from controlplane.steering.plan import Assignment, Plan

Key = tuple[str, str]
"""(service, client site)."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What Envoys of one client site see of one service."""

    rate: float
    """Requests a second."""
    latency: float
    """Mean seconds."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary in figures; means over requests, seconds, none where no one says."""

    service: str
    client_site: str
    policy: PolicyName
    standing: PolicyName
    """What decides at the other client sites."""
    predicted: float | None
    predicted_standing: float | None
    """At the same client site, if the standing policy decided."""
    predicted_rest: float | None
    """At the other client sites."""
    observed: float | None
    observed_rest: float | None


def predicted_latency(assignment: Assignment) -> float | None:
    """Return the mean latency that the plan predicts for an assignment; None if it does not say."""
    if assignment.predicted_latency is not None:
        return assignment.predicted_latency
    first = [item for item in assignment.allocations if item.priority == 0]
    whys = [(item.share, why) for item in first if (why := item.why) is not None]
    if not first or len(whys) < len(first):
        return None
    return fsum(share * why.predicted_latency for share, why in whys)


def observed_latencies(view: FleetView) -> dict[Key, Observed]:
    """Return what Envoys see, for the pairs that have requests."""
    sums: dict[Key, list[tuple[float, float]]] = {}
    for (site, service, _), seen in view.traffic.items():
        if seen.latency is not None and seen.rate.value > 0:
            sums.setdefault((service, site), []).append((seen.rate.value, seen.latency.value))
    found = {}
    for key, items in sums.items():
        rate = fsum(weight for weight, _ in items)
        found[key] = Observed(rate, fsum(w * latency for w, latency in items) / rate)
    return found


def compare_canaries(plan: Plan, observed: Mapping[Key, Observed]) -> list[Canary]:
    """Return each canary of *plan* beside the rest of its service."""
    made = []
    for key, assignment in plan.assignments.items():
        if assignment.standing is None:
            continue
        rest = [
            other
            for other in plan.assignments.values()
            if other.service == key[0] and other.standing is None
        ]
        standing = plan.standing.get(key)
        made.append(
            Canary(
                service=key[0],
                client_site=key[1],
                policy=assignment.policy,
                standing=assignment.standing,
                predicted=predicted_latency(assignment),
                predicted_standing=None if standing is None else predicted_latency(standing),
                predicted_rest=_mean((item.demand, predicted_latency(item)) for item in rest),
                observed=None if key not in observed else observed[key].latency,
                observed_rest=_mean(
                    (seen.rate, seen.latency)
                    for item in rest
                    if (seen := observed.get((item.service, item.client_site))) is not None
                ),
            )
        )
    return made


def _mean(items: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the mean over requests of what is known."""
    known = [(rate, latency) for rate, latency in items if latency is not None]
    whole = fsum(rate for rate, _ in known)
    return fsum(rate * latency for rate, latency in known) / whole if whole > 0 else None
