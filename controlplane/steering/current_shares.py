"""The shares that Envoys have, carried from one cycle's problem to the next.

Pairs come and go with instances and with what is considered; shares are kept with the codes of
their pairs, so carrying them is a search in a sorted array. A plan of another process has names
only, which are looked up once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from controlplane.steering.decision import Decision
from controlplane.steering.devices import shares_of_all
from controlplane.steering.latency import Array
from controlplane.steering.layout import Key, Layout
from controlplane.steering.pairs import Codes, carry, translate
from controlplane.steering.plan import Plan
from controlplane.steering.problem import Problem


class CurrentShares:
    """What was pushed last: shares, and apart from them what was given to probe."""

    def __init__(self) -> None:
        self._restored: Plan | None = None
        self._layout: Layout | None = None
        self._codes: Codes = np.zeros(0, dtype=np.int64)
        self._shares: Array = np.zeros(0)
        self._probes: Array = np.zeros(0)

    def restore(self, plan: Plan) -> None:
        """Continue from a plan of an earlier run, or of another replica."""
        self._restored = plan

    def take(self, pushed: Decision) -> None:
        """Note what is *pushed*: the weights, not the shares before rounding, probes apart."""
        flow = pushed.problem.flow
        shares = np.zeros(0)
        if len(flow.row):
            weights = np.where(pushed.probed > 0, 0.0, pushed.weights)
            shares = weights / np.add.reduceat(weights, flow.starts)[flow.row]
        self._restored, self._layout = None, pushed.problem.layout
        kept = (shares > 0) | (pushed.probed > 0)
        self._codes = pushed.problem.codes[kept]
        self._shares, self._probes = shares[kept], pushed.probed[kept]

    def codes(self, layout: Layout) -> Codes:
        """Return the pairs of *layout* that are in use."""
        self._move(layout)
        return self._codes

    def shares(self, problem: Problem) -> Array:
        """Return the shares in use, entry by entry; 0 where there were none."""
        self._move(problem.layout)
        return shares_of_all(problem, carry(self._codes, self._shares, problem.codes))

    def probes(self, problem: Problem) -> Array:
        """Return what is given to probe, entry by entry."""
        self._move(problem.layout)
        return carry(self._codes, self._probes, problem.codes)

    def _move(self, layout: Layout) -> None:
        """Hold what is in use by the numbers of *layout*."""
        if self._restored is not None:
            self._read(self._restored, layout)
            self._restored = None
        elif self._layout is not None and self._layout is not layout:
            codes, order = translate(self._codes, self._layout, layout)
            self._codes = codes
            self._shares, self._probes = self._shares[order], self._probes[order]
        self._layout = layout

    def _read(self, plan: Plan, layout: Layout) -> None:
        found: dict[int, tuple[float, float]] = {}
        for key, assignment in plan.assignments.items():
            row = layout.key.get(key)
            if row is None:
                continue
            apart = plan.probes.get(key, {})
            first = [a for a in assignment.allocations if a.priority == 0]
            total = sum(a.weight for a in first if a.instance not in apart)
            for each in first:
                column = layout.column.get(each.instance)
                if column is not None:
                    probe = apart.get(each.instance, 0.0)
                    share = 0.0 if each.instance in apart else each.weight / total
                    found[row * len(layout.instances) + column] = share, probe
        self._codes = np.array(sorted(found), dtype=np.int64)
        values = np.array([found[code] for code in self._codes.tolist()]).reshape(-1, 2)
        self._shares, self._probes = values[:, 0], values[:, 1]


def probes_of(decision: Decision) -> Mapping[Key, Mapping[str, float]]:
    """Return what is given to probe, by row and instance."""
    layout, flow = decision.problem.layout, decision.problem.flow
    made: dict[Key, dict[str, float]] = {}
    for entry in np.flatnonzero(decision.probed).tolist():
        row = decision.problem.rows[flow.row[entry]]
        key = (layout.services[row.service].service.name, layout.sites[row.site])
        instance = layout.instances[flow.column[entry]].name
        made.setdefault(key, {})[instance] = float(decision.probed[entry])
    return made
