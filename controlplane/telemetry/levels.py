"""Metric levels of CATS: L0 raw values, L1 a score per category, L2 one score.

They are the view that other systems can read without knowing ours; steering itself works on
continuous seconds, since ten steps are too coarse for weights.
A score is an integer from 0 to 10, 10 best: 0-3 not recommended, 4-7 optional, 8-10 preferred.
Min-max normalisation with fixed bounds over a window of time, both stated with the scores
(draft-ietf-cats-metric-definition).
Knows numbers only: where they come from is `controlplane.fleet.levels`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import floor, fsum

WINDOW = 10.0
"""Seconds over which raw values are averaged."""
BEST = 10


class Category(StrEnum):
    """What a raw metric says of."""

    COMPUTING = "computing"
    COMMUNICATION = "communication"
    SERVICE = "service"
    COMPOSED = "composed"
    """Computing and communication in one: what a client waits."""


class Advice(StrEnum):
    """What a score means to who chooses."""

    NOT_RECOMMENDED = "not recommended"
    OPTIONAL = "optional"
    PREFERRED = "preferred"


@dataclass(frozen=True, slots=True)
class Metric:
    """One raw metric, and how it is normalised."""

    name: str
    category: Category
    unit: str
    worst: float
    """Value that scores 0, and everything beyond it."""
    best: float
    """Value that scores 10."""

    def normalise(self, value: float) -> float:
        """Return 0 (worst) to 1 (best)."""
        return min(1.0, max(0.0, (value - self.worst) / (self.best - self.worst)))


METRICS: tuple[Metric, ...] = (
    Metric("utilisation", Category.COMPUTING, "share", worst=1.0, best=0.0),
    Metric("kv_use", Category.COMPUTING, "share", worst=1.0, best=0.0),
    Metric("load", Category.COMPUTING, "requests per slot", worst=2.0, best=0.0),
    Metric("training", Category.COMPUTING, "share", worst=1.0, best=0.0),
    Metric("rtt", Category.COMMUNICATION, "s", worst=0.2, best=0.0),
    Metric("bandwidth", Category.COMMUNICATION, "B/s", worst=0.0, best=125e6),
    Metric("latency", Category.SERVICE, "s", worst=10.0, best=0.0),
    Metric("ttft", Category.SERVICE, "s", worst=2.0, best=0.0),
    Metric("failures", Category.SERVICE, "share", worst=0.1, best=0.0),
    Metric("delay", Category.COMPOSED, "s", worst=10.0, best=0.0),
)
"""Every raw metric that is scored. Bounds that a service's objectives would tighten are not taken
from them, so that scores of different services can be compared."""
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Levels:
    """All levels of one instance."""

    l0: Mapping[str, float] = field(default_factory=dict)
    """Metric -> mean over the window."""
    l1: Mapping[Category, int] = field(default_factory=dict)
    """Categories of which something is known."""
    l2: int | None = None
    """None where nothing is known."""

    @property
    def advice(self) -> Advice | None:
        """Return the recommendation that goes with *l2*."""
        return None if self.l2 is None else advise(self.l2)


def advise(score: int) -> Advice:
    """Return what *score* means."""
    if score <= 3:
        return Advice.NOT_RECOMMENDED
    return Advice.OPTIONAL if score <= 7 else Advice.PREFERRED


def to_score(normalised: float) -> int:
    """Round 0..1 to 0..10, halves up."""
    return floor(normalised * BEST + 0.5)


def grade(samples: Iterable[Mapping[str, float]]) -> Levels:
    """Grade an instance by raw values at several instants of one window.

    A category is the mean of its metrics, L2 the mean of its categories, each before rounding.
    """
    sums: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            if name in BY_NAME:
                sums.setdefault(name, []).append(value)
    raw = {metric.name: fsum(sums[metric.name]) / len(sums[metric.name])
           for metric in METRICS if metric.name in sums}  # fmt: skip
    parts: dict[Category, list[float]] = {}
    for name, value in raw.items():
        metric = BY_NAME[name]
        parts.setdefault(metric.category, []).append(metric.normalise(value))
    means = {category: fsum(values) / len(values) for category, values in parts.items()}
    return Levels(
        l0=raw,
        l1={category: to_score(means[category]) for category in Category if category in means},
        l2=to_score(fsum(means.values()) / len(means)) if means else None,
    )
