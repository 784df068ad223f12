"""Rates out of counts: calm while they are steady, quick when they change.

A rate is counted over an interval, so its noise is known: a count of k has the standard error
sqrt(k), times what counts of these clients were seen to scatter beyond chance. The estimate
follows quickly when the rate moves by more than that, and slowly otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Indices

CALM = 20.0
"""Seconds over which an unchanging rate is averaged."""

SURPRISE = 3.5
"""Standard errors by which a rate must differ to count as changed."""

FEW = 12
"""Rates beyond which each must show a change more clearly: one of many is always unlucky
(Bonferroni), and a fleet whose rates jump in turn is pushed without end."""

_BEGUN = 1.0
"""Drift from which on a change may have begun; smaller ones come and go."""

_MEMORY = 90.0
"""Counts over which their scatter is remembered."""

_COMMON = 20.0
"""Counts that the scatter of all rates is worth beside that of one, and Poisson's beside all."""

_OUTLIER, _MOST_SCATTER = 36.0, 4.0
"""Largest squared difference that counts for the scatter, and the largest scatter that is believed:
what jumps further than that is followed, whatever it is used to do."""


def difference(count: Array, expected: Array) -> Array:
    """Return how many standard errors counts are from their means, were they Poisson's.

    Counts whose square roots are compared scatter alike whatever their mean, and the many small
    ones are not taken for a change each time a request comes (Anscombe 1948).
    """
    found: Array = 2.0 * (np.sqrt(count + 0.375) - np.sqrt(expected + 0.375))
    return found


def _nothing() -> Array:
    return np.zeros(0)


@dataclass(slots=True)
class RateFilter:
    """The estimates of some rates.

    Attributes:
        value: (rates,): events a second.
        seconds: (rates,): time that has been averaged.
        at: (rates,): when each was last counted.
        drift: (rates,): sum of standardised differences of one sign: a slow change that no
            single count shows (cumulative sums; Page 1954).
        run: (2, rates): events counted since that sum began, and the seconds that took.
        scatter: (2, rates): squared standardised differences remembered, and how many they are.
    """

    value: Array = field(default_factory=_nothing)
    seconds: Array = field(default_factory=_nothing)
    at: Array = field(default_factory=_nothing)
    drift: Array = field(default_factory=_nothing)
    run: Array = field(default_factory=lambda: np.zeros((2, 0)))
    scatter: Array = field(default_factory=lambda: np.zeros((2, 0)))

    def extend(self, value: Array, seconds: Array, at: Array, drift: Array | None = None) -> None:
        """Add rates, each as *seconds* until *at* have shown it."""
        more = np.zeros((2, len(value)))
        self.value = np.append(self.value, value)
        self.seconds = np.append(self.seconds, seconds)
        self.at = np.append(self.at, at)
        self.drift = np.append(self.drift, more[0] if drift is None else drift)
        self.run = np.concatenate([self.run, more], axis=1)
        self.scatter = np.concatenate([self.scatter, more], axis=1)

    def keep(self, places: Indices) -> None:
        """Keep only the rates at *places*, in this order."""
        self.value, self.seconds, self.at, self.drift = (
            each[places] for each in (self.value, self.seconds, self.at, self.drift)
        )
        self.run, self.scatter = self.run[:, places], self.scatter[:, places]

    def follow(self, own: Indices, value: Array, at: Array) -> None:
        """Move the rates *own* towards *value*, as counted from when each last was until *at*."""
        span = np.minimum(at - self.at[own], CALM)
        before, seconds = self.value[own], self.seconds[own]
        least = np.maximum(before, 1.0 / np.maximum(seconds, span))
        # The estimate is itself only known to what was counted in its time.
        chance = difference(value * span, least * span) / np.sqrt(1.0 + span / seconds)
        last = self.drift[own]
        drift = last + chance / np.sqrt(self._scatter(own))
        drift = np.copysign(np.maximum(np.abs(drift) - 0.5, 0.0), drift)
        same = (last * drift > 0) & (np.abs(last) > _BEGUN)
        run = np.where(same, self.run[:, own], 0.0) + np.array([value * span, span])
        # The rate is another one now: all that is known of it came since the drift began, but for
        # as much as makes the step not overshoot.
        changed = np.abs(drift) > SURPRISE + 1.5 + math.log(max(len(self.value) / FEW, 1.0))
        kept = 0.5 * span
        renewed = (run[0] + before * kept) / (run[1] + kept)
        calm = np.minimum(seconds + span, CALM)
        self.drift[own] = np.where(changed, 0.0, drift)
        self.run[:, own] = run
        self.seconds[own] = np.where(changed, np.minimum(run[1] + kept, CALM), calm)
        followed = before + (value - before) * np.minimum(1.0, span / calm)
        self.value[own] = np.where(changed, renewed, followed)
        self.at[own] = at
        square = np.minimum(chance**2, _OUTLIER)
        judged = own[~changed]
        fresh = np.array([square, np.ones(len(own))])[:, ~changed]
        self.scatter[:, judged] = (1.0 - 1.0 / _MEMORY) * self.scatter[:, judged] + fresh

    def _scatter(self, own: Indices) -> Array:
        """Return the variance of the counts of *own* over that of Poisson counts, at least 1."""
        total, number = self.scatter
        common = (total.sum() + _COMMON) / (number.sum() + _COMMON)
        found: Array = (total[own] + _COMMON * common) / (number[own] + _COMMON)
        return np.clip(found, 1.0, _MOST_SCATTER)
