"""A decided problem: everything that a plan, or an explanation of it, is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from controlplane.config import Mode, PolicyName
from controlplane.fleet.view import FleetView
from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.plan import StartWish
from controlplane.steering.problem import Problem, Row

Weights = NDArray[np.int64]
Pair = tuple[int, int]
"""Indices of a service and a client site."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decided problem: all that an explanation needs."""

    view: FleetView
    problem: Problem
    estimates: Sequence[Estimate]
    sizes: Array
    """(services,): work of a request, in requests of ordinary size."""
    shares: Array
    """(entries,): what is used."""
    weights: Weights
    """(entries,): *shares* as the integers that Envoys get; 0 for nothing."""
    previous: Array
    """(entries,): what was used before; 0 where there was nothing."""
    standing: Array | None
    """(entries,): *shares* if there were no canaries; None where there are none."""
    load: Array
    """(instances,): work under *shares*."""
    prices: PriceTable
    """Marginal cost of work of each instance, in the coming period."""
    price: Array
    """(instances,): the same at that load."""
    inside: Array
    """(instances,): predicted time spent over time alone, at least 1."""
    cost: float
    """The objective, weighted seconds of delay a second."""
    gap: float
    """Most that the optimum over all pairs could still gain, as a part of the cost; 0 where no row
    is decided by the optimum."""
    policies: Mapping[Pair, PolicyName]
    """The policy that decided, where it is not the service's own: a fallback, a canary."""
    drops: Mapping[int, float]
    """Service -> part of its requests that is refused; absent where none is."""
    notes: Mapping[Pair, str]
    """A fallback or a freeze, in words, where there is one."""
    held: bool
    """True when *shares* are those from before."""
    gain: float
    """Predicted gain of *shares* over the ones before, as a part of the cost that
    shares can change; 0 when held."""
    probed: Array
    """(entries,): the part of *shares* that is given to learn of an instance; mostly 0."""
    losses: Array
    """(instances,): seconds alone in the engine that a session loses by moving there."""
    least_gain: Array
    """(entries,): weighted seconds that a request had to gain for its session to move there."""
    starts: Mapping[str, StartWish] = field(default_factory=dict)
    """Instance that is asleep -> what its start would win."""

    @property
    def sustained(self) -> Array:
        """Return the requests a second of ordinary size that each instance sustains."""
        return self.problem.sustained

    def policy_of(self, row: Row) -> PolicyName:
        """Return the policy that decided *row*."""
        own = self.problem.layout.services[row.service].policy
        return self.policies.get((row.service, row.site), own)

    def note_of(self, row: Row) -> str:
        """Return what is to be said of *row*; empty in the normal case."""
        return self.notes.get((row.service, row.site), "")

    def standing_of(self, row: Row) -> PolicyName | None:
        """Return the policy that decides elsewhere, if *row* is a canary that is pushed."""
        layout = self.problem.layout
        service = layout.services[row.service]
        if service.canary is None or layout.config.steering.mode is Mode.OBSERVE:
            return None
        return service.policy if service.canary[0] == row.site else None

    def under(self, shares: Array, weights: Weights) -> Decision:
        """Return the same problem under other *shares*, with what follows from them."""
        problem = self.problem
        load = problem.flow.load(shares)
        return replace(
            self,
            shares=shares,
            weights=weights,
            probed=np.zeros(len(shares)),
            load=load,
            price=self.prices.evaluate(load)[1],
            inside=weigh_inside(problem, load),
            cost=problem.flow.cost(shares, self.prices),
        )


def weigh_inside(problem: Problem, load: Array) -> Array:
    """Return the time spent inside over the time alone, (instances,), at *load*."""
    least = 1e-6 * problem.curves.capacity
    number = problem.curves.number(load)
    return np.maximum(1.0, number / np.maximum(load, least))
