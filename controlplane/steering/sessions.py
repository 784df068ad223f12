"""What a session loses when its requests go to another instance, and which moves are worth it.

Turns of a session repeat the prompts of those before; an engine that remembers them reads the rest
only. A hash of the session keeps it in place while weights stay, and each change of the weights
moves the part of the sessions that the shares move. What that loses is known from the engines'
own counters: the tokens looked up and found in the cache of prefixes, and the time to the first
token without the wait, which is that of the tokens that were not found. So:

* **Loss** of a move: the time that reading the whole prompt takes, times the part that is found
  where sessions stay, times what the time of the new instance costs at its load.
* **Toll**: a move loses it once for each session under way, which is as often as requests come
  within ``affinity.pause``; it gains as long as the shares stay. They have stayed for some time,
  and are expected to stay for as long again, as in the ski-rental problem (Karlin et al. 1988):
  a gain that lasts is worth any move in the end, one that passes is worth none.
* **Moves** are made from the shares in use towards the optimum, only as far as they gain more
  than their toll, at costs that lasted: what an instance costs is smoothed over some seconds, since
  estimates that jump for a moment are no reason to scatter sessions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from controlplane.fleet.view import FleetView
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.optimiser import Flags, Flow
from controlplane.steering.prefixes import PrefixLearner
from controlplane.steering.problem import Problem

SHORTEST, LONGEST = 60.0, 300.0
"""Seconds that shares are expected to stay, at least and at most. With 5 at least, moves that
paid were made too late after a push; with none, half of what is kept was lost."""

CALM = 3.0
"""Seconds over which what instances cost is smoothed. With 10, instances that slowed down for a
while were left too late, and queues grew by more than the prefixes were worth."""

_PASSES = 4
_STEPS = (1.0, 0.5, 0.25, 0.1)
"""Parts of the way to the optimum that are tried in each pass."""


@dataclass(frozen=True, slots=True)
class _Costs:
    """What instances cost, as of one decision."""

    at: float
    names: tuple[str, ...]
    prices: PriceTable
    load: Array
    smooth: Array
    """(instances,): logarithm of a request's cost at the load in use, smoothed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Shares that keep sessions, and what a move had to gain."""

    shares: Array
    """(entries,)."""
    toll: float
    """Of the moves that are made, weighted seconds a second."""
    losses: Array
    """(instances,): seconds alone in the engine that a lost prefix costs; 0 where none is known."""
    least_gain: Array
    """(entries,): weighted seconds that a request had to gain for moving there; 0 if nothing."""


@dataclass(slots=True)
class SessionKeeper:
    """Keeps sessions where they are for as long as moving them does not pay."""

    prefixes: PrefixLearner = field(default_factory=PrefixLearner)
    _last: _Costs | None = None

    def keep(
        self,
        view: FleetView,
        problem: Problem,
        prices: PriceTable,
        *,
        used: Array,
        new: Array,
        free: Flags,
        rested: float,
    ) -> Kept:
        """Return *new* shares without the moves that lose sessions more than they gain.

        Args:
            view: the fleet now.
            problem: of the decision.
            prices: of the coming period.
            used: (entries,): the shares in use; 0 in rows that have none yet.
            new: (entries,): the shares that are best if moves lose nothing.
            free: (entries,): those that move whatever that loses.
            rested: seconds for which the shares have stayed.
        """
        layout, flow = problem.layout, problem.flow
        affinities = [each.service.affinity for each in layout.services]
        pause = np.array([0.0 if each is None else each.pause for each in affinities])
        losses = np.zeros(len(layout.instances))
        if pause.any():
            losses = self.prefixes.observe(view, layout)
        if not losses.any() or not used.any():
            return Kept(new, 0.0, losses, np.zeros(len(new)))
        calm = self._calm(view.at, problem, prices, flow.load(used))
        price = calm.evaluate(flow.load(used))[1]
        toll = toll_moves(
            flow,
            losses=losses,
            price=price,
            weight=problem.weight,
            pause=np.where(free, 0.0, pause[problem.service_of][flow.row]),
            rested=rested,
        )
        shares, charged = keep_sessions(flow, calm, used=used, new=new, toll=toll)
        return Kept(shares, charged, losses, toll)

    def _calm(self, now: float, problem: Problem, prices: PriceTable, load: Array) -> PriceTable:
        """Return *prices* at the level that they had over the last seconds."""
        names = tuple(instance.name for instance in problem.layout.instances)
        cost = np.log(problem.pace * np.maximum(prices.evaluate(load)[1], 1e-9))
        last = self._last
        if last is None or last.names != names:
            smooth = cost
        else:
            # What the last push itself changed is no surprise.
            was, became = (last.prices.evaluate(each)[1] for each in (last.load, load))
            expected = last.smooth + np.log(np.maximum(became, 1e-9) / np.maximum(was, 1e-9))
            smooth = expected + (1.0 - np.exp(-(now - last.at) / CALM)) * (cost - expected)
        self._last = _Costs(now, names, prices, load, smooth)
        level = np.exp(smooth - cost)[:, None]
        return PriceTable(prices.capacity, prices.price * level)


