"""What a solution over some rows and pairs says of all: the gap, and which pairs would gain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.optimiser import Bounds, Flags, Flow, Indices, Solution
from controlplane.steering.pairs import Codes, carry
from controlplane.steering.problem import Picture, Problem

_AT_BOUND = 1e-4
"""Distance from a bound at which a sum of shares counts as held by it."""


@dataclass(frozen=True, slots=True)
class Solved:
    """A solution over the rows that are decided and the pairs that are entries."""

    made: Picture
    problem: Problem
    part: Flow
    """Of the decided rows."""
    solution: Solution
    rows: Indices
    """(decided,): the rows."""

    def price_out(self, price: Array) -> tuple[float, Codes]:
        """Return what rows pay above the least over all pairs, and the pairs that would gain.

        The first is a part of the cost: the Frank-Wolfe gap at *price*, (instances,).
        """
        part, solution = self.part, self.solution
        marginal = part.marginal(price)
        paid = np.add.reduceat(solution.shares * marginal, part.starts)
        least = self._least(marginal)
        missing = np.zeros(0, dtype=np.int64)
        if not self.problem.complete:
            cheapest, codes = self.made.pairs.cheapest(price, self.rows)
            missing = np.sort(codes[self._free & (cheapest < paid)])
            least = np.where(self._free, cheapest, least)
            known = self.problem.codes
            missing = missing[carry(known, np.ones(len(known)), missing) == 0]
        regret = np.maximum(paid - least, 0.0) * part.demand
        return float(regret.sum()) / max(abs(solution.cost), 1e-12), missing

    def bound(self, prices: PriceTable, price: Array) -> float:
        """Return what no shares can cost less than: the dual's value at *price*, (instances,)."""
        part = self.part
        least = self._least(part.marginal(price))
        least = np.where(self._free, self.made.pairs.cheapest(price, self.rows)[0], least)
        offered, _ = prices.invert(price)
        conjugate = price * offered - prices.evaluate(offered)[0]
        return float(np.dot(part.demand, least) + np.dot(part.base, price) - conjugate.sum())

    @property
    def _free(self) -> Flags:
        """Report the rows that no operator bounds, (decided,)."""
        free = np.ones(len(self.rows), dtype=bool)
        free[self.part.row[self.part.bounds.entry]] = False
        return free

    def _least(self, marginal: Array) -> Array:
        """Return what rows would pay at best over entries, (decided,), if sums at bounds stay."""
        part, shares, bounds = self.part, self.solution.shares, self.part.bounds
        if not len(bounds.entry):
            return np.minimum.reduceat(marginal, part.starts)
        sums = np.bincount(bounds.group, shares[bounds.entry], len(bounds.low))
        tight = (sums >= bounds.high - _AT_BOUND) | (sums <= bounds.low + _AT_BOUND)
        # Entries of a row and a tight group are a class of their own; the rest of the row is one.
        own = np.zeros(len(marginal), dtype=np.intp)
        held = tight[bounds.group]
        own[bounds.entry[held]] = bounds.group[held] + 1
        _, klass = np.unique(part.row * (len(bounds.low) + 1) + own, return_inverse=True)
        best = np.full(int(klass.max()) + 1, np.inf)
        np.minimum.at(best, klass, marginal)
        least: Array = np.add.reduceat(shares * best[klass], part.starts)
        return least


def restrict(flow: Flow, kept: Flags, shares: Array) -> Flow:
    """Return the part of *flow* that is decided; the rest becomes base work of the instances.

    *kept* holds whole rows, (entries,); *shares*, (entries,), are those of the rest.
    """
    if kept.all():
        return flow
    rows = np.unique(flow.row[kept])
    renumber = np.zeros(len(flow.demand), dtype=np.intp)
    renumber[rows] = np.arange(len(rows))
    place = np.cumsum(kept) - 1
    inside = kept[flow.bounds.entry] if len(flow.bounds.entry) else np.zeros(0, dtype=bool)
    groups, group = np.unique(flow.bounds.group[inside], return_inverse=True)
    return replace(
        flow,
        demand=flow.demand[rows],
        row=renumber[flow.row[kept]],
        column=flow.column[kept],
        linear=flow.linear[kept],
        work=flow.work[kept],
        base=flow.load(np.where(kept, 0.0, shares)),
        bounds=Bounds(
            place[flow.bounds.entry[inside]],
            group,
            flow.bounds.low[groups],
            flow.bounds.high[groups],
        ),
    )
