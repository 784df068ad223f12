"""How a promise of steering is measured: cases, over seeds, against limits.

Each case runs the same trials under the control plane and under what it is compared with, and
gives one or more lines of a measured value against a limit; a value is the median over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from controlplane.sim.results import Outcome
from controlplane.sim.run import run_trial
from controlplane.sim.trial import Trial

Runs = Mapping[str, Outcome]
"""Policy -> outcome, of one seed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One promise and what became of it."""

    name: str
    measured: float
    limit: float
    unit: str = ""
    """What is measured: ``x`` for a ratio, ``s``, ``ms`` ..."""

    @property
    def passed(self) -> bool:
        """Return whether the promise is kept; what could not be measured is not."""
        return self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Measure:
    """How one line comes from the runs of one seed."""

    name: str
    limit: float
    of: Callable[[Runs], float]
    unit: str = "x"


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated, the policies that it needs, and what is measured."""

    name: str
    trial: Callable[[int, bool], Trial]
    """Returns the trial of a seed; if the flag is set, a shorter form for ``--quick``."""
    policies: tuple[str, ...]
    measures: tuple[Measure, ...]
    most_seeds: int = 10
    """Long cases need fewer."""
    fresh: bool = False
    """Whether its seeds are those of the run, different each time, instead of 1, 2, 3 ..."""
    worlds: Mapping[str, Callable[[Trial], Trial]] = field(default_factory=dict)
    """Name -> the same requests in another world, for policies that end in ``@NAME``."""


def run_case(case: Case, seed: int, *, quick: bool, clock: Callable[[], float]) -> list[float]:
    """Run one seed of a case; return one value for each of its measures."""
    trial = case.trial(seed, quick)
    runs = {}
    for name in case.policies:
        policy, _, world = name.partition("@")
        met = case.worlds[world](trial) if world else trial
        runs[name] = run_trial(met, policy, seed=seed, clock=clock)
    return [measure.of(runs) for measure in case.measures]


def judge(case: Case, values: Sequence[Sequence[float]]) -> list[Line]:
    """Return the lines of a case from the values of all its seeds."""
    return [
        Line(f"{case.name}: {measure.name}", median(column), measure.limit, measure.unit)
        for measure, column in zip(case.measures, zip(*values, strict=True), strict=True)
    ]


def ratio(window: str, figure: str, other: str) -> Callable[[Runs], float]:
    """Return the control plane's *figure* over that of *other*."""

    def of(runs: Runs) -> float:
        ours: float = getattr(runs["controlplane"].windows[window], figure)
        theirs: float = getattr(runs[other].windows[window], figure)
        return ours / theirs

    return of


def value(window: str, figure: str) -> Callable[[Runs], float]:
    """Return the control plane's *figure* in a window."""

    def of(runs: Runs) -> float:
        found: float = getattr(runs["controlplane"].windows[window], figure)
        return found

    return of


def against(window: str, other: str, mean: float, p99: float) -> tuple[Measure, ...]:
    """Return the limits of mean and 99th percentile over those of *other*."""
    return (
        Measure(f"mean {window} / {other}", mean, ratio(window, "mean", other)),
        Measure(f"p99 {window} / {other}", p99, ratio(window, "p99", other)),
    )