def toll_moves(
    flow: Flow,
    *,
    losses: Array,
    price: Array,
    weight: Array,
    pause: Array,
    rested: float,
) -> Array:
    """Return what each request that is moved to an entry must gain, (entries,) weighted seconds.

    Args:
        flow: the problem.
        losses: (instances,): seconds alone that a lost prefix costs.
        price: (instances,): what a second alone costs at the present load.
        weight: (entries,): cost of a second of delay.
        pause: (entries,): seconds between two requests of a session; 0 where there are none.
        rested: seconds for which the shares have stayed.
    """
    horizon = min(max(rested, SHORTEST), LONGEST)
    lost = losses * np.maximum(price, 1.0)
    return weight * lost[flow.column] * pause / horizon


def keep_sessions(
    flow: Flow, prices: PriceTable, *, used: Array, new: Array, toll: Array
) -> tuple[Array, float]:
    """Return shares between those in use and *new*, and the toll of getting there.

    Rows without a toll get *new*. Of a row that has lost an instance, the requests of that
    instance move, and others as far as they gain.

    Args:
        flow: the problem.
        prices: of the coming period.
        used: (entries,): the shares in use; 0 in rows that have none yet.
        new: (entries,): the shares that are best if moves lose nothing.
        toll: (entries,): see `toll_moves`.

    Returns:
        The shares (entries,), and their toll in weighted seconds a second.
    """
    starts = flow.starts
    carried = np.add.reduceat(used, starts)
    held = (np.maximum.reduceat(toll, starts) > 0) & (carried > 0.0)
    if not held.any():
        return new, 0.0
    entries = held[flow.row]
    filled = _fill(flow, used, new, carried)
    shares = np.where(entries, filled, new)
    demand = flow.demand[flow.row]

    def charge(some: Array) -> float:
        return float(np.dot(demand * np.where(entries, toll, 0.0), np.maximum(some - filled, 0.0)))

    best = flow.cost(shares, prices)
    for _ in range(_PASSES):
        step = _worthwhile(flow, prices, shares=shares, new=new, toll=toll, held=entries)
        if not step.any():
            break
        costs = [
            flow.cost(shares + part * step, prices) + charge(shares + part * step)
            for part in _STEPS
        ]
        least = int(np.argmin(costs))
        if costs[least] >= best:
            break
        best = costs[least]
        shares = shares + _STEPS[least] * step
    return shares, charge(shares)


def _fill(flow: Flow, used: Array, new: Array, carried: Array) -> Array:
    """Return *used* with what has lost its instance given to what *new* gives more to."""
    more = np.maximum(new - used, 0.0)
    total = np.add.reduceat(more, flow.starts)
    lacking = np.maximum(1.0 - carried, 0.0)
    part = np.where(total > 0, lacking / np.maximum(total, 1e-300), 0.0)
    filled: Array = used + part[flow.row] * more
    whole = np.add.reduceat(filled, flow.starts)
    return filled / np.maximum(whole, 1e-300)[flow.row]


def _worthwhile(
    flow: Flow,
    prices: PriceTable,
    *,
    shares: Array,
    new: Array,
    toll: Array,
    held: Flags,
) -> Array:
    """Return the moves towards *new* whose first requests gain more than their toll, (entries,)."""
    starts, row = flow.starts, flow.row
    marginal = flow.marginal(prices.evaluate(flow.load(shares))[1])
    gains, loses = held & (new > shares), held & (new < shares)
    there = marginal + toll
    cheapest = np.minimum.reduceat(np.where(gains, there, np.inf), starts)[row]
    highest = np.maximum.reduceat(np.where(loses, marginal, -np.inf), starts)[row]
    away = np.where(loses & (marginal > cheapest), shares - new, 0.0)
    towards = np.where(gains & (there < highest), new - shares, 0.0)
    left, got = np.add.reduceat(away, starts), np.add.reduceat(towards, starts)
    moved = np.minimum(left, got)
    step: Array = towards * (moved / np.maximum(got, 1e-300))[row]
    step -= away * (moved / np.maximum(left, 1e-300))[row]
    return step
