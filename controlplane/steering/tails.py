"""How far times scatter about what the curve says, learned from Envoys' histograms.

What a request takes until its promise is due is the mean time of the curve times a log-normal
factor. Its spread is the one under which as many requests are late as were, given who was sent
where: what matters is the tail at what is promised, not the body of the distribution, which other
spreads may fit better. Time to the first byte has a scale as well, the mean over that of whole
answers. Counts fade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from controlplane.fleet.promises import within
from controlplane.fleet.traffic_view import LatencyCounts
from controlplane.steering.latency import Array
from controlplane.steering.problem import Problem
from controlplane.steering.promise_tails import PromiseKind, Tail, stretch

HALF_LIFE = 20.0
"""Seconds in which counts lose half of their weight."""

_SPREADS: Array = np.geomspace(0.05, 2.5, 41)
SPREAD = 0.6
"""Standard deviation of the logarithm of that factor before anything is seen."""
_SPREAD_OFF = 0.5
"""Standard deviation of the spread's own logarithm."""

_SCALES: Mapping[PromiseKind, float] = {PromiseKind.LATENCY: 1.0, PromiseKind.TTFT: 0.25}
"""Mean time over the mean of a whole answer before anything is seen."""

_CLASSES = 24
"""Groups of equal times that stand for all pairs in use."""

_LEAST = 1e-5
"""Least probability: no model is so good that one request refutes it."""


@dataclass(slots=True)
class _Learned:
    """Of one promise."""

    at: float
    totals: tuple[float, float]
    """Answers in time, and all, when last looked at."""
    in_time: float = 0.0
    """Both since then, faded."""
    ended: float = 0.0
    scale: float | None = None
    """Mean time to the first byte over that to the last; None if it is not known."""


class TailLearner:
    """Learns the tail of each service's promises."""

    def __init__(self) -> None:
        self._learned: dict[tuple[str, PromiseKind], _Learned] = {}
        self._spreads: dict[tuple[str, PromiseKind], float] = {}

    def tail(self, service: int, name: str, kind: PromiseKind, limit: float) -> Tail:
        """Return the tail of a promise as it is known now."""
        learned = self._learned.get((name, kind))
        scale = None if learned is None else learned.scale
        return Tail(
            service,
            kind,
            limit,
            _SCALES[kind] if scale is None else scale,
            self._spreads.get((name, kind), SPREAD),
        )

    def observe(
        self,
        tails: Sequence[Tail],
        counts: Mapping[str, LatencyCounts],
        *,
        problem: Problem,
        shares: Array,
        load: Array,
        now: float,
    ) -> None:
        """Update the tails from counts at *shares*, (entries,), and *load*, (instances,)."""
        for tail in tails:
            name = problem.layout.services[tail.service].service.name
            seen = counts.get(name)
            if seen is None:
                continue
            buckets = seen.ttft if tail.kind is PromiseKind.TTFT else seen.latency
            totals = within(seen.bounds, buckets, tail.limit), sum(buckets)
            learned = self._learned.get((name, tail.kind))
            if learned is None or totals[1] < learned.totals[1]:
                learned = self._learned[name, tail.kind] = _Learned(now, totals)
            if tail.kind is PromiseKind.TTFT:
                learned.scale = _mean(seen.bounds, seen.ttft) / _mean(seen.bounds, seen.latency)
            kept = 0.5 ** ((now - learned.at) / HALF_LIFE)
            learned.in_time = kept * learned.in_time + totals[0] - learned.totals[0]
            learned.ended = kept * learned.ended + totals[1] - learned.totals[1]
            learned.at, learned.totals = now, totals
            if learned.ended >= 1.0:
                late = max(0.0, learned.ended - learned.in_time)
                self._spreads[name, tail.kind] = _spread(
                    tail, late, learned.ended, problem=problem, shares=shares, load=load
                )


def _spread(
    tail: Tail, late: float, ended: float, *, problem: Problem, shares: Array, load: Array
) -> float:
    """Return the mean of the spreads by how probable they make *late* of *ended* requests."""
    flow = problem.flow
    own = (problem.service_of[flow.row] == tail.service) & (shares > 1e-4)
    amount = (flow.demand[flow.row] * shares)[own]
    evidence: Array = -0.5 * (np.log(_SPREADS / SPREAD) / _SPREAD_OFF) ** 2
    if amount.sum() > 0:
        inside = (flow.work * stretch(problem.curves, load)[flow.column])[own]
        path = (problem.rtt + problem.transfer)[own]
        weight, path, inside = _classes(amount, path, inside)
        likely = np.array(
            [
                float(replace(tail, spread=each).late(path, inside) @ weight)
                for each in _SPREADS.tolist()
            ]
        )
        likely = np.clip(likely, _LEAST, 1.0 - _LEAST)
        evidence = evidence + late * np.log(likely) + (ended - late) * np.log1p(-likely)
    chance = np.exp(evidence - evidence.max())
    return float(np.exp(chance @ np.log(_SPREADS) / chance.sum()))


def _mean(bounds: Sequence[float], counts: Sequence[float]) -> float:
    """Return about the mean of a histogram, seconds; positive."""
    edges = np.array([0.0, *bounds, bounds[-1]])
    middles = 0.5 * (edges[1:] + edges[:-1])
    return max(1e-6, float(middles @ np.array(counts)) / max(sum(counts), 1e-9))


def _classes(amount: Array, path: Array, inside: Array) -> tuple[Array, Array, Array]:
    """Return a few groups of like times: weights that add up to one, mean paths, mean times."""
    order = np.argsort(inside)
    amount, path, inside = amount[order], path[order], inside[order]
    before = np.cumsum(amount) - 0.5 * amount
    group = np.minimum((before / amount.sum() * _CLASSES).astype(np.intp), _CLASSES - 1)
    whole = np.bincount(group, amount, _CLASSES)
    kept = whole > 0
    mean_path = np.bincount(group, amount * path, _CLASSES)[kept] / whole[kept]
    mean_inside = np.bincount(group, amount * inside, _CLASSES)[kept] / whole[kept]
    return whole[kept] / whole.sum(), mean_path, mean_inside
