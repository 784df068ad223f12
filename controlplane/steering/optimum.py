"""The optimum over every pair that may be used, for fleets of any size.

A small fleet is solved over all of its pairs at once (`optimiser`). A large one is solved by its
dual (`dual`), over all pairs too; of the shares that come out, those worth a connection become the
entries that go on, and are balanced once more among themselves. Either way the gap is that of the
whole problem: every pair is priced at the prices that come out.

Rows without clients are not decided in a large fleet: they change no load. They keep the instances
that they have while these are good, and are looked at in turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlplane.steering.dual import PRECISE, Dual
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.layout import Layout
from controlplane.steering.optimiser import Flags, Indices, solve
from controlplane.steering.optimum_blocks import (
    Rows,
    build_blocks,
    cost_scale,
    nearest_pairs,
    rows_of,
    worthy_entries,
)
from controlplane.steering.pairs import Codes, carry, join, translate
from controlplane.steering.pricing import Solved, restrict
from controlplane.steering.problem import Picture, Problem

FEW = 20_000
"""Pairs up to which all of them are entries."""

_COARSE = 5.0
"""Temperature of the long run, which only says where loads come to rest, over that of shares."""

_TURNS = 64
"""Cycles in which every row without clients is looked at once."""

_STALE = 1.1
"""What such a row pays over the least it could pay, from which it gets other instances."""

_RENEWAL, _MOVED = 5, 0.05
"""Cycles, and part of the demand that has moved, after which the long run is solved again: it
says where loads come to rest, which changes slowly."""

_POLISH, _BALANCED = 40, 2e-3
"""Steps that balance a large fleet's entries among themselves, and the gap that ends them."""

