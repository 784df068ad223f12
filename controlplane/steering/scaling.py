"""What one more replica would win, how many keep the promise, and what still fits: per site, model.

The optimum equalises the marginal cost of work over the instances in use, so its price of work at
an instance, its shadow price, says what another one like it is worth. With n replicas, work w each
and the number inside N(w), another one saves each second

* at least ``n N(w) - (n+1) N(n w / (n+1))`` seconds of delay: it takes its part of the group's own
  work and nothing moves between groups;
* at most ``w N'(w) - N(w)``: it is filled up at today's price, which would fall.

Both are sums over all requests: 3 is three requests fewer inside at any time (Little's law).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.steering.decision import Decision
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.optimiser import Indices
from controlplane.steering.promises import LATE, Tail
from controlplane.steering.scaling_group import ROOM_PRICE, ScalingGroup

PATIENCE = 2.0
"""Time inside over the time alone that is aimed at where nothing is promised."""
FULL = 0.95
"""Part of an instance's capacity beyond which nothing fits, whatever the price."""
COUNTS: Array = np.unique(
    np.round(np.concatenate([np.arange(1, 101), np.geomspace(101, 1e5, 350)]))
)
"""Numbers of replicas that are looked at: every one up to 100, then every second per cent."""


def scaling_groups(decision: Decision, tails: Sequence[Tail]) -> tuple[ScalingGroup, ...]:
    """Return every group of instances that may get requests, by site and model.

    Args:
        decision: the shares in use, and the fleet behind them.
        tails: of the promises.
    """
    problem = decision.problem
    layout, curves = problem.layout, problem.curves
    usable = np.zeros(len(layout.instances), dtype=bool)
    for service in problem.pairs.services:
        # A device has one instance of its own, which nothing scales.
        usable[service.columns[~service.reserved]] = True
    members: dict[tuple[str, str], list[int]] = {}
    for column in np.flatnonzero(usable).tolist():
        instance = layout.instances[column]
        members.setdefault((instance.site, instance.model), []).append(column)
    room = _room(PriceTable.stationary(curves), decision.load)
    uses = _uses(decision, tails)
    found = []
    for (site, model), columns in sorted(members.items()):
        own = np.array(columns, dtype=np.intp)
        count, work = len(columns), float(decision.load[own].sum())
        mean = Curves(np.array([curves.slots[own].mean()]), np.array([curves.slowdown[own].mean()]))
        least, most = replica_gain(mean, work, count)
        wanted, bound_by = _wanted(mean, work, [use for use in uses if use.site == site], own)
        found.append(
            ScalingGroup(
                site=site,
                model=model,
                replicas=count,
                work=work,
                utilisation=work / float(curves.capacity[own].sum()),
                gain_least=least,
                gain_most=most,
                wanted=wanted,
                bound_by=bound_by,
                room_work=float(room[own].sum()),
                room_rate=float((room[own] / problem.pace[own]).sum()),
            )
        )
    return tuple(found)


def _room(prices: PriceTable, load: Array) -> Array:
    """Return the work that fits into each instance, (instances,)."""
    most, _ = prices.invert(np.full(len(load), ROOM_PRICE))
    room: Array = np.maximum(0.0, np.minimum(most, FULL * prices.capacity) - load)
    return room


def replica_gain(curve: Curves, work: float, count: int) -> tuple[float, float]:
    """Return what one more of *count* replicas under *work* saves at least and at most, seconds."""
    each = np.array([work / count])
    now, less = curve.number(each), curve.number(each * count / (count + 1))
    least = float((count * now - (count + 1) * less)[0])
    most = float((each * curve.marginal(each) - now)[0])
    return max(0.0, least), max(0.0, least, most)


@dataclass(frozen=True, slots=True)
class _Use:
    """What one service asks of the instances at one site."""

    service: str
    site: str
    tails: tuple[Tail, ...]
    """Of its promises."""
    columns: Indices
    path: Array
    """(columns,): mean seconds of the network of its requests there."""
    work: Array
    """(columns,): seconds that a request takes there alone."""


def _uses(decision: Decision, tails: Sequence[Tail]) -> list[_Use]:
    """Return who uses which instances at the decision's shares."""
    problem = decision.problem
    flow, layout = problem.flow, problem.layout
    amount = flow.demand[flow.row] * decision.shares
    away = amount * (problem.rtt + problem.transfer)
    service = problem.service_of[flow.row]
    found = []
    for number, each in enumerate(layout.services):
        own = np.flatnonzero((service == number) & (amount > 0))
        columns, place = np.unique(flow.column[own], return_inverse=True)
        rate = np.bincount(place, amount[own], len(columns))
        path = np.bincount(place, away[own], len(columns)) / np.maximum(rate, 1e-12)
        work = np.bincount(place, amount[own] * flow.work[own], len(columns)) / rate
        promises = tuple(tail for tail in tails if tail.service == number)
        sites = np.array([layout.site_of[column] for column in columns.tolist()], dtype=np.intp)
        for site in np.unique(sites).tolist():
            there = sites == site
            found.append(
                _Use(
                    each.service.name,
                    layout.sites[site],
                    promises,
                    columns[there],
                    path[there],
                    work[there],
                )
            )
    return found


def _wanted(
    curve: Curves, work: float, uses: Sequence[_Use], own: Indices
) -> tuple[int | None, str]:
    """Return the least number of replicas that suits every use of *own*, and whose it is."""
    each = np.maximum(work / COUNTS, 1e-9)
    stretch = curve.number(each) / each
    wanted, bound_by = _first(stretch <= PATIENCE), ""
    for use in uses:
        mine = np.isin(use.columns, own)
        for tail in use.tails if mine.any() else ():
            late = tail.late(use.path[mine].max(), use.work[mine].max() * stretch)
            needed = _first(late <= LATE)
            if needed is None:
                return None, use.service
            if not bound_by or (wanted is not None and needed > wanted):
                wanted, bound_by = needed, use.service
    return wanted, bound_by


def _first(kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int | None:
    """Return the first of `COUNTS` for which *kept* holds."""
    return int(COUNTS[int(kept.argmax())]) if kept.any() else None
