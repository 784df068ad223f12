"""Promises as a constraint on the tail: a late answer is charged until few enough are late.

A service promises that 99 of 100 requests begin (``slo.ttft``) or end (``slo.latency``) in time.
The optimum is the least cost under that constraint; its multiplier is a charge for each late
answer, found by ascent of the dual, which goes on from cycle to cycle. At a charge, what a pair
costs is first its own probability to be late, which is linear in shares, and second what its load
makes others late, which is an increasing price of the instance's work like any other crowding.

What is inside takes the mean time of the curve times a log-normal factor, whose scale and spread
are learned from Envoys' histograms (`controlplane.steering.tails`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from controlplane.steering.knots import KNOTS
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.pairs import Pairs, ServicePairs
from controlplane.steering.problem import Picture, Problem
from controlplane.steering.promise_tails import IDLE, Mix, Tail, stretch

LATE = 0.01
"""Part of the requests that may be late: promises are 99th percentiles."""

_SHARE = 0.9
"""Part of *LATE* that plans aim at, so that what is not foreseen does not break the promise."""

_SLACK = 0.7
"""Part of *LATE* below which a charge falls again."""

_FIRST, _LEAST = 1.0, 0.02
"""Charge of a late answer to begin with, over what is promised, and the one that is given up."""

_STEEPEST = 2.0
"""Factor by which a charge may change at once."""


@dataclass(frozen=True, slots=True)
class Charged:
    """The problem's costs with charges for late answers."""

    made: Picture
    surcharge: Array | None
    """(instances, knots): to be added to the prices of work; None for nothing."""

    def price(self, prices: PriceTable) -> PriceTable:
        """Return *prices* with the surcharge."""
        if self.surcharge is None:
            return prices
        return PriceTable.of(prices.capacity, prices.price + self.surcharge)

    def toll(self, prices: PriceTable, long_run: PriceTable, load: Array) -> PriceTable:
        """Return *prices* with what the surcharge adds to those of the *long_run* at its *load*.

        For the coming period: late is who comes while an instance is full for long, and loads of
        one period say little of that.
        """
        if self.surcharge is None:
            return prices
        return prices.raised(self.surcharged(long_run, load))

    def surcharged(self, long_run: PriceTable, load: Array) -> Array:
        """Return what `toll` adds to the price of work of each instance, (instances,)."""
        if self.surcharge is None:
            return np.zeros(len(load))
        more: Array = self.price(long_run).evaluate(load)[1] - long_run.evaluate(load)[1]
        return more


def charge(made: Picture, mix: Mix, tails: Sequence[Tail], charges: Array) -> Charged:
    """Return the costs of *made* with a charge for each late answer.

    Args:
        made: without charges.
        mix: who uses the instances, where probabilities are taken.
        tails: of the promises.
        charges: (tails,): weighted seconds for each late answer.
    """
    pairs, curves = made.pairs, made.curves
    columns = curves.column()
    levels = stretch(columns, KNOTS[None, :] * columns.capacity)
    here = stretch(curves, mix.load)
    parts = _work_parts(pairs, mix)
    # The cost of lateness for each unit of work, as the table will hold it.
    rising: Array = np.zeros(levels.shape)
    shift: Array = np.zeros(pairs.instances)
    own = {index: _Own.of(pairs, index, mix) for index in range(len(pairs.services))}
    places = {int(number): index for index, number in enumerate(pairs.numbers)}
    late_path: dict[int, Array] = {}
    late_here: dict[int, Array] = {}
    for tail, each in zip(tails, charges.tolist(), strict=True):
        index = places.get(tail.service)
        if index is None or each <= 0.0:
            continue
        service, seen = pairs.services[index], own[index]
        part = each * parts[index] / service.work
        path = seen.path[service.place]
        rising[service.columns] += part[:, None] * tail.late(
            path[:, None], service.work[:, None] * levels[service.columns]
        )
        alone = service.work * here[service.columns]
        late = tail.late(path, alone)
        shift[service.columns] += part * late
        typical = seen.typical(service, alone)
        away = service.network_rtt[:, service.at]
        if service.network_bandwidth is not None:
            away = away + service.size / service.network_bandwidth[:, service.at]
        base = late_path.get(index, 0.0)
        late_path[index] = base + each * tail.late(away, typical)
        apart = each * (late - tail.late(seen.path, typical)[service.place])
        late_here[index] = late_here.get(index, 0.0) + apart
    services = tuple(
        replace(
            service,
            late_path=late_path.get(index),
            late=late_here.get(index, 0.0) - service.work * shift[service.columns],
            shift=service.work * shift[service.columns],
        )
        for index, service in enumerate(pairs.services)
    )
    work = KNOTS[None, :] * columns.capacity
    slope = np.gradient(work * rising, axis=1) / np.gradient(work, axis=1)
    return Charged(replace(made, pairs=replace(pairs, services=services)), slope)


