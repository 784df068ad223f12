"""The promise on fleets that no one has seen: many random fleets, and the distribution of ratios.

Ratios are of the control plane's figures to those of the per-request oracle and of fixed weights by
true capacity, on the same requests; the worst fleets are named, so that each can be run by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.sim.random_fleets import SPARSE, draw_random_fleet
from controlplane.sim.random_load import FULL, SMALL, Scale
from controlplane.sim.results import Figures
from controlplane.sim.run import run_trial
from controlplane.sim.suite import Line

POLICIES = ("controlplane", "capacity", "optimum", "policy_iteration", "oracle")
"""Two have no target and say what could be had: ``optimum``, the best fixed shares for true curves
and mean demands, and ``policy_iteration``, the best decider of single requests, which also weighs
those who come later."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A case of the suite that draws its fleets."""

    title: str
    scale: Scale
    quick: int
    """Fleets of the quick suite."""
    full: int
    """Fleets of the full suite."""


DRAWS: Mapping[str, Draw] = {
    "random": Draw("random fleets", FULL, quick=40, full=200),
    "small": Draw("small fleets", SMALL, quick=8, full=80),
}
"""The cases that draw fleets, by name."""


@dataclass(frozen=True, slots=True)
class Target:
    """A limit on a statistic of one ratio over many fleets."""

    figure: str
    """``mean`` or ``p99``."""
    other: str
    """The policy that it is compared with."""
    quantile: float
    """0.5 is the median, 1 the worst fleet."""
    limit: float
    sparse: bool = False
    """Over fleets with loads below `SPARSE`, instead of those above."""

    @property
    def name(self) -> str:
        """Return it in words."""
        word = {0.5: "median", 1.0: "worst"}.get(self.quantile, f"{self.quantile:.0%}")
        kind = f", load below {SPARSE:g}" if self.sparse else ""
        return f"{self.figure} / {self.other}, {word}{kind}"


TARGETS = (
    Target("mean", "oracle", 0.5, 1.03),
    Target("mean", "oracle", 0.95, 1.15),
    Target("p99", "oracle", 0.5, 1.25),
    Target("p99", "oracle", 0.95, 1.6),
    Target("mean", "oracle", 0.5, 1.12, sparse=True),
    Target("p99", "oracle", 0.5, 1.25, sparse=True),
    Target("mean", "capacity", 1.0, 1.03),
    Target("p99", "capacity", 1.0, 1.05),
)


@dataclass(frozen=True, slots=True)
class FleetResult:
    """What every policy reached on one random fleet."""

    number: int
    load: float
    traits: tuple[str, ...]
    figures: dict[str, Figures]
    """By policy."""
    pushes_a_minute: float

    def ratio(self, figure: str, other: str) -> float:
        """Return the control plane's *figure* over that of *other*; NaN without requests."""
        return self._value("controlplane", figure) / self._value(other, figure)

    def bound(self, figure: str, policy: str = "optimum") -> float:
        """Return the *figure* of the best fixed shares (or *policy*) over that of the oracle."""
        return self._value(policy, figure) / self._value("oracle", figure)

    def _value(self, policy: str, figure: str) -> float:
        value: float = getattr(self.figures[policy], figure)
        return value

    def excess(self) -> float:
        """Return how far the fleet is beyond what 95 % of the fleets may show; above 0 is short."""
        return max(
            math.log(self.ratio(target.figure, target.other) / target.limit)
            for target in TARGETS
            if target.quantile > 0.5
        )


def run_random_fleet(
    seed: int,
    number: int,
    *,
    scale: Scale = FULL,
) -> FleetResult:
    """Run `POLICIES` on fleet *number* of *seed*."""
    fleet = draw_random_fleet(seed, number, scale=scale)
    trial = fleet.trial
    runs = {policy: run_trial(trial, policy, seed=seed) for policy in POLICIES}
    ((_, start, end),) = trial.windows
    pushes = sum(start <= at < end for at in runs["controlplane"].pushes)
    return FleetResult(
        number,
        fleet.load,
        fleet.traits,
        {policy: outcome.windows["all"] for policy, outcome in runs.items()},
        60 * pushes / (end - start),
    )


def quantile(results: Sequence[FleetResult], target: Target) -> float:
    """Return the target's statistic; NaN when no fleet counts for it.

    Fixed weights are a promise at every load.
    """
    ratios = [
        result.ratio(target.figure, target.other)
        for result in results
        if target.other == "capacity" or (result.load < SPARSE) == target.sparse
    ]
    return float(np.quantile(ratios, target.quantile)) if ratios else math.nan


def judge_fleets(
    results: Sequence[FleetResult], *, title: str = DRAWS["random"].title
) -> list[Line]:
    """Return a line for each target; targets that no fleet counts for are left out."""
    lines = [
        Line(f"{title}: {target.name}", quantile(results, target), target.limit, "x")
        for target in TARGETS
    ]
    return [line for line in lines if not math.isnan(line.measured)]


def count_pushes(results: Sequence[FleetResult]) -> tuple[float, float]:
    """Return the median and the largest number of the control plane's pushes a minute.

    They have no target here, since queues of few slots and demand that jumps call for pushes;
    the case ``calm`` holds steady fleets to one.
    """
    pushes = [result.pushes_a_minute for result in results]
    return float(np.median(pushes)), max(pushes)


def worst(results: Sequence[FleetResult], count: int = 5) -> list[FleetResult]:
    """Return the fleets that are furthest beyond their limits, worst first."""
    return sorted(results, key=lambda result: -result.excess())[:count]
