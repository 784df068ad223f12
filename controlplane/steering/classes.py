"""Classes of one service by the length of the body: apart where that pays, else with one share.

Short and long requests of one service that go to the same instances differ for the optimum in
little but how much work each is, and work of both is worth the same: which class goes where is
decided by the last millisecond of a path. So shares of classes drift apart, and long prompts, which
engines read one after another, come together at a few instances, for a gain that no client notices.
The mean of the classes' shares, by their work, puts the same load on every instance. It costs only
what their paths, penalties and money differ by, and is taken where that is little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.optimiser import Flags, Indices
from controlplane.steering.problem import Problem

TOLERATED = 0.02
"""Fraction of what the requests of the classes cost that having one share may add to it."""

_SAME = 1e-6
"""Relative difference up to which the work of two classes has the same ratio everywhere."""


def join_classes(problem: Problem, prices: PriceTable, shares: Array, *, allowed: Flags) -> Array:
    """Return *shares* with one share for all classes of a client site where that costs little.

    Args:
        problem: the decision's.
        prices: of the coming period.
        shares: (entries,): the optimum.
        allowed: (entries,): those that may change.
    """
    if not problem.layout.classes:
        return shares
    flow = problem.flow
    price = prices.evaluate(flow.load(shares))[1]
    paid = flow.demand[flow.row] * shares * flow.marginal(price)
    joined = shares.copy()
    for group in problem.layout.classes:
        entries = _same_entries(problem, group)
        if entries is None:
            continue
        mean, alike = _mean_share(problem, shares, entries)
        lost = flow.demand[flow.row[entries]] * (mean - shares[entries]) * flow.linear[entries]
        starts = np.flatnonzero(np.diff(flow.row[entries[0]], prepend=-1))
        added = np.add.reduceat(lost.sum(axis=0), starts)
        whole = np.add.reduceat(paid[entries].sum(axis=0), starts)
        free = np.logical_and.reduceat(allowed[entries].all(axis=0) & alike, starts)
        take = np.repeat(
            free & (added <= TOLERATED * whole), np.diff(starts, append=entries.shape[1])
        )
        joined[entries[:, take]] = mean[take]
    return joined


def _same_entries(problem: Problem, group: Sequence[int]) -> Indices | None:
    """Return the entries of each class, (classes, entries of one); None if they do not match."""
    flow = problem.flow
    service, pairs = problem.service_of[flow.row], problem.pairs
    # An entry's client site and instance.
    place = problem.codes % (pairs.sites * pairs.instances)
    own = [np.flatnonzero(service == number) for number in group]
    if not len(own[0]) or any(not np.array_equal(place[own[0]], place[each]) for each in own):
        return None
    return np.array(own, dtype=np.intp)


def _mean_share(problem: Problem, shares: Array, entries: Indices) -> tuple[Array, Flags]:
    """Return the classes' mean share by work, and whether their work is in the same ratio there.

    Both are (entries of one class,).
    """
    flow = problem.flow
    row = flow.row[entries[0]]
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    ratio = flow.work[entries] / flow.work[entries[0]]
    size = np.repeat(ratio[:, starts], np.diff(starts, append=len(row)), axis=1)
    work = flow.demand[flow.row[entries]] * size
    mean: Array = (work * shares[entries]).sum(axis=0) / work.sum(axis=0)
    return mean, (np.abs(ratio - size) <= _SAME * size).all(axis=0)
