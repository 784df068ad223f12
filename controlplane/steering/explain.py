"""Shares to assignments, with every term of every share.

What the API, the command line and the dashboard show is made from the arrays that decided, never
worked out a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from controlplane.config import Mode, PolicyName
from controlplane.fleet.view import FleetView, PathView
from controlplane.model import Signal
from controlplane.steering.belief import Belief
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.plan import Allocation, Assignment, Exclusion, Why
from controlplane.steering.problem import Problem, Row
from controlplane.steering.weights import round_shares

Weights = NDArray[np.int64]
Pair = tuple[int, int]
"""Indices of a service and a client site."""

_MOST_SPARES = 3
"""Instances to fall to; enough to take one site's load for the seconds until the next plan."""
_SPARE = "a spare: used when nothing of the better priority answers"


@dataclass(frozen=True, slots=True)
class Decision:
    """A decided problem: all that an explanation needs."""

    view: FleetView
    problem: Problem
    beliefs: Sequence[Belief]
    shares: Array
    """(entries,): what is used."""
    weights: Weights
    """(entries,): *shares* as the integers that Envoys get; 0 for nothing."""
    previous: Array
    """(entries,): what was used before; 0 where there was nothing."""
    standing: Array | None
    """(entries,): *shares* if there were no canaries; none where there are none."""
    load: Array
    """(instances,): work under *shares*."""
    prices: PriceTable
    """Marginal cost of work of each instance, in the coming period."""
    price: Array
    """(instances,): the same at that load."""
    marginal: Array
    """(entries,): marginal cost of a request, weighted."""
    sustained: Array
    """(instances,): requests a second of ordinary size that each is believed to sustain."""
    barred: frozenset[int]
    """Entries that an operator's limit keeps from getting anything."""
    inside: Array
    """(instances,): predicted time spent over time alone, at least 1."""
    cost: float
    """The objective, weighted seconds of delay a second."""
    policies: Mapping[Pair, PolicyName]
    """The policy that decided, where it is not the service's own: a fallback, a canary."""
    drops: Mapping[int, float]
    """Service -> part of its requests that is refused; absent where none is."""
    notes: Mapping[Pair, str]
    """A fallback or a freeze, in words, where there is one."""
    held: bool
    """True when *shares* are those of before."""
    gain: float
    """Predicted gain of *shares* over the ones before, as a part of the cost; 0 when held."""
    probed: Array
    """(entries,): the part of *shares* that is given to learn of an instance; mostly 0."""

    def policy_of(self, row: Row) -> PolicyName:
        """Give the policy that decided *row*."""
        own = self.problem.layout.services[row.service].policy
        return self.policies.get((row.service, row.site), own)

    def note_of(self, row: Row) -> str:
        """Give what is to be said of *row*; empty in the normal case."""
        return self.notes.get((row.service, row.site), "")

    def standing_of(self, row: Row) -> PolicyName | None:
        """Give the policy that decides elsewhere, if *row* is a canary that is pushed."""
        layout = self.problem.layout
        service = layout.services[row.service]
        if service.canary is None or layout.config.steering.mode is Mode.OBSERVE:
            return None
        return service.policy if service.canary[0] == row.site else None

    def under(self, shares: Array, weights: Weights) -> Decision:
        """Give the same problem under other *shares*, with what follows from them."""
        problem = self.problem
        load = problem.flow.load(shares)
        price = self.prices.evaluate(load)[1]
        return replace(
            self,
            shares=shares,
            weights=weights,
            probed=np.zeros(len(shares)),
            load=load,
            price=price,
            marginal=problem.flow.marginal(price),
            inside=weigh_inside(problem, problem.curves.number(load), load),
            cost=problem.flow.cost(shares, self.prices),
        )


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Where a row's entries are."""

    row: Row
    first: int
    end: int
    demand: float
    least: float
    """Marginal cost of a request at the best of its entries."""


def row_spans(decision: Decision) -> list[RowSpan]:
    """Give every row with its range of entries."""
    problem = decision.problem
    starts = problem.flow.starts.tolist()
    ends = [*starts[1:], len(problem.flow.row)] if starts else []
    demand = problem.flow.demand.tolist()
    least = np.minimum.reduceat(decision.marginal, problem.flow.starts).tolist() if starts else []
    return [
        RowSpan(*fields) for fields in zip(problem.rows, starts, ends, demand, least, strict=True)
    ]


