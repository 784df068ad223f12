"""The best per-request decider that is known: one step of policy iteration from fixed shares.

The greedy oracle weighs what a request meets and adds for those inside; at high load it fills
slow instances and delays those who come later, so that fixed shares can have a lower mean.
Here the price of an instance is what one more request costs all, also those to come, until the
memory of it is gone, if the others went on under shares by capacity (Krishnan 1990; the relative
values of the birth-death process with that rate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from controlplane.sim.oracles import Oracle
from controlplane.sim.sidecars import Sidecar

_MOST_LOAD = 0.98
"""Load beyond which the prices of a finite queue are used all the same."""
_TAIL = 2000
"""States beyond the batch that the mean number inside is summed over."""


@dataclass(frozen=True, slots=True)
class RelativeValues:
    """Price of one more mean request, seconds, by the number inside."""

    within: tuple[float, ...]
    """With 0, 1 ... *slots* inside."""
    slope: float
    """What each further one adds."""


def relative_values(slots: int, alone: float, capacity: float, rate: float) -> RelativeValues:
    """Solve rate * v(n) - m(n) * v(n - 1) = g - n, v(n) the price with n inside.

    m(n) is the rate of departures, n / (alone * (1 + b (n - 1))) up to *slots* with b such that all
    slots reach *capacity*; g is the mean number inside at *rate*.
    Each direction of the recursion is used where it is stable.
    """
    slowdown = max(slots / (capacity * alone) - 1, 0.0) / max(slots - 1, 1)
    count = np.arange(1, slots + 1)
    leaving = count / (alone * (1 + slowdown * (count - 1)))
    rates = np.concatenate([leaving, np.full(_TAIL, leaving[-1])])
    weights = np.concatenate([[0.0], np.cumsum(np.log(rate / rates))])
    chance = np.exp(weights - weights.max())
    mean = float(chance @ np.arange(len(chance)) / chance.sum())
    slope = 1 / (capacity - rate)
    values = [0.0] * (slots + 1)
    values[slots] = slope * slots + (capacity * slope - mean) / (capacity - rate)
    number = slots
    while number > 0 and leaving[number - 1] > rate:
        values[number - 1] = (rate * values[number] + number - mean) / leaving[number - 1]
        number -= 1
    for n in range(number):
        before = leaving[n - 1] * values[n - 1] if n else 0.0
        values[n] = (mean - n + before) / rate
    return RelativeValues(tuple(float(value) for value in values), slope)


class PolicyIteration(Oracle):
    """Every request to the instance whose price is least, with perfect and instant knowledge.

    A service's requests weigh by the capacity that they take; an engine that counts tokens is taken
    for the batching engine with its lone time and capacity.
    """

    name = "policy_iteration"

    def start(self) -> None:
        """Replace the picker."""
        fleet = self.world.fleet
        mean = fleet.mean_request()
        self._capacity = np.array(self.true_capacity())
        self._alone = [
            engine.spec.alone(mean.mean, mean.prompt, mean.output) for engine in self.world.engines
        ]
        self._interval = (1 / self._capacity).tolist()
        """Seconds between two answers of a full instance at its nominal speed."""
        self._rate = sum(stream.rate for stream in fleet.streams)
        self._size = {
            service: (self._capacity / np.array(fleet.capacities(service))).tolist()
            for service in fleet.service_names()
        }
        super().start()

    def _look(self) -> None:
        super()._look()
        speed = np.array([0.0 if math.isinf(slow) else 1 / slow for slow in self._slow])
        capacity = self._capacity * speed
        load = min(_MOST_LOAD, self._rate / max(capacity.sum(), 1e-9))
        self._values = [
            relative_values(slots, alone / fast, own, load * own) if fast > 0 else None
            for slots, alone, fast, own in zip(
                self._batch, self._alone, speed.tolist(), capacity.tolist(), strict=True
            )
        ]

    def _pick(self, sidecar: Sidecar) -> int:
        world = self.world
        if self._changes != world.changes:
            self._look()
        out, back, slow = sidecar.out, sidecar.back, self._slow
        inside, backlog, slots = world.outstanding, world.backlog, self._batch
        size, values = self._size[sidecar.service], self._values
        best, least = -1, math.inf
        for index in sidecar.usable:
            value = values[index]
            if value is None:
                continue
            beyond = inside[index] - slots[index]
            cost = out[index] + back[index]
            if beyond < 0:
                cost += size[index] * value.within[inside[index]]
            else:
                # The own wait is that of every request; what it adds weighs by its size.
                wait = (beyond + 1) / inside[index] * backlog[index] * slow[index]
                usual = (beyond + 1) * self._interval[index] * slow[index]
                price = value.within[-1] + value.slope * beyond
                cost += wait + size[index] * max(0.0, price - usual)
            if cost < least:
                best, least = index, cost
        return best
