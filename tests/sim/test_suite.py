"""The suite measures what its cases say, and judges by the median."""

from __future__ import annotations

import pytest

from controlplane.sim.results import Figures, Outcome
from controlplane.sim.suite import CASES, Case, Measure, judge, run_case


def outcome(policy: str, mean: float) -> Outcome:
    """Make an outcome with figures of its own."""
    figures = Figures(10, mean, mean, mean, 2 * mean, 0.0, 1.0)
    return Outcome(policy, 1, {"steady": figures, "after": figures}, {}, ())


def test_a_line_is_the_median_over_the_seeds_against_its_limit() -> None:
    """One bad seed in three does not make it short; two do."""
    case = Case("c", CASES[0].scenario, (), (Measure("m", 1.0, lambda _: 0.0),))

    (kept,) = judge(case, [[0.9], [5.0], [1.0]])
    (broken,) = judge(case, [[1.1], [5.0], [0.5]])

    assert (True, 1.0, "c: m") == (kept.passed, kept.measured, kept.name)
    assert not broken.passed


def test_what_cannot_be_measured_is_not_passed() -> None:
    """A missing number is a broken promise."""
    case = Case("c", CASES[0].scenario, (), (Measure("m", 1.0, lambda _: 0.0),))

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
    short = Case(
        case.name,
        case.scenario.model_copy(update={"duration": 100.0}),
        case.policies,
        case.measures,
    )

    (ratio,) = run_case(short, 1, quick=False, clock=lambda: 0.0)

    assert 0 < ratio < 10
