"""How many replicas each group needs, where groups of the same services help each other out.

Alone, each group needs a whole number of replicas above what its work asks for, half a one too
many on average. But the work of a part of a replica may as well be done elsewhere, if the promise
is kept there too, behind the longer path: whole replicas are then wanted where most of the work
is, and the rest goes, by the optimum, to those that have room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.steering.latency import Array, Curves
from controlplane.steering.optimiser import Indices
from controlplane.steering.pairs import ServicePairs
from controlplane.steering.promises import LATE
from controlplane.steering.replica_groups import PATIENCE, Group, find_spots, most_work

MOST = 100_000
"""Replicas beyond which no number is wanted."""
HELPERS = 8
"""Nearest groups that are looked at for the work of a part of a replica."""
assert LATE == 0.01  # noqa: S101 -- the quantile is of this


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
        count = len(groups)
        group_of = np.full(len(load), -1, dtype=np.intp)
        for number, group in enumerate(groups):
            group_of[group.columns] = number
        self._groups = groups
        self._slots = np.array([group.curve.slots[0] for group in groups])
        self._slowdown = np.array([group.curve.slowdown[0] for group in groups])
        pairs = {id(use.pairs): use.pairs for group in groups for use in group.uses}
        self._spots = {key: find_spots(each, group_of, load, count) for key, each in pairs.items()}
        self._paths = _find_paths(groups, pairs)
        """Mean seconds of the network to each serving site, for each use of each group."""
        self._patient = self._most(np.arange(count), np.full(count, PATIENCE)).tolist()
        self._level, self._bound_by = self._alone()
        """The most work of a replica that suits every use of a group, and whose that is."""
        self._load = [group.work for group in groups]
        self._counts = [
            _count(group.work, most) for group, most in zip(groups, self._level, strict=True)
        ]
        self._helpers = self._find_helpers()

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
            Wanted(count, _count(group.work, patient) or MOST, bound_by)
            for group, count, patient, bound_by in zip(
                groups, self._counts, self._patient, self._bound_by, strict=True
            )
        ]

    def _most(self, numbers: Indices, stretch: Array) -> Array:
        """Return the most work of a replica of each of *numbers*, groups, at each *stretch*."""
        return most_work(Curves(self._slots[numbers], self._slowdown[numbers]), stretch)

    def _alone(self) -> tuple[list[float], list[str]]:
        numbers: list[int] = []
        names: list[str] = []
        stretches: list[Array] = []
        for number, group in enumerate(self._groups):
            for use, paths in zip(group.uses, self._paths[number], strict=True):
                spots = self._spots[id(use.pairs)]
                place = int(spots.place[number])
                if place < 0 or not use.tails:
                    continue
                path, work = paths[place : place + 1], spots.work[number : number + 1]
                stretches.append(use.stretch(path, work, path_at_home=float(path[0])))
                numbers.append(number)
                names.append(use.name)
        found, bound_by = list(self._patient), [""] * len(self._groups)
        most = self._most(
            np.array(numbers, dtype=np.intp), np.concatenate([np.zeros(0), *stretches])
        )
        for number, name, each in zip(numbers, names, most.tolist(), strict=True):
            if not bound_by[number] or each < found[number]:
                found[number], bound_by[number] = each, name
        return found, bound_by

    def _move_part(self, number: int) -> None:
        """Let others, the nearest first, do what a group's last replica would, if they can."""
        count = self._counts[number]
        if count is None or count < 2:
            return
        left = over = self._load[number] - (count - 1) * self._level[number]
        moves: list[tuple[int, float, float]] = []
        for helper, guest in self._helpers.get(number, ()):
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

    def _find_helpers(self) -> dict[int, list[tuple[int, float]]]:
        """Return the nearest groups that every use of a group may go to, for each that may shrink.

        With the most work of a replica there under these uses.
        """
        shrinking = [
            number
            for number, (group, count) in enumerate(zip(self._groups, self._counts, strict=True))
            if group.uses and count is not None and count >= 2
        ]
        found = [self._nearest(number) for number in shrinking]
        nothing = np.zeros(0)
        others = np.concatenate([nothing.astype(np.intp), *(near for near, _ in found)])
        most = self._most(others, np.concatenate([nothing, *(stretch for _, stretch in found)]))
        ends = np.cumsum([len(near) for near, _ in found])[:-1]
        return {
            number: list(zip(near.tolist(), each.tolist(), strict=True))
            for number, (near, _), each in zip(
                shrinking, found, np.split(most, ends) if found else [], strict=True
            )
        }

    def _nearest(self, number: int) -> tuple[Indices, Array]:
        """Return the groups nearest to one, and the most that its uses may stretch there."""
        uses = [
            (use, paths, self._spots[id(use.pairs)])
            for use, paths in zip(self._groups[number].uses, self._paths[number], strict=True)
        ]
        shared = np.all([spots.place >= 0 for _, _, spots in uses], axis=0)
        shared[number] = False
        others = np.flatnonzero(shared)
        away = np.max([paths[spots.place[others]] for _, paths, spots in uses], axis=0)
        if len(others) > HELPERS:
            near = np.flatnonzero(away <= np.partition(away, HELPERS - 1)[HELPERS - 1])
            others, away = others[near], away[near]
        others = others[np.argsort(away, kind="stable")][:HELPERS]
        stretches = []
        for use, paths, spots in uses:
            home = int(spots.place[number])
            stretches.append(
                use.stretch(
                    paths[spots.place[others]],
                    spots.work[others],
                    path_at_home=float(paths[home]) if home >= 0 else math.inf,
                )
            )
        return others, np.min(stretches, axis=0)


def _find_paths(groups: Sequence[Group], pairs: Mapping[int, ServicePairs]) -> list[list[Array]]:
    """Return the mean seconds of the network to each serving site, for each use of each group."""
    found: list[list[Array]] = [[np.zeros(0)] * len(group.uses) for group in groups]
    for key, each in pairs.items():
        mine = [
            (number, place)
            for number, group in enumerate(groups)
            for place, use in enumerate(group.uses)
            if id(use.pairs) == key
        ]
        away = each.network_rtt[:, each.at]
        if each.network_bandwidth is not None:
            away = away + each.size / each.network_bandwidth[:, each.at]
        rates = np.array([groups[number].uses[place].rate for number, place in mine])
        means = rates @ away / rates.sum(axis=1, keepdims=True)
        for (number, place), mean in zip(mine, means, strict=True):
            found[number][place] = mean
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
