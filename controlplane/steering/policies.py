"""Rules that give shares without a model of latency, one function each, and who uses which.

They are what operators know from other systems, what `optimal` is compared with, and where
steering falls back to when its predictions are refuted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from controlplane.config import PolicyName
from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Flags, Indices
from controlplane.steering.pricing import restrict
from controlplane.steering.problem import Problem

FULL = 0.8
"""Share of capacity up to which a region is filled before requests spill to the next."""

_NEAR = 1e-4
"""Round trips that differ by less, in seconds, are equally near."""


def normalise(problem: Problem, weight: Array) -> Array:
    """Scale *weight* per entry to shares that sum to one per row; even where all are zero."""
    row = problem.flow.row
    count = len(problem.rows)
    total = np.bincount(row, weights=weight, minlength=count)
    entries = np.bincount(row, minlength=count)
    return np.where(total[row] > 0, weight / np.where(total > 0, total, 1.0)[row], 1 / entries[row])


def by_capacity(problem: Problem, _load: Array) -> Array:
    """Share by believed capacity, where the client is."""
    return normalise(problem, problem.sustained[problem.flow.column])


def to_nearest(problem: Problem, _load: Array) -> Array:
    """Send everything to the nearest site, by capacity within it."""
    row, away = problem.flow.row, problem.rtt + problem.transfer
    least = np.minimum.reduceat(away, problem.flow.starts)
    near = away <= least[row] + _NEAR
    return normalise(problem, np.where(near, problem.sustained[problem.flow.column], 0.0))


def by_static_weight(problem: Problem, _load: Array) -> Array:
    """Share by the weights that operators wrote."""
    fixed = np.array([service.fixed for service in problem.layout.services])
    service = problem.service_of[problem.flow.row]
    return normalise(problem, fixed[service, problem.flow.column])


def by_headroom(problem: Problem, load: Array) -> Array:
    """Share by the capacity that *load*, work per instance, leaves free."""
    capacity = problem.curves.capacity
    free = np.maximum(capacity - load, 0.05 * capacity) / problem.pace
    return normalise(problem, free[problem.flow.column])


def by_waterfall(problem: Problem, _load: Array) -> Array:
    """Fill the nearest region to `FULL`, then the next nearest, and so on."""
    return _fill(problem, rounds=64)


def by_spray(problem: Problem, _load: Array) -> Array:
    """Spread over the nearest region to `FULL`; what is left goes over the world by free room."""
    return _fill(problem, rounds=1)


def apply_rule(policy: PolicyName, problem: Problem, load: Array) -> Array:
    """Return the shares by the rule of *policy*; a client's own device stays its last resort.

    Rules know nothing of latency, so none of them sees when a device is the better choice. A row
    that an override pins to its device stays there.
    """
    flow = problem.flow
    shared = problem.layout.reach[flow.column] < 0
    free = shared.copy()
    free[flow.bounds.entry[flow.bounds.high[flow.bounds.group] <= 0.0]] = False
    bound = np.bincount(flow.row[free], minlength=len(flow.demand)) == 0
    own = np.bincount(flow.row[~shared], minlength=len(flow.demand)) > 0
    shared = np.where((bound & own)[flow.row], ~shared, shared)
    if shared.all():
        return RULES[policy](problem, load)
    shares = np.zeros(len(shared))
    shares[shared] = RULES[policy](_without(problem, shared), load)
    return shares


def _without(problem: Problem, kept: Flags) -> Problem:
    """Return the problem of the entries that are *kept*, (entries,); at least one a row."""
    return replace(
        problem,
        codes=problem.codes[kept],
        flow=restrict(problem.flow, kept, np.zeros(len(kept))),
        rtt=problem.rtt[kept],
        transfer=problem.transfer[kept],
        penalty=problem.penalty[kept],
        failure=problem.failure[kept],
    )


Rule = Callable[[Problem, Array], Array]

RULES: dict[PolicyName, Rule] = {
    PolicyName.CAPACITY: by_capacity,
    PolicyName.NEAREST: to_nearest,
    PolicyName.STATIC: by_static_weight,
    PolicyName.HEADROOM: by_headroom,
    PolicyName.WATERFALL: by_waterfall,
    PolicyName.SPRAY: by_spray,
}


def _regions(problem: Problem) -> Indices:
    """Return each instance's region; a site that names none is a region of its own."""
    sites = {site.name: site.region or f"\0{site.name}" for site in problem.layout.config.sites}
    names = [sites[instance.site] for instance in problem.layout.instances]
    order = {name: index for index, name in enumerate(sorted(set(names)))}
    return np.array([order[name] for name in names], dtype=np.intp)


def _fill(problem: Problem, *, rounds: int) -> Array:
    """Return shares by filling regions, nearest first, for at most *rounds* regions per row.

    All rows fill at once; where they want more than a region has, they get it in proportion.
    """
    flow = problem.flow
    row, column, count = flow.row, flow.column, len(problem.rows)
    region = _regions(problem)[column]
    regions = int(region.max()) + 1 if len(region) else 0
    away = problem.rtt + problem.transfer + problem.penalty
    pair = row * regions + region
    near = np.full(count * regions, np.inf)
    np.minimum.at(near, pair, away)
    order = np.argsort(near.reshape(count, regions), axis=1, kind="stable")
    free = np.maximum(FULL * problem.curves.capacity - flow.base, 0.0)
    wanted = flow.demand.copy()
    sent = np.zeros(len(row))
    for rank in range(min(rounds, regions)):
        here = region == order[row, rank]
        room = np.where(here, free[column] / flow.work, 0.0)
        sent += _grant(problem, wanted, room, free)
        wanted = np.maximum(flow.demand - np.bincount(row, weights=sent, minlength=count), 0.0)
        if not (wanted > 1e-9 * flow.demand).any():
            break
    if (wanted > 1e-9 * flow.demand).any():
        sent += _grant(problem, wanted, free[column] / flow.work, free)
        left = np.maximum(flow.demand - np.bincount(row, weights=sent, minlength=count), 0.0)
        sent += left[row] * by_capacity(problem, free)
    return normalise(problem, sent)


def _grant(problem: Problem, wanted: Array, room: Array, free: Array) -> Array:
    """Split *wanted* per row over entries by *room*, cut to what is *free*, which shrinks."""
    flow = problem.flow
    total = np.bincount(flow.row, weights=room, minlength=len(problem.rows))
    part = np.where(total[flow.row] > 0, room / np.where(total > 0, total, 1.0)[flow.row], 0.0)
    asked = wanted[flow.row] * part
    work = np.bincount(flow.column, weights=asked * flow.work, minlength=len(free))
    cut = np.where(work > free, free / np.where(work > 0, work, 1.0), 1.0)
    granted: Array = asked * cut[flow.column]
    free -= np.minimum(work, free)
    return granted
