"""Shares to the integers that Envoy takes; nothing is decided here but rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.estimate import Estimate
from controlplane.steering.layout import Layout

LEAST_SHARE = 0.0005
"""Shares below it are dropped: Envoy would keep connections open for next to no requests."""


def round_shares(shares: Mapping[str, float], *, total: int) -> dict[str, int]:
    """Turn *shares* by instance into integer weights that add up to *total*.

    Largest remainder (Hamilton's method): every weight is within one of its exact quota, the
    result does not depend on the order of *shares*, and ties go by name. Instances with a share
    below `LEAST_SHARE` get nothing; all others at least 1.

    Raises:
        ValueError: if *total* is smaller than the number of instances that must get 1.
    """
    kept = {name: share for name, share in sorted(shares.items()) if share >= LEAST_SHARE}
    if not kept:
        if not shares or max(shares.values()) <= 0:
            return {}
        most = max(shares.values())
        kept = {name: share for name, share in sorted(shares.items()) if share >= most / 2}
    if total < len(kept):
        raise ValueError(f"{len(kept)} instances cannot share a weight of {total}")
    whole = sum(kept.values())
    quotas = {name: share / whole * total for name, share in kept.items()}
    weights = {name: max(1, int(quota)) for name, quota in quotas.items()}
    left = total - sum(weights.values())
    # Sums of floats differ in the last bit with the order; rounded remainders do not.
    order = sorted(quotas, key=lambda name: (-round(quotas[name] - weights[name], 9), name))
    if left >= 0:
        for name in order[:left]:
            weights[name] += 1
        return weights
    while left < 0:
        for name in reversed(order):
            if weights[name] > 1 and left < 0:
                weights[name] -= 1
                left += 1
    return weights


def round_rows(
    shares: NDArray[np.float64],
    starts: NDArray[np.intp],
    rank: NDArray[np.intp],
    *,
    total: int,
) -> NDArray[np.int64]:
    """Do for many rows at once what `round_shares` does for one.

    Args:
        shares: (entries,), sorted by row.
        starts: (rows,): the first entry of each row; every row has one.
        rank: (entries,): the place of each entry's name in the order of names.
        total: what the weights of each row add up to.

    Returns:
        (entries,): the weights; 0 for what gets nothing.

    Raises:
        ValueError: if *total* is smaller than the number of entries of a row that must get 1.
    """
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    counts = np.diff(starts, append=len(shares))
    row = np.repeat(np.arange(len(starts)), counts)
    kept = shares >= LEAST_SHARE
    few = ~np.logical_or.reduceat(kept, starts)
    if few.any():
        most = np.maximum.reduceat(shares, starts)
        kept |= (few & (most > 0))[row] & (shares >= most[row] / 2)
    needed = np.add.reduceat(kept, starts, dtype=np.int64)
    if (needed > total).any():
        raise ValueError(f"{needed.max()} instances cannot share a weight of {total}")
    part = np.where(kept, shares, 0.0)
    whole = np.maximum(np.add.reduceat(part, starts), np.finfo(float).tiny)
    quota = part / whole[row] * total
    weights = np.where(kept, np.maximum(quota.astype(np.int64), 1), 0)
    left = np.where(needed > 0, total - np.add.reduceat(weights, starts), 0)
    # Sums of floats differ in the last bit with the order; rounded remainders do not.
    remainder = np.where(kept, np.round(quota - weights, 9), -np.inf)
    order = np.lexsort((rank, -remainder, row))
    place = np.arange(len(order)) - starts[row]
    weights[order] += place < left[row]
    for index in np.flatnonzero(left < 0).tolist():
        own = order[starts[index] : starts[index] + needed[index]]
        _take_back(weights, own, int(-left[index]))
    return weights


def _take_back(weights: NDArray[np.int64], own: NDArray[np.intp], excess: int) -> None:
    """Subtract *excess* from the last of *own* that have more than 1, one from each at a time."""
    while excess:
        for entry in own[::-1].tolist():
            if weights[entry] > 1 and excess:
                weights[entry] -= 1
                excess -= 1


def fallback_weights(layout: Layout, chosen: tuple[int, ...]) -> list[int]:
    """Return the weights of fallback instances, by the slots that the configuration says."""
    if not chosen:
        return []
    slots = {layout.instances[column].name: layout.slots[column] for column in chosen}
    whole = sum(slots.values())
    weights = round_shares(
        {name: count / whole for name, count in slots.items()},
        total=layout.config.steering.weight_sum,
    )
    return [weights[layout.instances[column].name] for column in chosen]


def device_weights(
    estimates: Sequence[Estimate], layout: Layout, devices: tuple[int, ...]
) -> dict[int, int]:
    """Return device -> weight, by believed capacity."""
    rate = {d: estimates[d].capacity for d in devices}
    names = {layout.instances[d].name: d for d in devices}
    weights = round_shares(
        {name: rate[d] / sum(rate.values()) for name, d in names.items()},
        total=layout.config.steering.weight_sum,
    )
    return {names[name]: weight for name, weight in sorted(weights.items())}
