"""Shares to the integers that Envoy takes; nothing is decided here but rounding."""

from __future__ import annotations

from collections.abc import Mapping

LEAST_SHARE = 0.0005
"""Shares below it are dropped: Envoy would keep connections open for next to no requests."""


def round_shares(
    shares: Mapping[str, float], *, total: int, least: float = LEAST_SHARE
) -> dict[str, int]:
    """Turn *shares* by instance into integer weights that add up to *total*.

    Largest remainder (Hamilton's method): every weight is within one of its exact quota, the
    result does not depend on the order of *shares*, and ties go by name. Instances with a share
    below *least* get nothing; all others at least 1.

    Raises:
        ValueError: if *total* is smaller than the number of instances that must get 1.
    """
    kept = {name: share for name, share in sorted(shares.items()) if share >= least}
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
