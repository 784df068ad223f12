"""The shares that Envoys have, carried from one cycle's problem to the next.

Entries come and go with instances and candidates: as long as they are the same, an array is
carried; otherwise names are looked up in the last plan.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from controlplane.steering.explain import Decision
from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Flags
from controlplane.steering.plan import Assignment, Plan
from controlplane.steering.problem import Problem

Key = tuple[str, str]
"""(service, client site)."""


class InUse:
    """What was pushed last: shares, and apart from them what was given to probe."""

    def __init__(self) -> None:
        self._assignments: Mapping[Key, Assignment] = {}
        self._probes: dict[Key, dict[str, float]] = {}
        self._entries: tuple[Problem, Array, Array] | None = None

    def restore(self, plan: Plan) -> None:
        """Go on from a plan of an earlier run."""
        self._assignments, self._entries = plan.assignments, None
        self._probes = {key: dict(parts) for key, parts in plan.probes.items()}

    def take(
        self,
        pushed: Decision,
        assignments: Mapping[Key, Assignment],
        probes: dict[Key, dict[str, float]],
        *,
        same: Flags | None,
    ) -> None:
        """Note what is *pushed*, which the others tell; the *same* rows keep older weights."""
        self._assignments = assignments
        self._probes = probes
        self._entries = (pushed.problem, _used_shares(pushed, same), pushed.probed)

    def shares(self, problem: Problem) -> Array:
        """Give the shares in use, entry by entry; 0 where there were none."""
        if self._entries is not None and same_entries(self._entries[0], problem):
            return self._entries[1].copy()
        return _carry(problem, _shares_of(self._assignments, self._probes))

    def probes(self, problem: Problem) -> Array:
        """Give what is given to probe, entry by entry."""
        if self._entries is not None and same_entries(self._entries[0], problem):
            return self._entries[2]
        return _carry(problem, self._probes)


def same_entries(last: Problem, problem: Problem) -> bool:
    """Tell whether two problems are about the same pairs and instances, in the same order."""
    return (
        problem.layout is last.layout
        and problem.rows == last.rows
        and np.array_equal(problem.flow.column, last.flow.column)
        and np.array_equal(problem.flow.row, last.flow.row)
    )


def _carry(problem: Problem, used: Mapping[Key, Mapping[str, float]]) -> Array:
    """Give what was *used*, by row and instance, entry by entry; 0 where there was nothing."""
    layout, flow, column = problem.layout, problem.flow, problem.layout.column
    shares = np.zeros(len(flow.row))
    if not used:
        return shares
    place = np.full(len(layout.instances), -1, dtype=np.intp)
    starts = flow.starts.tolist()
    for row, first, end in zip(problem.rows, starts, [*starts, len(flow.row)][1:], strict=True):
        key = (layout.services[row.service].service.name, layout.sites[row.site])
        own = flow.column[first:end]
        place[own] = np.arange(first, end)
        for name, share in used.get(key, {}).items():
            entry = int(place[column[name]]) if name in column else -1
            if entry >= 0:
                shares[entry] = share
        place[own] = -1
    return shares


def _used_shares(decision: Decision, same: Flags | None) -> Array:
    """Give what is really used: the weights, not the shares before rounding, probes apart.

    Rows that are the *same* as before keep the weights of then.
    """
    flow = decision.problem.flow
    if not len(flow.row):
        return np.zeros(0)
    weights = np.where(decision.probed > 0, 0.0, decision.weights)
    used = weights / np.add.reduceat(weights, flow.starts)[flow.row]
    return used if same is None else np.where(same[flow.row], decision.previous, used)


def _shares_of(
    assignments: Mapping[Key, Assignment], probes: Mapping[Key, Mapping[str, float]]
) -> dict[Key, dict[str, float]]:
    """Give what is really used: the weights, not the shares before rounding, *probes* apart."""
    used = {}
    for key, assignment in assignments.items():
        apart = probes.get(key, {})
        first = [a for a in assignment.allocations if a.priority == 0 and a.instance not in apart]
        total = sum(a.weight for a in first)
        used[key] = {a.instance: a.weight / total for a in first}
    return used


def probes_of(decision: Decision) -> dict[Key, dict[str, float]]:
    """Give the parts that are given to probe, by row and instance."""
    layout, flow = decision.problem.layout, decision.problem.flow
    made: dict[Key, dict[str, float]] = {}
    for entry in np.flatnonzero(decision.probed).tolist():
        row = decision.problem.rows[flow.row[entry]]
        key = (layout.services[row.service].service.name, layout.sites[row.site])
        instance = layout.instances[flow.column[entry]].name
        made.setdefault(key, {})[instance] = float(decision.probed[entry])
    return made