def _work_parts(pairs: Pairs, mix: Mix) -> list[Array]:
    """Return, for each service, its part of the work at each of its usable instances."""
    total = np.zeros(pairs.instances)
    wanted = np.zeros(pairs.instances)
    for number, service in zip(pairs.numbers.tolist(), pairs.services, strict=True):
        total[service.columns] += mix.rate[number, service.columns] * service.work
        wanted[service.columns] += float(service.demand.sum()) * service.work
    used = total > 1e-3 * np.maximum(mix.load, IDLE)
    found = []
    for number, service in zip(pairs.numbers.tolist(), pairs.services, strict=True):
        columns = service.columns
        mine = mix.rate[number, columns] * service.work / np.maximum(mix.load[columns], IDLE)
        # An idle instance would be used by the services that may, as much as each asks for.
        would = float(service.demand.sum()) * service.work / np.maximum(wanted[columns], IDLE)
        found.append(np.where(used[columns], mine, would))
    return found


@dataclass(frozen=True, slots=True)
class _Own:
    """What stands for one service at its sites."""

    path: Array
    """(serving sites,): seconds of the network of those who use it, else of the nearest."""
    weight: Array
    """(usable,): each instance's part of what its site serves."""

    @staticmethod
    def of(pairs: Pairs, index: int, mix: Mix) -> _Own:
        service = pairs.services[index]
        rate = mix.rate[int(pairs.numbers[index]), service.columns]
        path = mix.path[int(pairs.numbers[index]), service.columns]
        count = len(service.at)
        known = np.where(np.isfinite(path), rate, 0.0)
        whole = np.bincount(service.place, known, count)
        away = np.bincount(service.place, known * np.nan_to_num(path), count)
        near = service.network_rtt[:, service.at].min(axis=0)
        if service.network_bandwidth is not None:
            bandwidth = service.network_bandwidth[:, service.at].max(axis=0)
            near = near + service.size / bandwidth
        mean = np.where(whole > IDLE, away / np.maximum(whole, IDLE), near)
        counts = np.bincount(service.place, minlength=count)
        even = (1.0 / counts)[service.place]
        used = (whole > IDLE)[service.place]
        part = np.where(used, known / np.maximum(whole, IDLE)[service.place], even)
        return _Own(mean, part)

    def typical(self, service: ServicePairs, alone: Array) -> Array:
        """Return the mean of *alone*, (usable,), at each site, (serving sites,)."""
        found: Array = np.bincount(service.place, self.weight * alone, len(service.at)).astype(
            float
        )
        return found


def late_parts(problem: Problem, shares: Array, load: Array, tails: Sequence[Tail]) -> Array:
    """Return the part of the requests of each tail's service that is late, (tails,).

    At *shares*, (entries,), and the work *load*, (instances,).
    """
    flow = problem.flow
    inside = flow.work * stretch(problem.curves, load)[flow.column]
    amount = flow.demand[flow.row] * shares
    path = problem.rtt + problem.transfer
    service = problem.service_of[flow.row]
    found = np.zeros(len(tails))
    for number, tail in enumerate(tails):
        own = service == tail.service
        whole = float(amount[own].sum())
        if whole > 0:
            late = tail.late(path[own], inside[own])
            found[number] = float(np.dot(amount[own], late)) / whole
    return found


def percentile(problem: Problem, shares: Array, load: Array, tail: Tail) -> float | None:
    """Return the time within which all but `LATE` of the requests are, seconds; None without any.

    Found by bisection.
    """
    flow = problem.flow
    own = (problem.service_of[flow.row] == tail.service) & (shares > IDLE)
    amount = flow.demand[flow.row[own]] * shares[own]
    whole = float(amount.sum())
    if whole <= 0:
        return None
    inside = (flow.work * stretch(problem.curves, load)[flow.column])[own]
    path = (problem.rtt + problem.transfer)[own]
    low, high = 1e-4, 1e5
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        late = float(np.dot(amount, replace(tail, limit=middle).late(path, inside))) / whole
        low, high = (middle, high) if late > LATE else (low, middle)
    return high


def step(charges: Array, late: Array, tails: Sequence[Tail], most: Array) -> Array:
    """Return the charges after one step of ascent.

    Args:
        charges: (tails,): weighted seconds for each late answer.
        late: (tails,): part that is late at them.
        tails: of the promises.
        most: (tails,): largest charges.
    """
    first = np.array([_FIRST * tail.limit for tail in tails])
    over = late / (_SHARE * LATE)
    factor = np.clip(over, 1.0 / _STEEPEST, _STEEPEST)
    risen = np.where(charges > 0, charges * np.maximum(factor, 1.0), first)
    # Falling is slower than rising, since a broken promise is worse than a cautious one.
    fallen = charges * np.maximum(np.sqrt(factor), 0.5)
    moved = np.where(over > 1.0, risen, np.where(late < _SLACK * LATE, fallen, charges))
    kept: Array = np.where(moved < _LEAST * first, 0.0, np.minimum(moved, most))
    return kept
