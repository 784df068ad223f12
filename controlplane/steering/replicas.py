"""How many replicas each group needs, where groups of the same services help each other out.

Alone, each group needs a whole number of replicas above what its work asks for, half a one too
many on average. But the work of a part of a replica may as well be done elsewhere, if the promise
is kept there too, behind the longer path: whole replicas are then wanted where most of the work
is, and the rest goes, by the optimum, to those that have room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.steering.latency import Array, Curves
from controlplane.steering.optimiser import Indices
from controlplane.steering.pairs import ServicePairs
from controlplane.steering.promises import LATE, Tail

PATIENCE = 2.0
"""Time inside over the time alone that is aimed at where nothing is promised."""
FARTHER = 0.1
"""Longer path that is accepted where nothing is promised, over the time alone."""
MOST = 100_000
"""Replicas beyond which no number is wanted."""
HELPERS = 8
"""Nearest groups that are looked at for the work of a part of a replica."""
_QUANTILE = 2.3263478740408408
"""Of the standard normal, at 1 - `LATE`."""
assert LATE == 0.01  # noqa: S101 -- the quantile is of this
_LEVELS: Array = np.linspace(1e-3, 1.0, 1000)


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

    def paths(self) -> Array:
        """Return the mean seconds of the network to each serving site, (serving sites,)."""
        clients, at = np.flatnonzero(self.rate), self.pairs.at
        away = self.pairs.network_rtt[clients[:, None], at]
        if self.pairs.network_bandwidth is not None:
            away = away + self.pairs.size / self.pairs.network_bandwidth[clients[:, None], at]
        found: Array = self.rate[clients] @ away / self.rate.sum()
        return found

    def stretch(self, path: float, work: float, *, path_at_home: float) -> float:
        """Return the most time inside over the time alone that suits; below 1 for none."""
        if not self.tails:
            return PATIENCE if path - path_at_home <= FARTHER * work else 0.0
        return min(
            (tail.limit - path)
            / (tail.scale * work * math.exp((_QUANTILE - 0.5 * tail.spread) * tail.spread))
            for tail in self.tails
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The instances of one model at one site, and who uses them."""

    columns: Indices
    curve: Curves
    """Of the mean instance, (1,)."""
    work: float
    """That is to be done: requests in progress if none disturbed another."""
    uses: tuple[Use, ...]

    def most(self, stretch: float) -> float:
        """Return the most work of a replica at which requests take *stretch* times as long."""
        if stretch < 1.0:
            return 0.0
        work = _LEVELS * float(self.curve.capacity[0])
        levels = self.curve.number(work) / work
        return float(np.interp(stretch, levels, work))


Spots = dict[int, tuple[int, float]]
"""Group that a service may use -> where it is, as a place in `ServicePairs.at`, and the work of a
request there. Weighted by load, since what a new instance takes is hardly known."""


