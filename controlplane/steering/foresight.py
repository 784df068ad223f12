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

from controlplane.steering.latency import KNOTS, Array, PriceTable

MEMORY = 120
"""Periods that are remembered."""

_CASES = 6


@dataclass(slots=True)
class Foresight:
    """Ratios of the demand that came to the demand that was expected."""

    _expected: float | None = None
    _ratios: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))

    def observe(self, counted: float | None, expected: float) -> None:
        """Note what was *counted* in the last period, and what is *expected* of the next."""
        if counted is not None and self._expected is not None and self._expected > 0:
            self._ratios.append(min(max(counted / self._expected, 0.1), 5.0))
        self._expected = expected

    def cases(self) -> list[tuple[float, float]]:
        """Give (probability, factor on the demand): the mean of each sixth of the ratios."""
        if len(self._ratios) < 4 * _CASES:
            return [(1.0, 1.0)]
        ranked = np.sort(np.array(self._ratios))
        parts = np.array_split(ranked, _CASES)
        made = [(len(part) / len(ranked), float(part.mean())) for part in parts]
        middle = sum(share * factor for share, factor in made)
        made = [(share, factor / middle) for share, factor in made]
        spread = max(factor for _, factor in made)
        return made if spread > 1.15 else [(1.0, 1.0)]


def mix_prices(table: PriceTable, cases: list[tuple[float, float]]) -> PriceTable:
    """Give the expected prices when all loads are multiplied by an uncertain factor."""
    if len(cases) == 1:
        return table
    total = np.zeros_like(table.price)
    for probability, factor in cases:
        total += probability * factor * _prices_at(table, factor * KNOTS)
    return PriceTable.of(table.capacity, total)


def _prices_at(table: PriceTable, rho: Array) -> Array:
    """Give the prices of all instances at the same shares *rho* of their capacities."""
    index = np.clip(np.searchsorted(KNOTS, rho, side="right") - 1, 0, len(KNOTS) - 2)
    part = (rho - KNOTS[index]) / (KNOTS[index + 1] - KNOTS[index])
    low, high = table.price[:, index], table.price[:, index + 1]
    prices: Array = low + part * (high - low)
    return prices
