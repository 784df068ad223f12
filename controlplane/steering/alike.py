"""Instances of one model that differ no more than is worth a decision count as equal.

Where load is low, the price of work is flat: whichever of two equal instances seems faster by half
a per cent would get every request, another one a minute later. Paces of one model that lie close
together are therefore drawn to each other (mean shift; Fukunaga and Hostetler 1975): those within
some per cent become one, those further apart stay as they are, and nothing jumps in between.
What is given up is a gain below ``steering.min_gain``, for which no push would be made anyway.

What is hardly known is drawn from farther, but only among instances that do not differ by more
than chance (Cochran's Q, 1954): where machines are uneven, a new one need not be like the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.optimiser import Flags

CLOSE = 0.025
"""Relative difference of paces up to which they are drawn to each other, certain as they may be."""

CLOSE_SLOTS, CLOSE_SLOWDOWN = 0.15, 0.04
"""The same of slots, relative, and of slowdowns, absolute: only what is close in all is alike."""

_MOST_NOISE, _HARDLY_KNOWN = 0.05, 0.12
"""Relative standard errors that widen it at most: of the instance that draws, and of the one that
is drawn. One whose first requests seemed slow is asked in full, and soon known."""

_LEAST_NOISE = 0.01

_FEW = 4
"""Instances of one model up to which one that is hardly known is taken to be like the others.
One of two that is left out while it is learned is half of what there is; one of many is missed
little, and many are seldom equal."""

_FAR = 2.5
"""Multiples of these from which instances have nothing in common."""

_STEPS = 3
"""Of the mean shift; each draws what is close together by a factor of ten and more."""

_MOST = 256
"""Instances of one model up to which pairs are compared; in a larger fleet load decides."""


def even_out(estimates: Sequence[Estimate], layout: Layout) -> list[Estimate]:
    """Return *estimates*, (instances,), with one curve for what is alike."""
    made = list(estimates)
    for group in layout.kin:
        if not 2 <= len(group) <= _MOST:
            continue
        mine = [estimates[place] for place in group]
        drawn = _draw(
            np.array([(np.log(each.pace), np.log(each.slots), each.slowdown) for each in mine]),
            np.array([each.uncertainty for each in mine]),
            # What an operator has written of one instance is not what others do.
            np.array([layout.instances[place].service_time is not None for place in group]),
        )
        for place, (pace, slots, slowdown) in zip(group, drawn.tolist(), strict=True):
            made[place] = replace(
                made[place], pace=math.exp(pace), slots=math.exp(slots), slowdown=slowdown
            )
    return made


def _draw(points: Array, noise: Array, stated: Flags) -> Array:
    """Return *points*, (members, 3), after they were drawn together.

    What is known well is drawn to what is close; what is hardly known, to what is known well.
    """
    own = np.minimum(noise, np.where(stated, _MOST_NOISE, _HARDLY_KNOWN)) ** 2
    others = np.minimum(noise, _MOST_NOISE) ** 2
    if len(points) > _FEW or _differ(points[:, 0], noise):
        own, others = np.zeros_like(own), np.zeros_like(others)
    reach = np.stack(
        [
            CLOSE**2 + own[:, None] + others[None, :],
            np.full((len(points), len(points)), CLOSE_SLOTS**2),
            np.full((len(points), len(points)), CLOSE_SLOWDOWN**2),
        ],
        axis=-1,
    )
    weight = 1.0 / np.maximum(noise, _LEAST_NOISE) ** 2
    for _ in range(_STEPS):
        apart = ((points[:, None, :] - points[None, :, :]) ** 2 / reach).sum(axis=-1)
        kernel = np.where(apart < _FAR**2, np.exp(-0.5 * apart), 0.0) * weight
        points = (kernel @ points) / kernel.sum(axis=1, keepdims=True)
    return points


def _differ(paces: Array, noise: Array) -> bool:
    """Return whether logarithms of *paces* scatter more than their *noise* explains.

    By two standard deviations of Cochran's Q, to which a difference of `CLOSE` is noise as well.
    """
    weight = 1.0 / (noise**2 + CLOSE**2)
    mean = weight @ paces / weight.sum()
    free = len(paces) - 1
    return bool(weight @ (paces - mean) ** 2 > free + 2.0 * math.sqrt(2.0 * free))
