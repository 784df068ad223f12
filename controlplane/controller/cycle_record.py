"""One cycle in times, for traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.controller.decider import Decision


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """One cycle in times, for traces."""

    stages: tuple[tuple[str, str, float, float], ...]
    """(name, name of the stage it is part of, begin, end) in seconds of `time.perf_counter`; the
    first is the whole cycle, part of nothing."""
    attributes: Mapping[str, str | int | float | bool]
    version: str
    """Of the plan."""


def record_cycle(
    decision: Decision,
    *,
    build_seconds: float,
    reason: str,
    outcome: str,
    instances: int,
    marks: tuple[float, float, float, float, float],
) -> CycleRecord:
    """Return a cycle in times; *marks* are begin, viewed, decided, published and saved."""
    began, viewed, decided, published, saved = marks
    # What a thread measured ends when the loop hears of it, but for a thread's wake-up.
    solve = decided - decision.solve_seconds
    build = published - build_seconds
    plan = decision.plan
    attributes: dict[str, str | int | float | bool] = {
        "cats.plan.version": plan.version,
        "cats.plan.outcome": outcome,
        "cats.plan.predicted_cost": plan.predicted_cost,
        "cats.plan.assignments": len(plan.assignments),
        "cats.cycle.reason": reason,
        "cats.fleet.instances": instances,
    }
    if plan.predicted_latency is not None:
        attributes["cats.plan.predicted_latency"] = plan.predicted_latency
    return CycleRecord(
        (
            ("cycle", "", began, saved),
            ("view", "cycle", began, viewed),
            ("decide", "cycle", viewed, decided),
            ("solve", "decide", max(viewed, solve), decided),
            ("publish", "cycle", decided, published),
            ("build", "publish", max(decided, build), published),
            ("say and save", "cycle", published, saved),
        ),
        attributes,
        plan.version,
    )
