"""How wrong the demand will have been: caution against bursts, made of the errors of the past.

Shares for a period are decided from the demand before it. How far the total was off in the last
minute says how far it may be off now. The cost that counts is the mean over these cases, and the
mean of convex costs is a convex cost: the price of work becomes a mixture of prices at larger and
smaller loads. A steady fleet is steered as before; a bursty one keeps room where bursts will land.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from controlplane.steering.knots import KNOTS
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.policies import normalise
from controlplane.steering.problem import Problem

MEMORY = 120
"""Periods that are remembered."""

_CASES = 6

CALM, WILD = 1.3, 2.0
"""Unrest from which shares are drawn towards capacities, and at which they are most."""

HEDGE = 0.7
"""Part of the way that they are drawn, at most."""

EXPENSIVE = 2.0
"""How much more expensive than what a row pays now an idle instance may be to take part."""

_WARM_UP = 3
"""Periods after the first count in which the expectation is still settling."""


@dataclass(slots=True)
class DemandErrors:
    """Ratios of the demand that came to the demand that was expected."""

    _expected: float | None = None
    _heard: int = 0
    _chance: float = 0.0
    """Variance of the ratio that mere chance gives."""
    _ratios: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))

    def observe(self, counted: float | None, expected: float, *, period: float) -> None:
        """Note what was *counted* in the last period, and what is *expected* of the next.

        Both are requests a second; *counted* is none when no one counts.
        """
        if counted is None:
            self._expected = None
            return
        self._heard += 1
        if self._heard > _WARM_UP and self._expected is not None and self._expected > 0:
            self._ratios.append(min(max(counted / self._expected, 0.1), 5.0))
            chance = 1.0 / max(self._expected * period, 1.0)
            self._chance += (chance - self._chance) / min(len(self._ratios), MEMORY)
        self._expected = expected

    def cases(self) -> list[tuple[float, float]]:
        """Return (probability, factor on the demand): the mean of each sixth of the ratios."""
        if len(self._ratios) < _CASES:
            return [(1.0, 1.0)]
        ranked = np.sort(np.array(self._ratios))
        parts = np.array_split(ranked, _CASES)
        made = [(len(part) / len(ranked), float(part.mean())) for part in parts]
        # Counts of steady arrivals scatter too; only what is beyond that is burstiness.
        spread = float(ranked.var())
        kept = float(np.sqrt(max(0.0, 1.0 - 2.0 * self._chance / max(spread, 1e-12))))
        middle = sum(share * factor for share, factor in made)
        made = [(share, 1.0 + kept * (factor / middle - 1.0)) for share, factor in made]
        return made if made[-1][1] > 1.1 else [(1.0, 1.0)]

    @property
    def burstiness(self) -> float:
        """Return the largest factor that is reckoned with; 1 for a steady demand."""
        return max(factor for _, factor in self.cases())


def hedge(problem: Problem, shares: Array, prices: PriceTable, *, burstiness: float) -> Array:
    """Return *shares* drawn towards capacities while demand jumps from period to period.

    A burst that lasts no longer than a period finds the shares of the lull before it. Where it
    is larger than all capacity, shares by capacity end it soonest, whatever they were made for;
    its cost grows with the square of its size, so that few bursts outweigh many lulls. Instances
    that are expensive even when idle get none of it, nor do those under a power budget; rows that
    operators bound stay as they are.
    """
    part = HEDGE * min(max((burstiness - CALM) / (WILD - CALM), 0.0), 1.0)
    if part <= 0 or not len(shares):
        return shares
    flow = problem.flow
    able = flow.linear + flow.work <= EXPENSIVE * flow.paid(shares, prices)
    # More for an instance under a power budget could be more than the budget allows.
    if len(flow.budgets.limit):
        able &= np.all(flow.budgets.weight[:, flow.column] <= 0, axis=0)
    room = problem.sustained[flow.column]
    # A class of devices may sustain thousands of times what its own clients ask.
    own = problem.layout.reach[flow.column] >= 0
    room = np.where(own, np.minimum(room, flow.demand[flow.row]), room)
    spread = normalise(problem, np.where(able, room, 0.0))
    return np.where(flow.limited, shares, (1.0 - part) * shares + part * spread)


def mix_prices(table: PriceTable, cases: list[tuple[float, float]]) -> PriceTable:
    """Return the expected prices when all loads are multiplied by an uncertain factor."""
    if len(cases) == 1:
        return table
    total = np.zeros_like(table.price)
    for probability, factor in cases:
        total += probability * factor * _prices_at(table, factor * KNOTS)
    return PriceTable.of(table.capacity, total)


def _prices_at(table: PriceTable, rho: Array) -> Array:
    """Return the prices of all instances at the same shares *rho* of their capacities."""
    index = np.clip(np.searchsorted(KNOTS, rho, side="right") - 1, 0, len(KNOTS) - 2)
    part = (rho - KNOTS[index]) / (KNOTS[index + 1] - KNOTS[index])
    low, high = table.price[:, index], table.price[:, index + 1]
    prices: Array = low + part * (high - low)
    return prices
