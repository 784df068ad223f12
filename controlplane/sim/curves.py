"""True latency curves of simulated engines and the convex optimum over them.

A yardstick for learning: what weights would be if every curve were known.
It is written apart from `controlplane.steering` so that it can judge it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_KNEE = 0.95
"""Part of the capacity from where the curves go on as straight lines."""


class Curves:
    """Time inside each of several engines as a function of its arrival rate."""

    def __init__(
        self, slots: Sequence[int], alone: Sequence[float], slowdown: Sequence[float]
    ) -> None:
        self.slots: Floats = np.array(slots, dtype=np.float64)
        self.alone: Floats = np.array(alone, dtype=np.float64)
        """Seconds that a lone request takes."""
        self.extra: Floats = np.array(slowdown, dtype=np.float64) * self.alone
        """Seconds that each further request in service adds."""
        crowd = np.array(slowdown, dtype=np.float64) * self.slots
        self._power: Floats = np.sqrt(2 * (self.slots + 1)) * (
            1 + 0.45 * crowd / (1 + 0.06 * crowd)
        )
        self.capacity: Floats = self.slots / (self.alone + self.extra * (self.slots - 1))
        """Requests a second that each sustains."""

    def total(self, rate: Floats) -> tuple[Floats, Floats]:
        """Return (rate * mean time inside, its derivative): requests inside, marginal seconds.

        Queue-like: Sakasegawa's approximation of the M/M/c wait.
        Batching: L = a / (1 - b * rate) by Little's law, and the queue's wait near the capacity,
        which comes later than that of slots alone, since a batch slows down before it queues; how
        much later is fitted to exact birth-death chains.
        Beyond the knee the marginal cost rises on as a straight line.
        """
        knee = _KNEE * self.capacity
        inside, slope = self._within(np.minimum(rate, knee))
        over = np.maximum(rate - knee, 0.0)
        steep = slope / (self.capacity - knee)
        return inside + slope * over + steep * over * over / 2, slope + steep * over

    def _within(self, rate: Floats) -> tuple[Floats, Floats]:
        first = self.alone - self.extra
        stretch = 1 - self.extra * rate
        own = first / stretch
        own_slope = first * self.extra / stretch**2
        load = np.maximum(rate / self.capacity, 1e-9)
        power = self._power - 1
        wait = load**power / (1 - load) / self.capacity
        wait_slope = wait * (power / load + 1 / (1 - load)) / self.capacity
        mean = own + wait
        return rate * mean, mean + rate * (own_slope + wait_slope)


def optimal_shares(
    demand: Floats,
    rtt: Floats,
    curves: Curves,
    *,
    sizes: Floats | None = None,
    usable: NDArray[np.bool_] | None = None,
    start: Floats | None = None,
    iterations: int = 400,
) -> Floats:
    """Minimise the requests in flight over shares (rows x instances) by mirror descent.

    A row is a client site and a service.
    *sizes* (rows x instances) is the work of a row's request over that of the request which the
    curves are for, 1 by default; *usable* says where a row may go, everywhere by default.
    The step halves when the cost rises and grows otherwise.
    """
    even = np.tile(curves.capacity, (len(demand), 1)) * (1.0 if usable is None else usable)
    even /= even.sum(axis=1, keepdims=True)
    shares = even if start is None else 0.99 * start + 0.01 * even
    sizes = np.ones_like(rtt) if sizes is None else sizes
    step = 1.0
    cost, marginal = _cost(shares, demand, rtt, sizes, curves)
    for _ in range(iterations):
        lowest = np.where(even > 0, marginal, np.inf).min(axis=1, keepdims=True)
        move = -step * np.maximum(marginal - lowest, 0.0)
        moved = np.maximum(shares * np.exp(np.maximum(move, -50.0)), 1e-30) * (even > 0)
        moved /= moved.sum(axis=1, keepdims=True)
        new_cost, new_marginal = _cost(moved, demand, rtt, sizes, curves)
        if new_cost > cost:
            step /= 2
            if step < 1e-6:
                break
            continue
        done = cost - new_cost < 1e-9 * cost and step > 1
        shares, cost, marginal = moved, new_cost, new_marginal
        step = min(1.3 * step, 1e3)
        if done:
            break
    shares[shares < 1e-4] = 0.0
    normalised: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normalised


def _cost(
    shares: Floats, demand: Floats, rtt: Floats, sizes: Floats, curves: Curves
) -> tuple[float, Floats]:
    flow = demand[:, None] * shares
    inside, slope = curves.total((flow * sizes).sum(axis=0))
    return float((flow * rtt).sum() + inside.sum()), rtt + sizes * slope
