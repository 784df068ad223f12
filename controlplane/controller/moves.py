"""What a new plan moved, and why: the largest moves, each with the change that explains it best.

Pure but for the plan and the view that it compares with, which it remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from controlplane.config.override_rules import EFFECTS
from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.model import Signal
from controlplane.steering.assignment_sums import digest_of
from controlplane.steering.plan import Assignment, Plan, Why

LEAST = 0.10
"""Of a share that is a move; hedging and probing come and go below it."""
MOST = 3
"""Moves of one plan that are reported, by the requests that they move."""
PAIRS = 2_000
"""Pairs of service and client site that are compared; a plan may have more."""
TRAINS = 0.10
"""Of a machine, that a training job came or went."""
FAILS = 0.05
"""Of the answers, that came to fail or no longer do."""
GREW = 1.25
"""Factor by which demand, a queue or a path's time changed."""
QUEUED = 3.0
"""Requests in an instance by which its queue changed at least."""

_SERVING = frozenset({Phase.UNKNOWN, Phase.STARTING, Phase.LIVE, Phase.STALE})


@dataclass(frozen=True, slots=True)
class Move:
    """One share that changed."""

    service: str
    client_site: str
    instance: str
    before: float
    after: float
    reason: str

    def __str__(self) -> str:
        """Say it in one line, as in ``chat from north: a 93 -> 41 %, its machine trains``."""
        return (
            f"{self.service} from {self.client_site}: {self.instance}"
            f" {100 * self.before:.0f} -> {100 * self.after:.0f} %, {self.reason}"
        )