_MOST_ROUNDS, _ENOUGH = 4, 3e-3
"""Times that pairs found cheaper at the prices that come out are added, until the gap over all
pairs is small enough (column generation; Gilmore and Gomory 1961)."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """Shares, and how far from the best they can be."""

    problem: Problem
    """With the entries that the shares are of."""
    shares: Array
    """(entries,)."""
    gap: float
    """Most that could still be gained over all pairs, as a part of the cost (Frank-Wolfe gap); for
    rows that operators bound, with the sums at their bounds kept as they are."""


class Optimiser:
    """Solves cycle after cycle, each from where the last one ended."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._prices: dict[str, Array] = {}
        """Of the long run and of the period, (stages, instances), where the last cycle came to."""
        self._rest: tuple[Codes, Array] | None = None
        self._turn = 0
        self._settled: tuple[Layout, Array, int, Array] | None = None
        """Of a large fleet's last long run: its layout, demand, cycle and loads."""

    def start(self, made: Picture, *, whole: Flags, current: Codes) -> Problem:
        """Return the problem to begin with.

        Args:
            made: the fleet of this cycle.
            whole: (services of the pairs,): those of which every pair is an entry.
            current: the pairs in use.
        """
        self._move(made.layout)
        pairs = made.pairs
        if pairs.count <= FEW:
            return made.problem(made.whole())
        self._turn += 1
        every = [pairs.whole(index) for index in np.flatnonzero(whole).tolist()]
        codes = join([*every, pairs.usable(current)])
        missing = np.ones(pairs.rows, dtype=bool)
        missing[rows_of(made, codes)] = False
        if missing.any():
            price = np.ones(pairs.instances)
            nearest = nearest_pairs(made, np.flatnonzero(missing), price, heat=None)[0]
            codes = join([codes, nearest])
        return made.problem(codes)

    def settle(
        self, made: Picture, problem: Problem, prices: PriceTable, *, rows: Rows, shares: Array
    ) -> tuple[Array, Array | None]:
        """Return where loads come to rest, (instances,), and shares to go on from if there are.

        The loads are those of the rows that are decided; *shares*, (entries,), are the others'.
        """
        own = rows.optimal[problem.flow.row]
        if problem.complete:
            part = restrict(problem.flow, own, shares)
            begin = self._rest_start(problem)
            tolerance = 1e-4
            found = solve(
                part,
                prices,
                start=None if begin is None else begin[own],
                tolerance=tolerance,
                most_iterations=60,
            )
            whole = _spread(own, found.shares)
            self._rest = (problem.codes, whole)
            return part.load(found.shares), whole + np.where(own, 0.0, shares)
        blocks, base = build_blocks(made, problem, rows, shares)
        if not blocks:
            return base, None
        demand = np.concatenate([block.demand for block, _ in blocks])
        last = self._settled
        if (
            last is not None
            and last[0] is made.layout
            and len(last[1]) == len(demand)
            and self._turn - last[2] < _RENEWAL
            and np.abs(demand - last[1]).sum() <= _MOVED * demand.sum()
        ):
            return last[3], None
        heat = _COARSE * PRECISE * cost_scale(made, blocks)
        dual = Dual([b for b, _ in blocks], prices, base)
        path, answers = dual.solve(self._prices.get("rest"), temperature=heat)
        self._prices["rest"] = path
        load = base.copy()
        for (block, _), answer in zip(blocks, answers, strict=True):
            load[block.columns] += answer.total[block.site] * answer.inside * block.work
        self._settled = made.layout, demand, self._turn, load
        return load, None

    def decide(
        self,
        made: Picture,
        problem: Problem,
        prices: PriceTable,
        *,
        rows: Rows,
        shares: Array,
        start: Array | None,
    ) -> Optimum:
        """Minimise the cost of the rows that are decided, over all pairs.

        Args:
            made: the fleet of this cycle.
            problem: with the entries to begin with.
            prices: of work in the coming period.
            rows: which are decided.
            shares: (entries,): those of the other rows, and what is in use of the decided ones.
            start: (entries,): where to begin; None where there is nothing better than what is
                in use.
        """
        dual: Array | None = None
        if not problem.complete:
            problem, shares, dual = self._from_dual(made, problem, prices, rows, shares)
            start = shares
        decided = rows.optimal & (rows.live | problem.complete)
        for _ in range(_MOST_ROUNDS):
            own = decided[problem.flow.row]
            part = restrict(problem.flow, own, shares)
            solution = solve(
                part,
                prices,
                start=None if start is None else start[own],
                tolerance=1e-4 if problem.complete else _BALANCED,
                most_iterations=60 if problem.complete else _POLISH,
            )
            shares = np.where(own, _spread(own, solution.shares), shares)
            price = prices.evaluate(problem.flow.load(shares))[1]
            if len(solution.multipliers):
                price = price + solution.multipliers @ problem.flow.budgets.weight
            solved = Solved(made, problem, part, solution, np.flatnonzero(decided))
            gap, missing = solved.price_out(price)
            if gap > _ENOUGH and dual is not None:
                gap = min(gap, 1.0 - solved.bound(prices, dual) / solution.cost)
            if gap <= _ENOUGH or not len(missing):
                break
            codes = join([problem.codes, missing])
            shares = start = carry(problem.codes, shares, codes)
            problem = made.problem(codes)
        return Optimum(problem, shares, gap)

    def _from_dual(
        self, made: Picture, problem: Problem, prices: PriceTable, rows: Rows, shares: Array
    ) -> tuple[Problem, Array, Array]:
        """Return the entries that the dual finds worth it, their shares, and its prices."""
        blocks, base = build_blocks(made, problem, rows, shares)
        found: list[tuple[Codes, Array]] = []
        price = prices.evaluate(base)[1]
        heat = PRECISE * cost_scale(made, blocks)
        if blocks:
            dual = Dual([b for b, _ in blocks], prices, base)
            path, answers = dual.solve(self._prices.get("period"), temperature=heat)
            self._prices["period"] = path
            price = path[-1]
            found = [
                worthy_entries(block, first, answer)
                for (block, first), answer in zip(blocks, answers, strict=True)
            ]
        if len(quiet := self._quiet(made, problem, rows, shares, price)):
            found.append(nearest_pairs(made, quiet, price, heat=4.0 * heat))
        if not found:
            return problem, shares, price
        codes = np.concatenate([codes for codes, _ in found])
        values = np.concatenate([values for _, values in found])
        order = np.argsort(codes, kind="stable")
        codes, values = codes[order], values[order]
        renewed = np.zeros(made.pairs.rows, dtype=bool)
        renewed[rows_of(made, codes)] = True
        wider = made.problem(join([problem.codes, codes]))
        kept = carry(problem.codes, shares, wider.codes)
        fresh = renewed[wider.flow.row]
        return wider, np.where(fresh, carry(codes, values, wider.codes), kept), price

    def _quiet(
        self, made: Picture, problem: Problem, rows: Rows, shares: Array, price: Array
    ) -> Indices:
        """Return the rows without clients that get other instances now."""
        quiet = rows.optimal & ~rows.live
        if not quiet.any():
            return np.zeros(0, dtype=np.intp)
        flow = problem.flow
        carried = np.add.reduceat(shares, flow.starts)
        empty = quiet & (carried < 1.0 - 1e-6)
        turn = np.flatnonzero(
            quiet & ~empty & (np.arange(len(quiet)) % _TURNS == self._turn % _TURNS)
        )
        paid = np.add.reduceat(shares * flow.marginal(price), flow.starts)[turn]
        stale = turn[paid > _STALE * made.pairs.cheapest(price, turn)[0]]
        return np.union1d(np.flatnonzero(empty), stale).astype(np.intp)

    def _move(self, layout: Layout) -> None:
        """Hold what is kept by the numbers of *layout*."""
        former, self._layout = self._layout, layout
        if former is None or former is layout:
            return
        if self._rest is not None:
            codes, order = translate(self._rest[0], former, layout)
            self._rest = (codes, self._rest[1][order])
        place = [former.column.get(instance.name, -1) for instance in layout.instances]
        known = np.array(place, dtype=np.intp)
        for kind, price in self._prices.items():
            # What is new begins at the price of an idle instance.
            moved = price[:, known] if price.shape[1] else np.ones((len(price), len(known)))
            self._prices[kind] = np.where(known >= 0, moved, 1.0)

    def _rest_start(self, problem: Problem) -> Array | None:
        """Return the last long-run shares as a start, alike where a row has none."""
        if self._rest is None or not len(problem.codes):
            return None
        start = carry(*self._rest, problem.codes)
        covered = np.add.reduceat(start, problem.flow.starts)
        counts = np.bincount(problem.flow.row, minlength=len(covered))
        lost = (covered < 1e-6)[problem.flow.row]
        return np.where(lost, 1.0 / counts[problem.flow.row], start)


def _spread(kept: Flags, shares: Array) -> Array:
    whole = np.zeros(len(kept))
    whole[kept] = shares
    return whole
