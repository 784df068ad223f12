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
from dataclasses import replace

from controlplane.fleet.view import ColdStart, FleetView, Phase
from controlplane.steering.decision import Decision
from controlplane.steering.plan import StartWish
from controlplane.steering.start_gains import Offer, Traffic, expect, fill, make_offer

PERIOD = 5.0
"""Seconds between two looks at what starts would save, each of which starts one at most."""
AVERAGING = 60.0
"""Seconds over which a gain is averaged, from none: the more a start would save, the sooner."""
LEAST_DEMAND = 0.01
"""Requests a second below which a smoothed rate is that of requests long gone."""
MOST_LOOKED = 16
"""Instances that are looked at at once; of more the ones that waited longest."""


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
