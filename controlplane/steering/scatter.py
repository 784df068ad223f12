"""How completions and estimates scatter by chance alone, and what instances have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from controlplane.steering.latency import Array

DISPERSION = 1.5
"""Variance of completions over that of a Poisson count, with which they are judged: what was
measured of it times this, and this at least, for a change has to be more than bad luck. Requests
of very different length, and prompts read one after another, end in clumps, whose variance is
several times as large."""

_MOST_DISPERSION = 12.0
_DISPERSION_COUNT = 20.0
"""Observations that the dispersion of the others of a model is worth, and of all that of Poisson
counts."""


def scatter_of(total: Array, number: Array, kin: Iterable[Iterable[int]]) -> Array:
    """Return how much more completions scatter than Poisson counts, (instances,).

    It is that of sums over the window, since clumps of seconds are what looks like a change.

    Args:
        total: (instances,): squared deviations over Poisson's, added up.
        number: (instances,): how many they are.
        kin: the instances of each model, whose scatter is much alike.
    """
    found = np.empty(len(total))
    for group in kin:
        members = list(group)
        common = total[members].sum() + _DISPERSION_COUNT
        common /= number[members].sum() + _DISPERSION_COUNT
        found[members] = total[members] + _DISPERSION_COUNT * common
        found[members] /= number[members] + _DISPERSION_COUNT
    return found


def tolerated(scatter: Array) -> Array:
    """Return how much completions may scatter without a change, by what was measured of them."""
    limited: Array = np.clip(DISPERSION * scatter, DISPERSION, _MOST_DISPERSION)
    return limited


def common_mean(values: Array, noise: Array, *, equal: bool = False) -> tuple[float, float]:
    """Return the mean of what *values* with variances *noise* measure, and how it varies.

    Its variance between instances is the one that explains what *noise* does not (DerSimonian and
    Laird 1986), in which those known well count most. What is *equal* until it shows otherwise
    varies by what exceeds two standard deviations of Cochran's Q (1954).
    """
    weight = 1.0 / noise
    mean = float(weight @ values / weight.sum())
    free = len(values) - 1
    excess = float(weight @ (values - mean) ** 2) - free
    if equal:
        excess -= 2.0 * math.sqrt(2.0 * free)
    between = 0.0
    spread = float(weight.sum() - (weight @ weight) / weight.sum())
    # A single value varies with nothing; rounding alone would have it differ from its own mean.
    if len(values) > 1 and excess > 0.0 and spread > 0.0:
        between = excess / spread
    weight = 1.0 / (noise + between)
    return float(weight @ values / weight.sum()), between


def pull_to(centre: float, between: float, own: Array, noise: Array) -> Array:
    """Return by how much *own* values with variances *noise* move towards what they share.

    *centre* and *between* are what `common_mean` returns: each moves by the part of its variance
    that is noise.
    """
    pull: Array = noise / (between + noise) * (centre - own)
    return pull
