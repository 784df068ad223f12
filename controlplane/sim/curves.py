"""True latency curves of simulated engines and the convex optimum over them.

A yardstick for learning: what weights would be if every curve were known.
It is written apart from `controlplane.steering` so that it can judge it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_KNEE = 0.95
"""Part of the capacity from where the curves go on as straight lines."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Time inside an engine as a function of its arrival rate."""

    slots: int
    alone: float
    """Seconds that a lone request takes."""
    slowdown: float = 0.0

    @property
    def capacity(self) -> float:
        """Give the requests a second that it sustains."""
        return self.slots / (self.alone * (1 + self.slowdown * (self.slots - 1)))

    def total(self, rate: float) -> tuple[float, float]:
        """Give (rate * mean time inside, its derivative): requests inside, marginal seconds.

        Queue-like: Sakasegawa's approximation of the M/M/c wait.
        Batching: L = a / (1 - b * rate) by Little's law, and the queue's wait near the capacity.
        """
        knee = _KNEE * self.capacity
        if rate <= knee:
            return self._inside(rate)
        inside, slope = self._inside(knee)
        over = rate - knee
        # Beyond the knee the marginal cost rises with the capacity's own scale.
        steep = slope / (self.capacity - knee)
        return inside + slope * over + steep * over * over / 2, slope + steep * over

    def _inside(self, rate: float) -> tuple[float, float]:
        extra = self.slowdown * self.alone
        first = self.alone - extra
        stretch = max(1 - extra * rate, 1e-9)
        own = first / stretch
        own_slope = first * extra / stretch**2
        load = min(rate / self.capacity, 0.999)
        power = math.sqrt(2 * (self.slots + 1)) - 1
        service = self.slots / self.capacity
        wait = service / self.slots * load**power / (1 - load) if load > 0 else 0.0
        wait_slope = wait * (power / load + 1 / (1 - load)) / self.capacity if load > 0 else 0.0
        mean = own + wait
        return rate * mean, mean + rate * (own_slope + wait_slope)


def optimal_shares(
    demand: Floats,
    rtt: Floats,
    curves: Sequence[Curve],
    *,
    start: Floats | None = None,
    iterations: int = 400,
) -> Floats:
    """Minimise the requests in flight over shares (clients x instances) by mirror descent.

    The step halves when the cost rises and grows otherwise.
    """
    capacity = np.array([curve.capacity for curve in curves])
    if start is None:
        start = np.tile(capacity / capacity.sum(), (len(demand), 1))
    shares = 0.99 * start + 0.01 * capacity / capacity.sum()
    step = 1.0
    cost, marginal = _cost(shares, demand, rtt, curves)
    for _ in range(iterations):
        move = -step * (marginal - marginal.min(axis=1, keepdims=True))
        moved = shares * np.exp(np.maximum(move, -50.0))
        moved /= moved.sum(axis=1, keepdims=True)
        new_cost, new_marginal = _cost(moved, demand, rtt, curves)
        if new_cost > cost:
            step /= 2
            if step < 1e-6:
                break
            continue
        done = cost - new_cost < 1e-9 * cost and step > 1
        shares, cost, marginal = moved, new_cost, new_marginal
        step *= 1.3
        if done:
            break
    shares[shares < 1e-4] = 0.0
    normalised: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normalised


def _cost(
    shares: Floats, demand: Floats, rtt: Floats, curves: Sequence[Curve]
) -> tuple[float, Floats]:
    rates = demand @ shares
    inside, slope = zip(
        *(curve.total(float(rate)) for curve, rate in zip(curves, rates, strict=True)), strict=True
    )
    cost = float((demand[:, None] * shares * rtt).sum() + sum(inside))
    return cost, rtt + np.array(slope)
