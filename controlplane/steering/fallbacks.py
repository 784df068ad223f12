"""Instances to fall to at another site, for rows whose requests would all be lost with one site.

Envoy falls to a lower priority by itself, so requests survive the loss of a site also when no
control plane is there to decide again. They are chosen and weighed by what does not change with
the load, and kept while they are good enough: ones that moved from cycle to cycle would be pushed
for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.optimiser import Indices
from controlplane.steering.pairs import Codes, ServicePairs
from controlplane.steering.problem import Problem

MOST = 3
"""Instances to fall to; enough to take one site's load for the seconds until the next plan."""

_LOOK = 60.0
"""Seconds after which kept ones are compared with the best again."""

_WORSE = 1.25
"""Cost of the kept ones over that of the best from which they are replaced."""

_CHUNK = 1_000_000
"""Pairs that are compared at once."""

_NOTHING: Codes = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class Fallbacks:
    """The fallback instances of every row that has some, kept from cycle to cycle."""

    _layout: Layout | None = None
    _looked_at: float = -np.inf
    _kept: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    """(row's service * sites + client site, the only site in use) -> instances."""

    def choose(
        self, problem: Problem, used: Indices, probed: Array, *, now: float
    ) -> dict[int, tuple[int, ...]]:
        """Return row -> instances to fall to, for the rows that one site alone serves.

        Args:
            problem: the rows, and every pair that may be used.
            used: entries with a weight.
            probed: (entries,): positive where an entry only asks how an instance is.
            now: the time of the decision.
        """
        layout, pairs = problem.layout, problem.pairs
        if self._layout is not layout or now - self._looked_at >= _LOOK:
            if self._layout is not layout:
                self._kept = {}
            self._layout, self._looked_at = layout, now
            fresh = True
        else:
            fresh = False
        alone = _alone(problem, used[probed[used] <= 0])
        barred = barred_codes(problem)
        made: dict[int, tuple[int, ...]] = {}
        for index, service in enumerate(pairs.services):
            able = np.zeros(pairs.instances, dtype=bool)
            able[service.columns] = True
            rows = index * pairs.sites + np.arange(pairs.sites)
            key = int(pairs.numbers[index]) * pairs.sites
            wanted: list[int] = []
            for row in rows[alone[rows] >= 0].tolist():
                last = self._kept.get((key + row % pairs.sites, int(alone[row])))
                if last is None or fresh or not able[list(last)].all():
                    wanted.append(row)
                else:
                    made[row] = last
            if wanted:
                pieces = max(1, len(wanted) * len(service.columns) // _CHUNK)
                for some in np.array_split(np.array(wanted, dtype=np.intp), pieces):
                    if len(some):
                        found = self._renew(problem, service, some, alone, barred)
                        made |= zip(some.tolist(), found, strict=True)
        self._kept = {
            (int(pairs.numbers[row // pairs.sites]) * pairs.sites + row % pairs.sites,
             int(alone[row])): chosen
            for row, chosen in made.items()
        }  # fmt: skip
        asked = used[probed[used] > 0]
        columns = problem.flow.column[asked].tolist()
        pairs_asked = set(zip(problem.flow.row[asked].tolist(), columns, strict=True))
        # What a row probes has a weight already, and an endpoint has one.
        rest = {
            row: tuple(column for column in chosen if (row, column) not in pairs_asked)
            for row, chosen in made.items()
        }
        return {row: chosen for row, chosen in rest.items() if chosen}

    def _renew(
        self,
        problem: Problem,
        service: ServicePairs,
        rows: Indices,
        alone: Indices,
        barred: Codes,
    ) -> list[tuple[int, ...]]:
        """Return the choice for *rows* of one service; what is nearly as good stays."""
        pairs, layout = problem.pairs, problem.layout
        number = int(pairs.numbers[rows[0] // pairs.sites])
        sites = rows % pairs.sites
        site_of = np.array(layout.site_of, dtype=np.intp)[service.columns]
        # The time alone is learned; a price of 1 counts it once, whatever the load.
        cost = service.path(sites)[:, service.place] + service.node(np.ones(pairs.instances))
        cost[site_of[None, :] == alone[rows][:, None]] = np.inf
        cost[:, service.reserved] = np.inf  # a device's own comes after all others
        if len(barred):
            code = (number * pairs.sites + sites)[:, None] * pairs.instances + service.columns
            cost[np.isin(code, barred)] = np.inf
        order = _cheapest(cost, min(MOST, cost.shape[1]))
        found = []
        for place, (row, site) in enumerate(zip(rows.tolist(), sites.tolist(), strict=True)):
            # Where there are fewer than asked for, the same is found again.
            best = [p for p in dict.fromkeys(order[place].tolist()) if np.isfinite(cost[place, p])]
            chosen = tuple(sorted(service.columns[best].tolist()))
            last = self._kept.get((number * pairs.sites + site, int(alone[row])))
            if last and len(last) == len(chosen) and np.isin(last, service.columns).all():
                kept = np.searchsorted(service.columns, last)
                if cost[place, kept].sum() <= _WORSE * cost[place, best].sum():
                    chosen = last
            found.append(chosen)
        return found


def _cheapest(cost: Array, count: int) -> Indices:
    """Return the *count* cheapest of each row, the cheapest first."""
    rows = np.arange(len(cost))
    rest = cost.copy()
    found = np.empty((len(cost), count), dtype=np.intp)
    for place in range(count):
        found[:, place] = rest.argmin(axis=1)
        rest[rows, found[:, place]] = np.inf
    return found


def barred_codes(problem: Problem) -> Codes:
    """Return the pairs that an operator's limit keeps from getting anything."""
    bounds = problem.flow.bounds
    if not len(bounds.entry):
        return _NOTHING
    return problem.codes[np.unique(bounds.entry[bounds.high[bounds.group] <= 0.0])]


def _alone(problem: Problem, used: Indices) -> Indices:
    """Return, for each row, the one site that the *used* entries are at; -1 if there are more.

    A client's own device is no second site: it cannot take what another site loses.
    """
    shared = problem.layout.reach[problem.flow.column[used]] < 0
    served = np.bincount(problem.flow.row[used][shared], minlength=len(problem.rows)) > 0
    used = used[shared | ~served[problem.flow.row[used]]]
    site = np.array(problem.layout.site_of, dtype=np.intp)[problem.flow.column[used]]
    row = problem.flow.row[used]
    low = np.full(len(problem.rows), np.iinfo(np.intp).max, dtype=np.intp)
    high = np.full(len(problem.rows), -1, dtype=np.intp)
    np.minimum.at(low, row, site)
    np.maximum.at(high, row, site)
    return np.where(low == high, low, -1)
