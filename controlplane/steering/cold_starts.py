"""Whether an instance that is asleep is worth its start.

It is a candidate at the shares in use: what it would save if requests moved there from where
that saves time, behind its own network, penalty and money. Nothing else moves, so that is the least
that the optimum with it would gain; filled at today's prices, which would fall, it is the most.
A start that saves that for as long as it is used, without the time it takes to start, has to save
what it costs. Starts under way are there already: one shortage starts one instance, and not all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from controlplane.fleet.view import ColdStart, FleetView, Phase
from controlplane.steering.decision import Decision
from controlplane.steering.latency import Array, Curves
from controlplane.steering.optimiser import Indices
from controlplane.steering.plan import StartWish
from controlplane.steering.problem import LEAST_RAMP

PERIOD = 5.0
"""Seconds between two looks at what starts would save, each of which starts one at most."""
AVERAGING = 60.0
"""Seconds over which a gain is averaged, from none: the more a start would save, the sooner."""
LEAST_DEMAND = 0.01
"""Requests a second below which a smoothed rate is that of requests long gone."""
MOST_LOOKED = 16
"""Instances that are looked at at once; of more the ones that waited longest."""
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
        wider = np.log(_whole_slots(decision, kin) / layout.slots[kin])
        mean = np.average(np.array([faster, wider]), axis=1, weights=weight)
        pace[column] *= math.exp(part * (mean[0] - math.log(pace[column] / layout.pace[column])))
        slots[column] *= math.exp(part * (mean[1] - math.log(slots[column] / layout.slots[column])))
        more = float(np.average(problem.curves.slowdown[kin], weights=weight))
        slowdown[column] += part * (more - slowdown[column])
    return Curves(np.maximum(slots, 1.0), slowdown, problem.curves.copies), pace


def _whole_slots(decision: Decision, columns: Indices) -> Array:
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
    busy, mine = _part(curves, sources), _part(curves, np.array([offer.column]))
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


def _part(curves: Curves, columns: Indices) -> Curves:
    copies = curves.copies
    if isinstance(copies, np.ndarray):
        copies = copies[columns]
    return Curves(curves.slots[columns], curves.slowdown[columns], copies)


class ColdStarts:
    """What starts would win, averaged, and which are wanted."""

    def __init__(self) -> None:
        self._wishes: dict[str, StartWish] = {}
        self._means: dict[str, tuple[float, float]] = {}
        """Instance -> when it was last looked at, and its mean gain then."""
        self._looked_at = -math.inf
        self._idle: frozenset[str] = frozenset()
        """Those that are asleep and not starting."""
        self._asked_at: dict[str, float] = {}
        """Service that nothing serves -> when a client last asked for it."""

    def consider(self, decision: Decision) -> Mapping[str, StartWish]:
        """Return the instances that are asleep, with what their start would win; by name."""
        view = decision.view
        asleep = {
            name: each.cold_start
            for name, each in view.instances.items()
            if each.cold_start is not None
        }
        if not asleep:
            self._wishes, self._means = {}, {}
            return {}
        idle = frozenset(name for name, start in asleep.items() if not start.pending)
        if idle != self._idle:
            # One that starts, or has come, takes its part: the others have to show theirs again.
            self._idle, self._means = idle, {}
        if view.at - self._looked_at >= PERIOD or asleep.keys() != self._wishes.keys():
            self._looked_at = view.at
            self._look(decision, asleep)
        urgent = _urgent(decision, asleep, self._unserved(decision))
        return {
            name: replace(
                wish,
                pending=asleep[name].pending,
                unserved=urgent.get(name, ()),
                wanted=(wish.wanted or name in urgent) and _may_start(asleep[name], view.at),
            )
            for name, wish in self._wishes.items()
        }

    def _look(self, decision: Decision, asleep: Mapping[str, ColdStart]) -> None:
        """See what each start would save beside those under way, and which saves most."""
        problem, at = decision.problem, decision.view.at
        column = problem.layout.column
        curves, pace = expect(decision, [column[name] for name in asleep])
        traffic = Traffic.of(decision)

        def offer_of(name: str) -> Offer:
            return make_offer(decision, traffic, column[name], float(pace[column[name]]))

        views = decision.view.instances
        starting = [name for name, start in asleep.items() if start.pending]
        starting += [name for name, each in views.items() if each.phase is Phase.STARTING]
        for name in starting[:MOST_LOOKED]:
            offer = offer_of(name)
            moved, _, _ = fill(traffic, offer, curves)
            traffic = traffic.moved(offer.entries, moved, offer)
        self._means = {name: self._means.get(name, (at, 0.0)) for name in asleep}
        gains = {
            name: (wish.gain_least, wish.gain_most)
            for name, wish in self._wishes.items()
            if name in asleep
        }
        for name in sorted(self._idle, key=lambda each: (self._means[each][0], each))[:MOST_LOOKED]:
            _, least, most = fill(traffic, offer_of(name), curves)
            gains[name] = least, most
            before, mean = self._means[name]
            kept = math.exp(-(at - before) / AVERAGING)
            self._means[name] = at, kept * mean + (1.0 - kept) * least
        self._wishes = {
            name: _wish(decision, name, start, gains.get(name, (0.0, 0.0)), self._means[name][1])
            for name, start in asleep.items()
        }
        able = [wish for name, wish in self._wishes.items() if _may_start(asleep[name], at)]
        best = max(able, key=lambda wish: wish.saves / wish.price, default=None)
        if best is not None and best.saves > best.price:
            self._wishes[best.instance] = replace(best, wanted=True)

    def _unserved(self, decision: Decision) -> set[int]:
        """Return the services that nothing serves and that clients have asked for lately."""
        view, layout = decision.view, decision.problem.layout
        served = set(decision.problem.pairs.numbers.tolist())
        idle = {
            each.service.name: number
            for number, each in enumerate(layout.services)
            if number not in served
        }
        for service in _asked(view) & idle.keys():
            self._asked_at[service] = view.at
        self._asked_at = {
            service: at
            for service, at in self._asked_at.items()
            if service in idle and view.at - at <= AVERAGING
        }
        return {idle[service] for service in self._asked_at}


def _may_start(start: ColdStart, at: float) -> bool:
    return not start.pending and at >= start.retry_at


def _wish(
    decision: Decision, name: str, start: ColdStart, gains: tuple[float, float], mean: float
) -> StartWish:
    instance, wake = decision.view.instances[name].instance, start.wake
    return StartWish(
        name,
        instance.site,
        instance.model,
        start_up=wake.start_up,
        use=wake.use,
        gain_least=gains[0],
        gain_most=gains[1],
        saves=mean * (wake.use - wake.start_up),
        price=wake.least_saved,
    )


def _asked(view: FleetView) -> set[str]:
    """Return the services that clients ask for now."""
    counted = {service for (_, service), rate in view.counted.items() if rate.value > 0}
    return counted | {
        service for (_, service), rate in view.demand.items() if rate.value > LEAST_DEMAND
    }


def _urgent(
    decision: Decision, asleep: Mapping[str, ColdStart], unserved: Iterable[int]
) -> dict[str, tuple[str, ...]]:
    """Return the instances to start since nothing serves what clients ask for, with the services.

    The one that is soonest there, the network and the penalty of its model included.
    """
    layout, at = decision.problem.layout, decision.view.at
    found: dict[str, tuple[str, ...]] = {}
    for number in sorted(unserved):
        service = layout.services[number]
        able = [layout.instances[c].name for c in service.columns]
        able = [name for name in able if name in asleep]
        if any(asleep[name].pending for name in able):
            continue
        able = [name for name in able if _may_start(asleep[name], at)]
        soonest = min(
            able,
            key=lambda name: (
                asleep[name].wake.start_up + float(service.penalty[layout.column[name]]),
                _distance(decision, name, service.service.name),
                name,
            ),
            default=None,
        )
        if soonest is not None:
            found[soonest] = (*found.get(soonest, ()), service.service.name)
    return found


def _distance(decision: Decision, name: str, service: str) -> float:
    """Return the mean round trip of the clients that ask for *service* to an instance, seconds."""
    view = decision.view
    site = view.instances[name].instance.site
    clients = [client for client, asked in view.demand if asked == service]
    away = [
        view.paths[client, site].rtt.value for client in clients if (client, site) in view.paths
    ]
    return math.fsum(away) / len(away) if away else 0.0
