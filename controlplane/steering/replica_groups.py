"""Groups of like instances, and what services ask of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from controlplane.steering.latency import Array, Curves
from controlplane.steering.optimiser import Indices
from controlplane.steering.pairs import ServicePairs
from controlplane.steering.promise_tails import Tail

PATIENCE = 2.0
"""Time inside over the time alone that is aimed at where nothing is promised."""
FARTHER = 0.1
"""Longer path that is accepted where nothing is promised, over the time alone."""
QUANTILE = 2.3263478740408408
"""Of the standard normal, at 1 - `LATE`."""
LEVELS: Array = np.linspace(1e-3, 1.0, 1000)


@dataclass(frozen=True, slots=True)
class Use:
    """What one service asks of one group."""

    name: str
    """Of the service."""
    pairs: ServicePairs
    tails: tuple[Tail, ...]
    """Of its promises."""
    rate: Array
    """(client sites,): requests a second that go there."""

    def stretch(self, path: Array, work: Array, *, path_at_home: float) -> Array:
        """Return the most time inside over the time alone that suits; below 1 for none.

        Args:
            path: (places,): seconds of the network to each.
            work: (places,): of a request there.
            path_at_home: seconds of the network to where it is done now.
        """
        if not self.tails:
            return np.where(path - path_at_home <= FARTHER * work, PATIENCE, 0.0)
        every = [
            (tail.limit - path)
            / (tail.scale * work * math.exp((QUANTILE - 0.5 * tail.spread) * tail.spread))
            for tail in self.tails
        ]
        least: Array = np.min(every, axis=0)
        return least


@dataclass(frozen=True, slots=True)
class Group:
    """The instances of one model at one site, and who uses them."""

    columns: Indices
    curve: Curves
    """Of the mean instance, (1,)."""
    work: float
    """That is to be done: requests in progress if none disturbed another."""
    uses: tuple[Use, ...]


def most_work(curves: Curves, stretch: Array) -> Array:
    """Return the most work of each replica at which requests take *stretch* times as long, (n,).

    Args:
        curves: of the replicas, (n,).
        stretch: (n,): below 1 nothing suits.
    """
    rows = np.zeros(len(stretch), dtype=np.intp)

    def level(index: Indices) -> tuple[Array, Array]:
        work = LEVELS[index] * curves.capacity
        return work, curves.number(work) / work

    # The last tabulated level below, by halves: a table of all levels of each is a second's work.
    low, high = rows, rows + len(LEVELS) - 1
    while (high - low > 1).any():
        middle = (low + high) // 2
        below = level(middle)[1] <= stretch
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    (work, before), (more, after) = level(low), level(high)
    part = np.clip((stretch - before) / np.maximum(after - before, 1e-300), 0.0, 1.0)
    found: Array = np.where(stretch < 1.0, 0.0, work + part * (more - work))
    return found


@dataclass(frozen=True, slots=True)
class Spots:
    """Where one service may go, by group."""

    place: Indices
    """(groups,): in `ServicePairs.at`; -1 where it may not."""
    work: Array
    """(groups,): of a request there, weighted by load: what a new instance takes is hardly known.
    """


def find_spots(pairs: ServicePairs, group_of: Indices, load: Array, count: int) -> Spots:
    """Return where one service may go.

    Args:
        pairs: of the service.
        group_of: (instances,): the group of each; negative for none.
        load: (instances,): work that each has now.
        count: of groups.
    """
    group = group_of[pairs.columns]
    known = np.flatnonzero(group >= 0)
    weight = load[pairs.columns[known]] + 1e-9
    whole = np.bincount(group[known], weight, count)
    work = np.bincount(group[known], weight * pairs.work[known], count)
    place = np.full(count, -1, dtype=np.intp)
    place[group[known]] = pairs.place[known]
    return Spots(place, work / np.maximum(whole, 1e-300))
