"""Learning how long the requests of one service take beside those of another.

Services share instances, and one curve per instance is enough only while their work is counted in
one unit. Where no one says how much longer an image takes than an embedding, Envoys' latencies do:
inside one instance, without the wait that all share, they differ by the work alone. So
latency = size of the service x pace of the instance, a two-way layout whose margins are fitted by
turns (Deming and Stephan 1940), with the configured sizes as a prior. The prior holds the unit,
too: what is measured are ratios. Sums are fitted, not logarithms: those of a few requests of very
uneven work would come out too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controlplane.fleet.traffic_view import Served
from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Indices
from controlplane.steering.saved import read_number

MEMORY = 120.0
"""Seconds of requests over which ratios are averaged."""

_PRIOR_COUNT = 3.0
"""Requests that what is configured is worth: services of which nothing is said are often several
times as long as others."""

_SCATTER = 1.5
"""Squared relative deviation of one latency from the mean: work varies, and so does the batch."""
_MISFIT = 0.15
"""Relative deviation of a service's size between instances: prompts are read at another speed than
tokens are made, and the ratio of both differs by engine."""
_LONG = 1.0
"""Seconds inside from which requests under way say more than those that have ended."""
LEAST_SIZE = 1e-6
"""Of a saved size: what is divided by it stays a number."""
_SUMS = 3
_ROUNDS = 3
"""Turns of the fit in a cycle, which goes on from the last one."""
_LEAST = 0.1
_FEWEST = 2.0
"""Requests of a service at an instance that say anything."""


@dataclass(slots=True)
class SizeLearner:
    """The size of each service's requests, in requests of ordinary size.

    Attributes:
        size: service -> size as it is believed now.
    """

    size: dict[str, float] = field(default_factory=dict)
    _pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    """(service, instance) -> its place in the sums."""
    _sums: Array = field(default_factory=lambda: np.zeros((0, _SUMS)))
    """(pairs, 3): requests, their seconds inside, and of these the wait."""
    _last: Mapping[tuple[str, str], Served] = field(default_factory=dict)
    """What Envoys had seen in the cycle before."""
    _at: float = -math.inf
    """When that was."""

    def observe(
        self,
        services: Sequence[tuple[str, float]],
        served: Mapping[tuple[str, str], Served],
        *,
        waits: Mapping[str, float],
        now: float,
    ) -> tuple[Array, Mapping[str, float]]:
        """Follow what Envoys saw.

        Args:
            services: (name, size as configured) of every service.
            served: (service, instance) -> what Envoys saw in all.
            waits: instance -> seconds that requests wait there, whatever their service.
            now: seconds.

        Returns:
            The sizes, (services,), and by instance the factor by which the mean size of its
            requests is believed to be larger than it was in the cycle before.
        """
        before = dict(self.size)
        names = [name for name, _ in services]
        if set(names) != set(self.size):
            self.size = {name: self.size.get(name, prior) for name, prior in services}
            known = self.size
            self._keep(lambda service, _: service in known)
        if len(names) > 1:
            self._count(served, waits, now)
            self._fit(dict(services))
        return np.array([self.size[name] for name in names]), self._growth(before)

    def memory(self) -> dict[str, Any]:
        """Return what was learned as a JSON-ready document."""
        sums = [[*pair, *self._sums[place].tolist()] for pair, place in self._pairs.items()]
        return {"size": dict(self.size), "sums": sums}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Continue from what `memory` gave.

        Raises:
            ValueError, KeyError, TypeError: it is none; nothing was taken.
        """
        size = {
            str(name): read_number(value, least=LEAST_SIZE)
            for name, value in memory["size"].items()
        }
        sums = {
            (str(service), str(instance)): [read_number(value) for value in values]
            for service, instance, *values in memory["sums"]
        }
        if any(len(values) != _SUMS for values in sums.values()):
            raise ValueError("no sums of requests, seconds and wait")
        self.size, self._at = size, -math.inf
        self._sums = np.array(list(sums.values()), dtype=float).reshape(-1, _SUMS)
        self._pairs = {pair: place for place, pair in enumerate(sums)}

    def _count(
        self,
        served: Mapping[tuple[str, str], Served],
        waits: Mapping[str, float],
        now: float,
    ) -> None:
        """Add what Envoys counted since the last cycle, and let older requests fade."""
        # What was seen before the first cycle is of unknown age.
        last = served if math.isinf(self._at) else self._last
        span = 0.0 if math.isinf(self._at) else max(0.0, now - self._at)
        self._at, self._last = now, served
        self._sums *= math.exp(-min(span, MEMORY) / MEMORY)
        for pair in served:  # in order: a set of names has another in each process
            if pair not in self._pairs:
                self._pairs[pair] = len(self._pairs)
        fresh = len(self._pairs) - len(self._sums)
        if fresh:
            self._sums = np.concatenate([self._sums, np.zeros((fresh, _SUMS))])
        places, added = [], []
        for pair, total in served.items():
            old = last.get(pair, Served())
            answers, inside, under_way = (new - was for new, was in zip(total, old, strict=True))
            if answers < 0:
                answers, inside, under_way = total
            if answers > 0 or under_way > 0:
                wait = answers * waits.get(pair[1], 0.0)
                places.append(self._pairs[pair])
                added.append((answers, _blend(answers, inside, under_way), wait))
        if places:
            self._sums[places] += np.array(added)
        if len(self._pairs) > 2 * len(served):
            # Those that Envoys no longer know, once next to nothing of them is left.
            self._keep(lambda *pair: pair in served or self._sums[self._pairs[pair], 0] > _LEAST)

    def _fit(self, priors: Mapping[str, float]) -> None:
        """Fit the sizes to the latencies of all instances."""
        if not self._pairs:
            return
        order = {name: place for place, name in enumerate(self.size)}
        service, instance = self._indices(order)
        number, inside, wait = self._sums.T
        able = (number >= _FEWEST) & (inside > 0)
        if not able.any():
            return
        service, instance = service[able], instance[able]
        number, inside, wait = number[able], inside[able], wait[able]
        own = np.maximum(inside - np.minimum(wait, inside), 0.05 * inside)
        # Where most of the time was spent waiting, what is left of it is hardly known.
        trust = (own / inside) ** 2 / (1.0 + number * _MISFIT**2 / _SCATTER)
        number, own = trust * number, trust * own
        prior = np.array([priors[name] for name in self.size])
        size = np.array(list(self.size.values()))
        by_instance = np.maximum(np.bincount(instance, number), 1e-12)
        by_service = np.bincount(service, number, len(size)) + _PRIOR_COUNT
        for _ in range(_ROUNDS):
            pace = np.bincount(instance, own / size[service]) / by_instance
            total = np.bincount(service, own / pace[instance], len(size))
            size = (total + _PRIOR_COUNT * prior) / by_service
        self.size = dict(zip(self.size, size.tolist(), strict=True))

    def _growth(self, before: Mapping[str, float]) -> dict[str, float]:
        """Return by instance how much larger its mean request is believed to be than *before*."""
        if before == self.size or not self._pairs:
            return {}
        old: dict[str, float] = {}
        new: dict[str, float] = {}
        for (service, instance), place in self._pairs.items():
            number = float(self._sums[place, 0])
            now = self.size[service]
            old[instance] = old.get(instance, 0.0) + number * before.get(service, now)
            new[instance] = new.get(instance, 0.0) + number * now
        return {name: new[name] / old[name] for name in new if old[name] > 0}

    def _indices(self, order: Mapping[str, int]) -> tuple[Indices, Indices]:
        instances: dict[str, int] = {}
        pairs = [
            (order[service], instances.setdefault(instance, len(instances)))
            for service, instance in self._pairs
        ]
        service, instance = np.array(pairs, dtype=np.intp).T
        return service, instance

    def _keep(self, wanted: Callable[[str, str], bool]) -> None:
        """Forget the pairs that are not *wanted*."""
        kept = [(pair, place) for pair, place in self._pairs.items() if wanted(*pair)]
        self._sums = self._sums[[place for _, place in kept]].reshape(-1, _SUMS)
        self._pairs = {pair: place for place, (pair, _) in enumerate(kept)}


def _blend(answers: float, inside: float, under_way: float) -> float:
    """Return the seconds that requests have spent inside.

    Those that have ended leave out the long ones that have not; where these matter, all that are
    under way are counted (time at risk over ends, as for any censored life). Of short requests the
    ends say more: what is under way at the instants of reports is a small sample of them.
    """
    if under_way <= 0:
        return inside
    mean = inside / answers if answers > 0 else math.inf
    part = 1.0 if math.isinf(mean) else mean / (mean + _LONG)
    return (1.0 - part) * inside + part * under_way
