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

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from controlplane.steering.decision import Decision
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.layout import Layout
from controlplane.steering.optimiser import Indices
from controlplane.steering.plan import StartWish
from controlplane.steering.problem import LEAST_RAMP
from controlplane.steering.promise_tails import Tail
from controlplane.steering.replica_groups import Group, Use
from controlplane.steering.replicas import Wanted, wanted_replicas
from controlplane.steering.scaling_group import ROOM_PRICE, ScalingGroup
from controlplane.steering.tails import SPREAD

AVERAGING = 60.0
"""Seconds over which the work that replicas are wanted for is averaged."""
TAIL_AVERAGING = 300.0
"""Seconds over which the tails of promises are averaged."""
CALM = 0.9
"""Utilisation of every instance up to which latencies say how times scatter."""
FULL = 0.95
"""Part of an instance's capacity beyond which nothing fits, whatever the price."""


class ScalingBasis:
    """What replicas are wanted by: averages over minutes, since a replica takes long to start.

    A wish that followed each second's demand would be kept at its highest by autoscalers, which
    remove nothing that was wanted in the last minutes. Spreads that were learned while instances
    were full are those of their queues, which more replicas would end.
    """

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._keys: tuple[tuple[str, str], ...] = ()
        self._group_of: Indices = np.empty(0, dtype=np.intp)
        self._at = 0.0
        self._work: dict[tuple[str, str], float] = {}
        self._tails: dict[tuple[str, str], Tail] = {}

    def update(
        self, decision: Decision, tails: Sequence[Tail]
    ) -> tuple[Mapping[tuple[str, str], float], list[Tail]]:
        """Return (site, model) -> work, and the tails of the promises, *decision* included."""
        layout, at = decision.problem.layout, decision.view.at
        if layout is not self._layout:
            self._layout = layout
            self._keys, self._group_of = group_columns(layout)
        passed, self._at = max(0.0, at - self._at), at
        work = np.bincount(self._group_of, decision.load, len(self._keys)).tolist()
        kept, former = math.exp(-passed / AVERAGING), self._work
        self._work = {
            key: kept * former[key] + (1.0 - kept) * now if key in former else now
            for key, now in zip(self._keys, work, strict=True)
        }
        return self._work, [self._calm(decision, tail, passed) for tail in tails]

    def _calm(self, decision: Decision, tail: Tail, passed: float) -> Tail:
        """Return *tail* with scale and spread averaged over the time in which nothing was full."""
        problem = decision.problem
        key = problem.layout.services[tail.service].service.name, tail.kind.value
        former = self._tails.get(key, replace(tail, spread=SPREAD))
        columns = list(problem.layout.services[tail.service].columns)
        full = decision.load[columns] > CALM * problem.curves.capacity[columns]
        kept = 1.0 if full.any() else math.exp(-passed / TAIL_AVERAGING)
        found = replace(
            tail,
            scale=former.scale**kept * tail.scale ** (1.0 - kept),
            spread=former.spread**kept * tail.spread ** (1.0 - kept),
        )
        self._tails[key] = found
        return found


def group_columns(layout: Layout) -> tuple[tuple[tuple[str, str], ...], Indices]:
    """Return the groups (site, model) in order, and the group of each instance."""
    own = [(instance.site, instance.model) for instance in layout.instances]
    keys = tuple(sorted(set(own)))
    number = {key: place for place, key in enumerate(keys)}
    return keys, np.array([number[key] for key in own], dtype=np.intp)


def scaling_groups(
    decision: Decision, averages: Mapping[tuple[str, str], float], tails: Sequence[Tail]
) -> tuple[ScalingGroup, ...]:
    """Return every group of instances that may get requests, by site and model.

    Args:
        decision: the shares in use, and the fleet behind them.
        averages: (site, model) -> work by which replicas are wanted.
        tails: of the promises.
    """
    problem = decision.problem
    layout, curves = problem.layout, problem.curves
    usable = np.zeros(len(layout.instances), dtype=bool)
    for service in problem.pairs.services:
        # A device has one instance of its own, which nothing scales.
        usable[service.columns[~service.reserved]] = True
    keys, group_of = group_columns(layout)
    uses = _uses(decision, tails, group_of)
    room = _room(PriceTable.stationary(curves), decision.load)
    instances = decision.view.instances
    ramp = np.array([max(instances[each.name].ramp, LEAST_RAMP) for each in layout.instances])
    groups: dict[tuple[str, str], Group] = {}
    columns = np.flatnonzero(usable)
    columns = columns[np.argsort(group_of[columns], kind="stable")]
    own_group = group_of[columns]
    starts = np.searchsorted(own_group, np.arange(len(keys) + 1))
    counts = np.diff(starts)
    each = np.maximum(counts, 1)
    # One that has just started will be a whole one: it is no reason to start more.
    slots = np.bincount(own_group, curves.slots[columns] / ramp[columns], len(keys)) / each
    slowdown = np.bincount(own_group, curves.slowdown[columns], len(keys)) / each
    work = _sums(own_group, decision.load[columns], len(keys))
    for number, key in enumerate(keys):
        own = columns[starts[number] : starts[number + 1]]
        if len(own):
            mean = Curves(slots[number : number + 1], slowdown[number : number + 1])
            usual = averages.get(key, float(work[number]))
            groups[key] = Group(own, mean, usual, tuple(uses.get(number, ())))
    full = np.flatnonzero(counts)
    awake = _describe(
        list(groups),
        wanted_replicas(list(groups.values()), decision.load),
        counts=counts[full],
        work=work[full],
        capacity=_sums(own_group, curves.capacity[columns], len(keys))[full],
        gains=replica_gain(Curves(slots[full], slowdown[full]), work[full], counts[full]),
        room=_sums(own_group, room[columns], len(keys))[full],
        rate=_sums(own_group, (room / problem.pace)[columns], len(keys))[full],
    )
    return _with_asleep(awake, decision.starts.values())


