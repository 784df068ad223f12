"""Recorded reports through two configurations: what would have changed, by prediction.

The recorded loads were made by the plans of then; another policy would have made others. So the
gain is what the model predicts from the same reports, not what would have been measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import fsum

from controlplane.admin_api.effect import encode_effect
from controlplane.admin_api.values import Document
from controlplane.config import Config, PolicyName
from controlplane.diagnostics.recording import Frame
from controlplane.errors import ReportError
from controlplane.fleet import FleetState
from controlplane.steering import Steering
from controlplane.steering.outcomes import predicted_latency
from controlplane.steering.plan import Plan


@dataclass(slots=True)
class Sums:
    """What one service gained or lost."""

    requests: float = 0.0
    moved: float = 0.0
    """Requests that would have gone elsewhere."""
    delay: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Predicted seconds of all requests, before and after."""


@dataclass(slots=True)
class Outcome:
    """A whole replay."""

    cycles: int = 0
    seconds: float = 0.0
    refused: int = 0
    costs: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    services: dict[str, Sums] = field(default_factory=dict)


def with_policy(config: Config, policy: PolicyName) -> Config:
    """Return *config* with one policy for every service from everywhere."""
    return config.model_copy(
        update={
            "steering": config.steering.model_copy(update={"policy": policy, "canary": None}),
            "services": tuple(
                s.model_copy(update={"policy": None, "canary": None}) for s in config.services
            ),
        }
    )


def replay(frames: Iterable[Frame], before: Config, after: Config) -> Outcome:
    """Decide every recorded cycle twice; both configurations have the same sites and services."""
    outcome = Outcome()
    fleet: FleetState | None = None
    first = last_at = 0.0
    sides = (Steering(before), Steering(after))
    for frame in frames:
        if fleet is None:
            fleet, first, last_at = FleetState(before, now=frame.at), frame.at, frame.at
        for report in sorted(frame.message.reports, key=lambda report: report.at):
            try:
                fleet.apply(report, now=frame.at)
            except ReportError:
                outcome.refused += 1
        fleet.set_clients(frame.message.clients)
        view = fleet.view(now=frame.at)
        plans = sides[0].decide(view), sides[1].decide(replace(view, config=after))
        _add(outcome, plans, seconds=frame.at - last_at)
        last_at = frame.at
    outcome.seconds = last_at - first
    return outcome


def _add(outcome: Outcome, plans: tuple[Plan, Plan], *, seconds: float) -> None:
    outcome.cycles += 1
    for costs, plan in zip(outcome.costs, plans, strict=True):
        costs.append(plan.predicted_cost)
    moved = {(p["service"], p["from"]): p for p in encode_effect(*plans)["pairs"]}
    for key, assignment in plans[0].assignments.items():
        other = plans[1].assignments.get(key)
        means = [predicted_latency(assignment), predicted_latency(other) if other else None]
        if means[0] is None or means[1] is None:
            continue
        sums = outcome.services.setdefault(key[0], Sums())
        requests = assignment.demand * seconds
        sums.requests += requests
        sums.moved += requests * moved.get(key, {}).get("moved", 0.0)
        for side, mean in enumerate(means):
            sums.delay[side] += requests * (mean or 0.0)


def summarise(outcome: Outcome) -> Document:
    """Return the gain and loss of a replay, JSON-ready; latencies in seconds."""
    mean = [fsum(c) / len(c) if c else None for c in outcome.costs]
    return {
        "cycles": outcome.cycles,
        "seconds": outcome.seconds,
        "refused_reports": outcome.refused,
        "cost": mean,
        "services": {
            name: {
                "requests": sums.requests,
                "moved": sums.moved / sums.requests if sums.requests else 0.0,
                "latency": [d / sums.requests if sums.requests else None for d in sums.delay],
            }
            for name, sums in sorted(outcome.services.items())
        },
    }