class Moves:
    """Compares each plan with the one before."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._view: FleetView | None = None

    def find(self, plan: Plan, view: FleetView) -> list[Move]:
        """Return the largest moves since the last call, the one of most requests first."""
        before, seen = self._plan, self._view
        self._plan, self._view = plan, view
        if before is None or seen is None:
            return []
        found: list[tuple[float, str, Move]] = []
        for key in [*plan.assignments][:PAIRS]:
            if key not in before.assignments:
                continue
            if digest_of(plan.assignments, key) == digest_of(before.assignments, key):
                continue
            assignment, former = plan.assignments[key], before.assignments[key]
            if (move := _largest(former, assignment, seen, view)) is not None:
                weight = abs(move.after - move.before) * max(assignment.demand, 1e-6)
                found.append((-weight, f"{key}", move))
        return [move for _, _, move in sorted(found, key=lambda each: each[:2])[:MOST]]


def _largest(former: Assignment, now: Assignment, seen: FleetView, view: FleetView) -> Move | None:
    """Return the largest move of one pair: of what changed itself, if its part is as large."""
    before, after = _shares(former), _shares(now)
    changes = {
        name: after.get(name, 0.0) - before.get(name, 0.0) for name in before.keys() | after.keys()
    }
    large = sorted(
        (name for name, change in changes.items() if abs(change) >= LEAST),
        key=lambda name: (-abs(changes[name]), name),
    )
    if not large:
        return None
    causes = {name: _cause(name, former, now, seen, view) for name in large}
    chosen = next((name for name in large if causes[name]), large[0])
    return Move(
        now.service,
        now.client_site,
        chosen,
        before.get(chosen, 0.0),
        after.get(chosen, 0.0),
        causes[chosen] or _from_the_whole(chosen, former, now),
    )


def _shares(assignment: Assignment) -> dict[str, float]:
    return {each.instance: each.share for each in assignment.allocations if each.priority == 0}


def _cause(name: str, former: Assignment, now: Assignment, seen: FleetView, view: FleetView) -> str:
    """Return what changed at the instance itself or on the way to it; empty if nothing did."""
    if name not in view.instances:
        return "it is gone from the configuration"
    if name not in seen.instances:
        return "it is new"
    for find in (_overridden, _phased, _trains, _fails, _queues):
        if reason := find(name, seen, view):
            return reason
    return _way(former, now, view.instances[name], seen, view)


def _overridden(name: str, seen: FleetView, view: FleetView) -> str:
    site = view.instances[name].instance.site

    def of(fleet: FleetView) -> set[str]:
        return {
            effect.replace("_", " ")
            for each in fleet.config.overrides
            if each.instance == name or (each.instance is None and each.site == site)
            for effect in EFFECTS
            if getattr(each, effect) not in (None, False)
        }

    if came := of(view) - of(seen):
        return f"an override: {', '.join(sorted(came))}"
    if ended := of(seen) - of(view):
        return f"an override ended: {', '.join(sorted(ended))}"
    return ""


def _phased(name: str, seen: FleetView, view: FleetView) -> str:
    before, now = seen.instances[name], view.instances[name]
    if before.phase is now.phase:
        return ""
    if before.phase not in _SERVING and now.phase in _SERVING:
        return "it is back in service"
    phase = now.phase.value.replace("_", " ")
    return f"it is {phase}{f': {now.reason}' if now.reason else ''}"


def _trains(name: str, seen: FleetView, view: FleetView) -> str:
    before = _signal(seen.instances[name], Signal.TRAINING)
    now = _signal(view.instances[name], Signal.TRAINING)
    if now - before >= TRAINS:
        return "its machine trains"
    return "its machine trains no longer" if before - now >= TRAINS else ""


def _fails(name: str, seen: FleetView, view: FleetView) -> str:
    def part(fleet: FleetView) -> float:
        items = [each.recent for (one, _), each in fleet.outcomes.items() if one == name]
        ended = sum(each.ended for each in items)
        return sum(each.failed for each in items) / ended if ended > 0 else 0.0

    before, now = part(seen), part(view)
    if now - before >= FAILS:
        return f"{100 * now:.0f} % of its answers fail"
    return "its answers fail no longer" if before - now >= FAILS else ""


def _queues(name: str, seen: FleetView, view: FleetView) -> str:
    before, now = (
        _signal(fleet.instances[name], Signal.RUNNING)
        + _signal(fleet.instances[name], Signal.WAITING)
        for fleet in (seen, view)
    )
    if abs(now - before) < QUEUED or not _differ(before, now):
        return ""
    return f"requests in it {before:.0f} -> {now:.0f}"


def _way(
    former: Assignment, now: Assignment, item: InstanceView, seen: FleetView, view: FleetView
) -> str:
    pair = now.client_site, item.instance.site
    if pair in seen.paths and pair in view.paths:
        before, after = seen.paths[pair].rtt.value, view.paths[pair].rtt.value
        if abs(after - before) > 1e-3 and _differ(before, after):
            return f"round trip {1e3 * before:.0f} -> {1e3 * after:.0f} ms"
    if former.policy is not now.policy:
        return f"policy {former.policy.value} -> {now.policy.value}"
    return ""


def _differ(before: float, after: float) -> bool:
    low, high = sorted((before, after))
    return high > GREW * low


def _from_the_whole(name: str, former: Assignment, now: Assignment) -> str:
    """Return what changed beside the instance: a note, demand, or the term that changed most."""
    if now.note and now.note != former.note:
        return now.note
    if max(former.demand, now.demand) > 0.1 and _differ(former.demand, now.demand):
        return f"demand {former.demand:.3g} -> {now.demand:.3g}/s"
    before, after = _why(former, name), _why(now, name)
    if before is not None and after is not None:
        term, change = max(_terms(before, after), key=lambda each: abs(each[1]), default=("", 0.0))
        if abs(change) >= 1e-3:
            return f"{term} there {1e3 * change:+.0f} ms"
    return "load elsewhere changed"


def _why(assignment: Assignment, name: str) -> Why | None:
    return next((each.why for each in assignment.allocations if each.instance == name), None)


def _terms(before: Why, after: Why) -> Iterator[tuple[str, float]]:
    get: dict[str, Callable[[Why], float]] = {
        "service time": lambda why: why.service,
        "queueing": lambda why: why.queueing,
        "failures cost": lambda why: why.failure,
        "energy costs": lambda why: why.energy,
        "congestion cost": lambda why: why.crowding,
        "transfer": lambda why: why.transfer,
    }
    for name, of in get.items():
        yield name, of(after) - of(before)


def _signal(item: InstanceView, signal: Signal) -> float:
    reading = item.readings.get(signal)
    return 0.0 if reading is None else reading.value
