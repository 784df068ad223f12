"""The suite measures what its cases say, and judges by the median."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.sim.cases import CASES
from controlplane.sim.results import Figures, Outcome
from controlplane.sim.suite import Case, Measure, judge, run_case
from controlplane.sim.trial import Trial


def outcome(policy: str, mean: float) -> Outcome:
    """Make an outcome with figures of its own."""
    figures = Figures(10, mean, mean, mean, 2 * mean, 0.0, 1.0)
    return Outcome(policy, 1, {"steady": figures, "after": figures}, {}, ())


def test_a_line_is_the_median_over_the_seeds_against_its_limit() -> None:
    """One bad seed in three does not make it short; two do."""
    case = Case("c", CASES[0].trial, (), (Measure("m", 1.0, lambda _: 0.0),))

    (kept,) = judge(case, [[0.9], [5.0], [1.0]])
    (broken,) = judge(case, [[1.1], [5.0], [0.5]])

    assert (True, 1.0, "c: m") == (kept.passed, kept.measured, kept.name)
    assert not broken.passed


def test_what_cannot_be_measured_is_not_passed() -> None:
    """A missing number is a broken promise."""
    case = Case("c", CASES[0].trial, (), (Measure("m", 1.0, lambda _: 0.0),))

    (line,) = judge(case, [[float("nan")]])

    assert not line.passed


def test_ratios_are_of_the_control_plane_to_the_other() -> None:
    """Above 1 is worse than the other."""
    case = next(case for case in CASES if case.name == "queue 0.8")
    runs = {
        "controlplane": outcome("controlplane", 3.0),
        "oracle": outcome("oracle", 2.0),
        "capacity": outcome("capacity", 1.5),
    }
    values = {measure.name: measure.of(runs) for measure in case.measures if measure.unit == "x"}

    assert 1.5 == pytest.approx(values["mean steady / oracle"])
    assert 2.0 == pytest.approx(values["p99 after / capacity"])


def test_names_are_unique() -> None:
    """A case is found by its name."""
    assert len(CASES) == len({case.name for case in CASES})


def test_a_case_runs_and_gives_one_value_for_each_measure() -> None:
    """With a clock that does not move, decisions take no time."""
    case = next(case for case in CASES if case.name == "equal servers, T=50")

    def trial(seed: int, shorter: bool) -> Trial:
        return replace(case.trial(seed, shorter), duration=100.0)

    short = Case(case.name, trial, case.policies, case.measures)

    (ratio,) = run_case(short, 1, quick=False, clock=lambda: 0.0)

    assert 0 < ratio < 10


FRESH = [case for case in CASES if case.fresh]


@pytest.mark.parametrize("case", FRESH, ids=lambda case: case.name)
def test_fresh_cases_are_drawn_by_seed(case: Case) -> None:
    """The same again for the same seed, other fleets for another."""
    first = case.trial(1, True)

    assert first == case.trial(1, True)
    assert first.fleet != case.trial(2, True).fleet


@pytest.mark.parametrize("size", [25, 41, 100, 300])
def test_after_the_drop_the_rest_can_bear_the_load(size: int) -> None:
    """Five instances run at 35 %, and no more is asked for than what is left sustains."""
    case = next(case for case in CASES if case.name == f"{size} instances at 0.9")
    trial = case.trial(3, True)
    (event,) = trial.events
    left = [
        rate * (event.amount if item.name in event.instances else 1.0)
        for rate, item in zip(
            trial.fleet.capacities("chat"), trial.fleet.config.instances, strict=True
        )
    ]

    assert (5, 0.35, size) == (len(event.instances), event.amount, len(left))
    assert sum(stream.rate for stream in trial.fleet.streams) <= 0.9501 * sum(left)