def build_assignment(
    decision: Decision, span: RowSpan, *, former: Assignment | None, whys: bool
) -> Assignment:
    """Give one row's assignment; with the terms of each share, made when asked for, if *whys*.

    *former* is the row's assignment of the last plan.
    """
    problem = decision.problem
    layout = problem.layout
    service = layout.services[span.row.service]
    weights = decision.weights[span.first : span.end]
    places = np.flatnonzero(weights)
    entries = (places + span.first).tolist()
    columns = problem.flow.column[entries].tolist()
    shares = decision.shares[entries]
    kept = float(shares.sum())
    instances = [layout.instances[column] for column in columns]
    allocations = [
        Allocation(
            instance=instance.name,
            site=instance.site,
            share=share / kept,
            weight=weight,
            reason=partial(_why, decision, entry, span) if whys else None,
        )
        for entry, instance, share, weight in zip(
            entries, instances, shares.tolist(), weights[places].tolist(), strict=True
        )
    ]
    allocations.sort(key=lambda allocation: allocation.instance)
    spares: list[Allocation] = []
    sites = {
        instance.site
        for entry, instance in zip(entries, instances, strict=True)
        if decision.probed[entry] <= 0
    }
    if len(sites) == 1:
        spares = _spares(decision, span, sites.pop(), former=former, whys=whys)
    used = frozenset(allocation.instance for allocation in (*allocations, *spares))
    allocations += spares
    allocations += _devices(decision, span.row, priority=2 if spares else 1)
    return Assignment(
        service=service.service.name,
        client_site=layout.sites[span.row.site],
        policy=decision.policy_of(span.row),
        allocations=tuple(allocations),
        left_out=partial(_left_out, decision, span, used) if whys else (),
        demand=span.demand,
        note=decision.note_of(span.row),
        drop=decision.drops.get(span.row.service, 0.0),
        standing=decision.standing_of(span.row),
    )


def _left_out(decision: Decision, span: RowSpan, used: frozenset[str]) -> tuple[Exclusion, ...]:
    """Give what may serve a row and gets nothing of it, and what may not, each with its reason."""
    layout = decision.problem.layout
    columns = decision.problem.flow.column[span.first : span.end].tolist()
    dear = tuple(
        Exclusion(instance.name, instance.site, _too_dear(decision, entry, span))
        for entry, column in enumerate(columns, span.first)
        if (instance := layout.instances[column]).name not in used
    )
    return dear + _excluded(decision, span.row)


def _spares(
    decision: Decision, span: RowSpan, only: str, *, former: Assignment | None, whys: bool
) -> list[Allocation]:
    """Give instances of other sites to fall to, where the loss of site *only* would lose all.

    Envoy falls to a lower priority by itself, so requests survive that loss also when nobody is
    there to decide anew. Chosen and weighed by what does not change with the load: spares that
    moved from cycle to cycle would be pushed for nothing.
    """
    problem = decision.problem
    layout = problem.layout
    columns = problem.flow.column[span.first : span.end].tolist()
    able = [
        (entry, instance)
        for entry, column in enumerate(columns, span.first)
        if (instance := layout.instances[column]).site != only
        and entry not in decision.barred
        and decision.probed[entry] <= 0
    ]
    # The time alone is learned and moves a little in every cycle.
    last = former.allocations if former is not None and decision.held else ()
    names = {allocation.instance for allocation in last if allocation.priority == 1}
    chosen = [(entry, instance) for entry, instance in able if instance.name in names]
    if not chosen:
        alone = (
            problem.flow.linear[span.first : span.end] + problem.flow.work[span.first : span.end]
        )
        able.sort(key=lambda each: (alone[each[0] - span.first], each[1].name))
        chosen = able[:_MOST_SPARES]
    slots = {instance.name: instance.slots for _, instance in chosen}
    total = layout.config.steering.weight_sum
    whole = sum(slots.values())
    weights = round_shares({name: count / whole for name, count in slots.items()}, total=total)
    made = [
        Allocation(
            instance.name,
            instance.site,
            weights[instance.name] / total,
            weights[instance.name],
            1,
            partial(_why_spare, decision, entry, span) if whys else None,
        )
        for entry, instance in chosen
        if instance.name in weights
    ]
    return sorted(made, key=lambda allocation: allocation.instance)


def _why_spare(decision: Decision, entry: int, span: RowSpan) -> Why:
    why = _why(decision, entry, span)
    words = f"{_SPARE}; {_too_dear(decision, entry, span)}"
    return replace(why, limits=(*why.limits, words))


def barred_entries(problem: Problem) -> frozenset[int]:
    """Give the entries that an operator's limit keeps from getting anything."""
    bounds = problem.flow.bounds
    if not len(bounds.entry):
        return frozenset()
    return frozenset(bounds.entry[bounds.high[bounds.group] <= 0.0].tolist())


def build_bare_assignment(decision: Decision, row: Row) -> Assignment:
    """Give the assignment of a row that nothing but its own devices may serve."""
    service = decision.problem.layout.services[row.service]
    devices = _devices(decision, row, priority=0)
    note = "" if devices else "no usable instance"
    return Assignment(
        service=service.service.name,
        client_site=decision.problem.layout.sites[row.site],
        policy=decision.policy_of(row),
        allocations=tuple(devices),
        left_out=_excluded(decision, row),
        note=decision.note_of(row) or note,
        standing=decision.standing_of(row),
    )