def find_spots(pairs: ServicePairs, group_of: Indices, load: Array) -> Spots:
    """Return where one service may go.

    Args:
        pairs: of the service.
        group_of: (instances,): the group of each; negative for none.
        load: (instances,): work that each has now.
    """
    group = group_of[pairs.columns]
    known = np.flatnonzero(group >= 0)
    weight = load[pairs.columns[known]] + 1e-9
    size = int(group.max(initial=-1)) + 1
    whole = np.bincount(group[known], weight, size)
    work = np.bincount(group[known], weight * pairs.work[known], size)
    place = dict(zip(group[known].tolist(), pairs.place[known].tolist(), strict=True))
    return {each: (where, float(work[each] / whole[each])) for each, where in place.items()}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one group needs."""

    replicas: int | None
    """None if no number keeps the promise."""
    patient: int
    """Those with which requests wait no longer than they take, whatever is promised."""
    bound_by: str
    """The service whose promise decides; empty where none is made."""


def wanted_replicas(groups: Sequence[Group], load: Array) -> list[Wanted]:
    """Return how many replicas each group needs.

    Args:
        groups: all of them.
        load: (instances,): work that each has now.
    """
    return _Sharing(groups, load).wanted()


class _Sharing:
    """Counts of replicas while parts of them are moved."""

    def __init__(self, groups: Sequence[Group], load: Array) -> None:
        group_of = np.full(len(load), -1, dtype=np.intp)
        for number, group in enumerate(groups):
            group_of[group.columns] = number
        self._groups = groups
        self._spots: dict[int, Spots] = {}
        for group in groups:
            for use in group.uses:
                if id(use.pairs) not in self._spots:
                    self._spots[id(use.pairs)] = find_spots(use.pairs, group_of, load)
        alone = [self._alone(number) for number in range(len(groups))]
        self._bound_by = [name for _, name in alone]
        self._level = [most for most, _ in alone]
        """The most work of a replica, by group."""
        self._load = [group.work for group in groups]
        self._counts = [
            _count(group.work, most) for group, most in zip(groups, self._level, strict=True)
        ]

    def wanted(self) -> list[Wanted]:
        """Return what is needed once all parts that can be are moved."""
        groups = self._groups
        orders = [
            _order(group, count, most)
            for group, count, most in zip(groups, self._counts, self._level, strict=True)
        ]
        for number in sorted(range(len(groups)), key=orders.__getitem__):
            self._move_part(number)
        return [
            Wanted(count, _count(group.work, group.most(PATIENCE)) or MOST, bound_by)
            for group, count, bound_by in zip(groups, self._counts, self._bound_by, strict=True)
        ]

    def _alone(self, number: int) -> tuple[float, str]:
        """Return the most work of a replica that suits every use of a group, and whose that is."""
        group = self._groups[number]
        found, bound_by = group.most(PATIENCE), ""
        for use in group.uses:
            where = self._spots[id(use.pairs)].get(number)
            if where is None or not use.tails:
                continue
            path = float(use.paths()[where[0]])
            most = group.most(use.stretch(path, where[1], path_at_home=path))
            if not bound_by or most < found:
                found, bound_by = most, use.name
        return found, bound_by

    def _move_part(self, number: int) -> None:
        """Let others, the nearest first, do what a group's last replica would, if they can."""
        count = self._counts[number]
        if count is None or count < 2:
            return
        left = over = self._load[number] - (count - 1) * self._level[number]
        moves: list[tuple[int, float, float]] = []
        for helper, guest in self._helpers(number):
            replicas = self._counts[helper]
            if replicas is None or left <= 1e-9:
                continue
            most = min(self._level[helper], guest)
            moved = min(left, replicas * most - self._load[helper])
            if moved > 0.0:
                moves.append((helper, moved, most))
                left -= moved
        if left > 1e-9:
            return
        self._counts[number] = count - 1
        self._load[number] -= over
        for helper, moved, most in moves:
            self._load[helper] += moved
            self._level[helper] = most

    def _helpers(self, number: int) -> list[tuple[int, float]]:
        """Return the nearest groups that every use may go to, and the most work of a replica."""
        uses = self._groups[number].uses
        if not uses:
            return []
        spots = [self._spots[id(use.pairs)] for use in uses]
        paths = [use.paths() for use in uses]
        shared = set.intersection(*map(set, spots)) - {number}
        away = {
            other: max(float(p[spot[other][0]]) for p, spot in zip(paths, spots, strict=True))
            for other in shared
        }
        nearest = sorted(shared, key=lambda other: (away[other], other))[:HELPERS]
        found = []
        for other in nearest:
            stretch = min(
                use.stretch(
                    float(path[spot[other][0]]),
                    spot[other][1],
                    path_at_home=float(path[spot[number][0]]) if number in spot else math.inf,
                )
                for use, path, spot in zip(uses, paths, spots, strict=True)
            )
            found.append((other, self._groups[other].most(stretch)))
        return found


def _order(group: Group, count: int | None, each: float) -> tuple[bool, float]:
    """Return what comes first: replicas that do not exist yet, then the least of work."""
    if count is None:
        return True, math.inf
    return count <= len(group.columns), group.work - (count - 1) * each


def _count(work: float, most: float) -> int | None:
    if most <= 0.0 or work > MOST * most:
        return None
    return max(1, math.ceil(work / most - 1e-9))
