"""What the start of one instance that is asleep would win."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from controlplane.steering.decision import Decision
from controlplane.steering.latency import KNEE, Array, Curves
from controlplane.steering.optimiser import Indices
from controlplane.steering.problem import LEAST_RAMP

_STEPS = 30
"""Of the search for what moves; the rest is in the other bound."""
_GOOD_ENOUGH = 1e-3
"""Part of what the moves win at which the search ends."""
_LEVELS_OF_STEP = 17
_LEVELS: Array = np.linspace(0.0, 1.0, 401)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests of a decision by where they are served; all but *load* are (entries,)."""

    service: Indices
    client: Indices
    column: Indices
    amount: Array
    """Requests a second."""
    linear: Array
    """Weighted seconds of a request besides the time inside."""
    work: Array
    """Of a request."""
    load: Array
    """(instances,): work."""
    inside: Array
    """(instances,): requests that were last seen there, which is the most that can be saved each
    second: past its capacity the curve says what would be, were it so for long. Infinite where no
    one says."""

    @staticmethod
    def of(decision: Decision) -> Traffic:
        """Return that of *decision*."""
        problem = decision.problem
        flow, pairs = problem.flow, problem.pairs
        amount = flow.demand[flow.row] * decision.shares
        own = np.flatnonzero(amount > 0)
        return Traffic(
            problem.service_of[flow.row[own]],
            (problem.codes[own] // pairs.instances % pairs.sites).astype(np.intp),
            flow.column[own],
            amount[own],
            flow.linear[own],
            flow.work[own],
            decision.load,
            np.where(np.isnan(problem.number), np.inf, problem.number),
        )

    def moved(self, own: Indices, moved: Array, offer: Offer) -> Traffic:
        """Return the same with *moved* of the entries *own* at the instance of *offer*."""
        amount = self.amount.copy()
        amount[own] -= moved
        left = np.bincount(self.column[own], moved * self.work[own], minlength=len(self.load))
        # What rounding leaves below nothing has no price.
        load = np.maximum(self.load - left, 0.0)
        load[offer.column] += moved @ offer.work
        return Traffic(
            np.append(self.service, self.service[own]),
            np.append(self.client, self.client[own]),
            np.append(self.column, np.full(len(own), offer.column)),
            np.append(amount, moved),
            np.append(self.linear, offer.linear),
            np.append(self.work, offer.work),
            load,
            self.inside,
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """What one instance that is asleep could take over."""

    column: int
    entries: Indices
    """(able,): places in the traffic."""
    linear: Array
    """(able,): weighted seconds of such a request there besides the time inside."""
    work: Array
    """(able,): of such a request there."""


def expect(decision: Decision, columns: Iterable[int]) -> tuple[Curves, Array]:
    """Return curves and paces of all instances, those of *columns* as others of their model are.

    What is asleep has hardly been measured, if ever: it is taken to be as much faster or slower
    than its prior as those are that run, as far as it was not measured itself.
    """
    problem, layout = decision.problem, decision.problem.layout
    instances = decision.view.instances
    # One that has just started will be a whole one.
    ramp = np.array([max(instances[each.name].ramp, LEAST_RAMP) for each in layout.instances])
    slots, slowdown, pace = (
        each.copy() for each in (problem.curves.slots / ramp, problem.curves.slowdown, problem.pace)
    )
    known = np.array([each.known for each in decision.estimates])
    serving = np.zeros(len(pace), dtype=bool)
    for service in problem.pairs.services:
        serving[service.columns[~service.reserved]] = True
    kin_of = {column: kin for kin in layout.kin for column in kin}
    for column in columns:
        kin = np.array([each for each in kin_of[column] if serving[each]], dtype=np.intp)
        weight = known[kin]
        if weight.sum() <= 1e-6:
            continue
        # The less is known of it, the more it is like them.
        part = (1.0 - known[column]) * float(weight.max())
        faster = np.log(problem.pace[kin] / layout.pace[kin])
        wider = np.log(whole_slots(decision, kin) / layout.slots[kin])
        mean = np.average(np.array([faster, wider]), axis=1, weights=weight)
        pace[column] *= math.exp(part * (mean[0] - math.log(pace[column] / layout.pace[column])))
        slots[column] *= math.exp(part * (mean[1] - math.log(slots[column] / layout.slots[column])))
        more = float(np.average(problem.curves.slowdown[kin], weights=weight))
        slowdown[column] += part * (more - slowdown[column])
    return Curves(np.maximum(slots, 1.0), slowdown, problem.curves.copies), pace


def whole_slots(decision: Decision, columns: Indices) -> Array:
    """Return the slots of *columns* without slow start and distrust, (columns,)."""
    return np.array([decision.estimates[column].slots for column in columns.tolist()])


def make_offer(decision: Decision, traffic: Traffic, column: int, pace: float) -> Offer:
    """Return the requests that the instance *column* may serve, and what they would cost there.

    Args:
        decision: the shares in use.
        traffic: under them.
        column: of an instance that is asleep.
        pace: seconds that a request of ordinary size would take there.
    """
    problem = decision.problem
    layout, pairs = problem.layout, problem.pairs
    place = int(np.searchsorted(np.unique(layout.site_of), layout.site_of[column]))
    worth = layout.config.steering.energy_value
    entries, linear, work = [np.zeros(0, dtype=np.intp)], [np.zeros(0)], [np.zeros(0)]
    for number, service in zip(pairs.numbers.tolist(), pairs.services, strict=True):
        own = service.layout
        barred = any(column in covered and high <= 0 for covered, _, high, _, _ in own.limits)
        if column not in own.columns or barred:
            continue
        able = np.flatnonzero((traffic.service == number) & (traffic.column != column))
        client = traffic.client[able]
        away = service.network_rtt[client, place]
        if service.network_bandwidth is not None:
            away = away + service.size / service.network_bandwidth[client, place]
        spent = float(problem.money.spent[number, column]) * worth
        entries.append(able)
        linear.append(own.weight * (away + own.penalty[column]) + spent)
        work.append(np.full(len(able), pace * decision.sizes[number]))
    return Offer(column, np.concatenate(entries), np.concatenate(linear), np.concatenate(work))


def fill(traffic: Traffic, offer: Offer, curves: Curves) -> tuple[Array, float, float]:
    """Return what moves to the instance of *offer*, (able,), and what that saves each second.

    Frank and Wolfe's method: the gain is concave, and each entry moves between nothing and all.

    Args:
        traffic: without it.
        offer: of the instance.
        curves: of all instances.

    Returns:
        Requests a second of each entry that move, and weighted seconds saved at least and at most.
    """
    able = offer.entries
    sources, source = np.unique(traffic.column[able], return_inverse=True)
    busy, mine = part_of(curves, sources), part_of(curves, np.array([offer.column]))
    load, amount, work = traffic.load[sources], traffic.amount[able], traffic.work[able]
    saved = traffic.linear[able] - offer.linear
    base = float(traffic.load[offer.column])
    moved, left, own = np.zeros(len(able)), load, base
    steps = np.linspace(0.0, 1.0, _LEVELS_OF_STEP)
    for _ in range(_STEPS if len(able) else 0):
        price = float(mine.marginal(np.array([own]))[0])
        rising = work * busy.marginal(left)[source] + saved - offer.work * price
        step = np.where(rising > 0, amount, 0.0) - moved
        if rising @ step <= 1e-9 + _GOOD_ENOUGH * float(rising @ moved):
            break
        # Along the step the slope of the gain falls; where it is 0 the gain is greatest.
        away, added = np.bincount(source, work * step, len(sources)), float(offer.work @ step)
        slope = (
            busy.marginal(np.maximum(left - steps[:, None] * away, 0.0)) @ away
            + saved @ step
            - added * mine.marginal(np.maximum(own + steps * added, 0.0))
        )
        part = float(np.interp(0.0, -slope, steps))
        moved = moved + part * step
        left, own = np.maximum(left - part * away, 0.0), max(base, own + part * added)
    limit = max(base, KNEE * float(mine.capacity[0]))
    if own > limit:
        # Where even with it there is too much for all, it takes what it can sustain: a queue there
        # as deep as the others' would be what the curve makes of an overload that lasts.
        part = (limit - base) / (own - base)
        moved, left, own = part * moved, load - part * (load - left), limit
    fewer = np.minimum(busy.number(load) - busy.number(left), traffic.inside[sources])
    more = float(np.diff(mine.number(np.array([base, own])))[0])
    least = float(fewer.sum() + saved @ moved) - more
    most = _at_prices(offer.work, amount, work * busy.marginal(load)[source] + saved, mine)
    return moved, max(0.0, least), max(0.0, least, most)


def _at_prices(work: Array, amount: Array, saved: Array, mine: Curves) -> float:
    """Return what is saved if requests worth *saved* each move until that pays no longer."""
    order = np.argsort(-saved / work)
    at = np.append(0.0, np.cumsum((amount * work)[order]))
    value = np.append(0.0, np.cumsum((amount * np.maximum(saved, 0.0))[order]))
    levels = _LEVELS * min(float(at[-1]), 3.0 * float(mine.capacity[0]))
    return float((np.interp(levels, at, value) - mine.number(levels)).max())


def part_of(curves: Curves, columns: Indices) -> Curves:
    """Return the curves of *columns*."""
    copies = curves.copies
    if isinstance(copies, np.ndarray):
        copies = copies[columns]
    return Curves(curves.slots[columns], curves.slowdown[columns], copies)