def _devices(decision: Decision, row: Row, *, priority: int) -> list[Allocation]:
    """Give the client's own devices by their capacity, each with its terms."""
    if not row.devices:
        return []
    problem = decision.problem
    layout = problem.layout
    rate = {d: decision.beliefs[d].capacity for d in row.devices}
    names = {layout.instances[d].name: d for d in row.devices}
    weights = round_shares(
        {name: rate[d] / sum(rate.values()) for name, d in names.items()},
        total=layout.config.steering.weight_sum,
    )
    service = layout.services[row.service]
    near = layout.config.network.local_rtt
    made = []
    for name, weight in sorted(weights.items()):
        belief = decision.beliefs[names[name]]
        alone = belief.pace * service.size
        made.append(
            Allocation(
                instance=name,
                site=layout.sites[row.site],
                share=weight / layout.config.steering.weight_sum,
                weight=weight,
                priority=priority,
                reason=Why(
                    rtt=near,
                    transfer=0.0,
                    penalty=float(service.penalty[names[name]]),
                    energy=0.0,
                    service=alone,
                    queueing=0.0,
                    crowding=0.0,
                    predicted_latency=near + alone,
                    arrival_rate=0.0,
                    capacity=belief.capacity / service.size,
                    confidence=decision.view.instances[name].confidence,
                    previous_share=0.0,
                    limits=("the client's own device, the last resort",) if priority else (),
                ),
            )
        )
    return made


def _excluded(decision: Decision, row: Row) -> tuple[Exclusion, ...]:
    layout = decision.problem.layout
    service = layout.services[row.service]
    reasons = decision.problem.excluded.get(row.service, {})
    made = [
        Exclusion(layout.instances[c].name, layout.instances[c].site, reason)
        for c, reason in sorted(reasons.items())
    ]
    for site, devices in sorted(service.devices.items()):
        for device in devices:
            if device in row.devices:
                continue
            own = site == layout.sites[row.site]
            reason = "says that it is not ready" if own else f"serves the clients of {site} only"
            made.append(Exclusion(layout.instances[device].name, site, reason))
    return tuple(made)


def _too_dear(decision: Decision, entry: int, span: RowSpan) -> str:
    """Say why an instance that may be used gets nothing."""
    policy = decision.policy_of(span.row)
    if policy is not PolicyName.OPTIMAL:
        return f"the policy {policy.value} gives it nothing"
    dearer = float(decision.marginal[entry]) - span.least
    if dearer <= 0:
        return "its share is below the least that is pushed"
    return f"one more request there would cost {dearer * 1e3:.1f} ms more than at the best"


def _why(decision: Decision, entry: int, span: RowSpan) -> Why:
    problem, flow = decision.problem, decision.problem.flow
    column = int(flow.column[entry])
    instance = problem.layout.instances[column]
    belief = decision.beliefs[column]
    view = decision.view
    seen = view.instances[instance.name]
    rtt, transfer = float(problem.rtt[entry]), float(problem.transfer[entry])
    alone = float(flow.work[entry])
    queueing = alone * (float(decision.inside[column]) - 1.0)
    price = float(decision.price[column])
    path = view.paths.get((problem.layout.sites[span.row.site], instance.site))
    client = problem.layout.sites[span.row.site]
    demand = view.demand.get((client, problem.layout.services[span.row.service].service.name))
    running = seen.readings.get(Signal.RUNNING)
    ages = {
        "rtt": path.rtt.age(view.at) if path else None,
        "bandwidth": _bandwidth_age(path, view.at),
        "load": running.age(view.at) if running else None,
        "demand": demand.age(view.at) if demand else None,
    }
    sources = {
        "rtt": path.rtt.source.value if path else "default",
        "load": running.source.value if running else "unknown",
        "demand": demand.source.value if demand else "assumed",
        "capacity": belief.source,
    }
    words = [
        *problem.limits.get(column, ()),
        *_bounds(decision, entry),
    ]
    if decision.probed[entry] > 0:
        words.append("probed: it may be as fast as others of its model again")
    return Why(
        rtt=rtt,
        transfer=transfer,
        penalty=float(problem.penalty[entry]),
        energy=float(problem.energy[entry]),
        service=alone,
        queueing=queueing,
        crowding=max(0.0, alone * price - alone - queueing),
        predicted_latency=rtt + transfer + alone + queueing,
        arrival_rate=float(decision.load[column] / problem.pace[column]),
        capacity=float(decision.sustained[column]),
        confidence=seen.confidence,
        previous_share=float(decision.previous[entry]),
        ages=ages,
        sources=sources,
        limits=tuple(words),
    )


def _bandwidth_age(path: PathView | None, now: float) -> float | None:
    return path.bandwidth.age(now) if path is not None and path.bandwidth is not None else None


def _bounds(decision: Decision, entry: int) -> list[str]:
    """Give the words of the bound groups that hold the share where it is."""
    bounds = decision.problem.flow.bounds
    if not len(bounds.entry):
        return []
    words = []
    for group in bounds.group[bounds.entry == entry].tolist():
        whole = float(decision.shares[bounds.entry[bounds.group == group]].sum())
        if whole >= bounds.high[group] - 1e-4 or whole <= bounds.low[group] + 1e-4:
            words.append(decision.problem.limit_words[group])
    return words


def weigh_inside(problem: Problem, number: Array, load: Array) -> Array:
    """Give the time spent inside over the time alone, with *number* inside at *load*."""
    least = 1e-6 * problem.curves.capacity
    return np.maximum(1.0, number / np.maximum(load, least))
