"""Envoy's weighted round robin, and its hashing of sessions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from itertools import count
from math import log

Pick = Callable[[float], int]
"""Gives the instance for a request that comes now; -1 when there is none."""

MOST_PICKS = 2**32 // 10
"""Picks that a new schedule may have behind it, as Envoy bounds its random seed."""


class WeightedRoundRobin:
    """Envoy's weighted round robin.

    The earliest deadline goes first, and is put back 1/weight later.
    The split is exact and the order smooth (1:2:5 gives 3 1 2 3 3 3 2 3 ...).
    Each change of the weights starts the schedule over as if a random number of picks had been
    made from it (``EdfScheduler::createWithPicks``, Envoy 1.29 and later), so that frequent changes
    cost exactness, but favour no instance.
    """

    __slots__ = ("_heap", "_order", "_period", "_random")

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._heap: list[tuple[float, int, int]] = []
        self._period: dict[int, float] = {}
        self._order = count()

    def update(self, weights: Sequence[tuple[int, int]]) -> None:
        """Receive (instance, weight) pairs, every weight at least 1."""
        self._period = {instance: 1.0 / weight for instance, weight in weights}
        self._order = count()
        self._heap = []
        if not weights:
            return
        made = left = self._random.randrange(MOST_PICKS)
        total = sum(weight for _, weight in weights)
        for instance, weight in weights:
            done, beyond = divmod(weight * made, total)
            done -= not beyond and done > 0
            left -= done
            # From now, not from the first pick: small numbers, so that ties stay ties.
            deadline = ((done + 1) * total - weight * made) / (weight * total)
            self._heap.append((deadline, next(self._order), instance))
        heapify(self._heap)
        for _ in range(left):
            self.pick(0.0)

    def pick(self, _now: float) -> int:
        """Return the next instance; -1 if there is none."""
        heap = self._heap
        if not heap:
            return -1
        deadline, _, instance = heap[0]
        heapreplace(heap, (deadline + self._period[instance], next(self._order), instance))
        return instance

    def draw(self, weights: Sequence[tuple[int, int]]) -> int:
        """Return one of (instance, weight) pairs by its weight, whatever the schedule."""
        instances, sizes = zip(*weights, strict=True)
        return int(self._random.choices(instances, sizes)[0])


_MASK = 2**64 - 1


def exponential(session: int, instance: int) -> float:
    """Return a number of the exponential distribution that only depends on the pair."""
    mixed = (session * 0x9E3779B97F4A7C15 + instance * 0xD1B54A32D192ED03 + 1) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & _MASK
    return -log(((mixed ^ (mixed >> 31)) + 1) / (_MASK + 1))
