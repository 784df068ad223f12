"""The charges for late answers from cycle to cycle, and what became of each promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.fleet.view import FleetView
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.layout import Layout
from controlplane.steering.pairs import carry
from controlplane.steering.plan import PromiseOutlook
from controlplane.steering.problem import Picture, Problem
from controlplane.steering.promise_tails import PromiseKind, Tail, mix_of
from controlplane.steering.promises import Charged, charge, late_parts, percentile, step
from controlplane.steering.tails import TailLearner

_ROUNDS, _FIRST_ROUNDS = 1, 12
"""Steps of ascent in one cycle, where the last one ended, and in the first one."""

_STILL = 0.02
"""Change of a charge, as a part of it, that is no reason to solve again."""

MOST = 1.0
"""Largest charge of a late answer over what a failed one costs: a promise that costs more is not
kept at the expense of everything else, and reported as missed."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Where the long run comes to rest."""

    load: Array
    """(instances,): work."""
    shares: Array | None
    """(entries,); None where only loads were solved for."""


Settle = Callable[[Picture, Problem, PriceTable], Rest]
"""Solves the long run for costs and prices."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The long run under the promises, and the costs that it is of."""

    charged: Charged
    problem: Problem
    """At those costs."""
    rest: Rest


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last long run was like."""

    problem: Problem
    shares: Array
    load: Array


class PromiseKeeper:
    """Holds the charges of the promises of all services.

    Attributes:
        outlook: what is foreseen of each promise, by service and kind.
    """

    def __init__(self) -> None:
        self._charges: dict[tuple[str, PromiseKind], float] = {}
        self._learner = TailLearner()
        self._seen: _Seen | None = None
        self.outlook: dict[tuple[str, str], PromiseOutlook] = {}

    def learn(self, view: FleetView) -> None:
        """Update the tails from what Envoys counted since the last decision."""
        seen = self._seen
        if view.latencies and seen is not None:
            self._learner.observe(
                self.tails(seen.problem.layout),
                view.latencies,
                problem=seen.problem,
                shares=seen.shares,
                load=seen.load,
                now=view.at,
            )

    def keep(
        self, made: Picture, problem: Problem, prices: PriceTable, *, settle: Settle, used: Array
    ) -> Kept:
        """Return the long run that keeps the promises, as far as it can be.

        Args:
            made: the fleet of this cycle.
            problem: with the entries to begin with.
            prices: of work in the long run.
            settle: solves it.
            used: (entries,): shares in use, which stand for those of a large fleet's long run.
        """
        tails = self.tails(made.layout)
        charged = Charged(made, None)
        if not tails:
            self._charges, self._seen, self.outlook = {}, None, {}
            return Kept(charged, problem, settle(made, problem, prices))
        names = [(made.layout.services[t.service].service.name, t.kind) for t in tails]
        most = np.array([_most(made.layout, tail) for tail in tails])
        charges = np.array([self._charges.get(name, 0.0) for name in names])
        seen = self._seen
        if charges.any() and seen is not None and seen.problem.layout is made.layout:
            shares = carry(seen.problem.codes, seen.shares, problem.codes)
            charged = charge(made, mix_of(problem, shares, seen.load), tails, charges)
            problem = charged.made.problem(problem.codes)
        rest = settle(charged.made, problem, charged.price(prices))
        for _ in range(_FIRST_ROUNDS if seen is None else _ROUNDS):
            shares = used if rest.shares is None else rest.shares
            late = late_parts(problem, shares, rest.load, tails)
            moved = step(charges, late, tails, most)
            if bool(np.all(np.abs(moved - charges) <= _STILL * np.maximum(charges, moved))):
                break
            charges = moved
            charged = charge(made, mix_of(problem, shares, rest.load), tails, charges)
            problem = charged.made.problem(problem.codes)
            rest = settle(charged.made, problem, charged.price(prices))
        self._charges = dict(zip(names, charges.tolist(), strict=True))
        shares = used if rest.shares is None else rest.shares
        self._seen = _Seen(problem, shares, rest.load)
        self.outlook = self._look_ahead(tails)
        return Kept(charged, problem, rest)

    def tails(self, layout: Layout) -> list[Tail]:
        """Return the tail of every promise, as learned."""
        return [
            self._learner.tail(number, service.service.name, kind, limit)
            for number, service in enumerate(layout.services)
            for kind, limit in promised(service.service.slo.ttft, service.service.slo.latency)
        ]

    def _look_ahead(self, tails: Sequence[Tail]) -> dict[tuple[str, str], PromiseOutlook]:
        seen = self._seen
        if seen is None or not len(seen.shares):
            return {}
        problem = seen.problem
        late = late_parts(problem, seen.shares, seen.load, tails)
        found = {}
        for tail, part in zip(tails, late.tolist(), strict=True):
            name = problem.layout.services[tail.service].service.name
            found[name, tail.kind.value] = PromiseOutlook(
                limit=tail.limit,
                predicted=percentile(problem, seen.shares, seen.load, tail),
                attainment=1.0 - part,
                charge=self._charges.get((name, tail.kind), 0.0),
            )
        return found


def promised(ttft: float | None, latency: float | None) -> list[tuple[PromiseKind, float]]:
    """Return what is promised, and the seconds."""
    both = ((PromiseKind.TTFT, ttft), (PromiseKind.LATENCY, latency))
    return [(kind, limit) for kind, limit in both if limit is not None]


def _most(layout: Layout, tail: Tail) -> float:
    service = layout.services[tail.service]
    return MOST * service.weight * max(service.service.failure_cost, tail.limit)