def _sums(group: Indices, values: Array, count: int) -> Array:
    """Return the sum of *values* by *group*, (count,)."""
    return np.bincount(group, values, count).astype(np.float64)


def _with_asleep(
    awake: Sequence[ScalingGroup], starts: Iterable[StartWish]
) -> tuple[ScalingGroup, ...]:
    """Return the groups with what is asleep in each, and those of which everything is."""
    groups = {(each.site, each.model): each for each in awake}
    asleep = Counter((each.site, each.model) for each in starts)
    starting = {(each.site, each.model) for each in starts if each.wanted or each.pending}
    best: dict[tuple[str, str], StartWish] = {}
    for each in starts:
        key = (each.site, each.model)
        if key not in best or each.gain_least > best[key].gain_least:
            best[key] = each
    for key, count in asleep.items():
        group = groups.get(key) or _empty_group(best[key], wanted=int(key in starting))
        groups[key] = replace(group, asleep=count, starting=key in starting)
    return tuple(groups[key] for key in sorted(groups))


def _empty_group(start: StartWish, *, wanted: int) -> ScalingGroup:
    return ScalingGroup(
        site=start.site,
        model=start.model,
        replicas=0,
        work=0.0,
        utilisation=0.0,
        gain_least=start.gain_least,
        gain_most=start.gain_most,
        wanted=wanted,
        patient=wanted,
        bound_by="",
        room_work=0.0,
        room_rate=0.0,
    )


def _describe(
    keys: Sequence[tuple[str, str]],
    wanted: Sequence[Wanted],
    *,
    counts: Indices,
    work: Array,
    capacity: Array,
    gains: tuple[Array, Array],
    room: Array,
    rate: Array,
) -> list[ScalingGroup]:
    """Return the groups of *keys*; the arrays are (groups,)."""
    use, (least, most) = work / capacity, gains
    return [
        ScalingGroup(
            site=site,
            model=model,
            replicas=int(counts[place]),
            work=float(work[place]),
            utilisation=float(use[place]),
            gain_least=float(least[place]),
            gain_most=float(most[place]),
            wanted=wish.replicas,
            patient=wish.patient,
            bound_by=wish.bound_by,
            room_work=float(room[place]),
            room_rate=float(rate[place]),
        )
        for place, ((site, model), wish) in enumerate(zip(keys, wanted, strict=True))
    ]


def _room(prices: PriceTable, load: Array) -> Array:
    """Return the work that fits into each instance, (instances,)."""
    most, _ = prices.invert(np.full(len(load), ROOM_PRICE))
    room: Array = np.maximum(0.0, np.minimum(most, FULL * prices.capacity) - load)
    return room


def replica_gain(curve: Curves, work: Array, count: Indices) -> tuple[Array, Array]:
    """Return what one more replica saves at least and at most, seconds a second, (groups,).

    Args:
        curve: of a replica of each group, (groups,).
        work: (groups,): of all replicas of each.
        count: (groups,): replicas of each.
    """
    each = work / count
    now, less = curve.number(each), curve.number(each * count / (count + 1))
    least = np.maximum(count * now - (count + 1) * less, 0.0)
    most: Array = np.maximum(least, each * curve.marginal(each) - now)
    return least, most


def _uses(decision: Decision, tails: Sequence[Tail], group_of: Indices) -> dict[int, list[Use]]:
    """Return who uses which group at the decision's shares."""
    problem = decision.problem
    flow, layout, pairs = problem.flow, problem.layout, problem.pairs
    amount = flow.demand[flow.row] * decision.shares
    service = problem.service_of[flow.row]
    client = problem.codes // pairs.instances % pairs.sites
    found: dict[int, list[Use]] = {}
    for number, each in zip(pairs.numbers.tolist(), pairs.services, strict=True):
        own = np.flatnonzero((service == number) & (amount > 0))
        promises = tuple(tail for tail in tails if tail.service == number)
        name = layout.services[number].service.name
        used = group_of[flow.column[own]]
        for group in np.unique(used).tolist():
            there = own[used == group]
            rate: Array = np.bincount(client[there], amount[there], pairs.sites).astype(float)
            found.setdefault(group, []).append(Use(name, each, promises, rate))
    return found
