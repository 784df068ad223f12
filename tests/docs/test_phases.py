"""The table of phases is complete and states the figures of the code."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from controlplane.config import OutlierDetection
from controlplane.fleet import Outcomes, Phase, sources, trials
from controlplane.fleet.instances import ANSWERS_FRESH, MIN_RAMP
from controlplane.fleet.trust import FLOOR, RECOVERY, REFUTED
from controlplane.steering import failures, probing

PAGE = (Path(__file__).parents[2] / "docs" / "phases.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## How attempts end")[0].splitlines()
    if line.startswith("|") and not line.startswith("|---")
]


def test_every_phase_has_a_row_with_its_way_back() -> None:
    """No phase without an end that is written down."""
    phases = {row[0].strip("`"): row for row in ROWS if row[0].startswith("`")}

    assert {phase.value for phase in Phase} == set(phases)
    for phase, row in phases.items():
        assert phase == "live" or all(row), row


def test_the_figures_are_those_of_the_code() -> None:
    """Tests in tests/fleet/test_way_back.py hold the code to them."""
    waits = [trials.FIRST_WAIT * 2**n for n in range(5)]

    assert (
        f"a trial after {waits[0]:.0f} s, then after {waits[1]:.0f}, {waits[2]:.0f}, "
        f"{waits[3]:.0f} and every {waits[4]:.0f} s"
    ) in PAGE
    assert trials.LONGEST_WAIT == waits[4]
    assert f"a report, or {trials.TRIAL:.0f} s" in PAGE
    assert f"no Envoy got an answer for {ANSWERS_FRESH:.0f} s" in PAGE
    assert f"stand still for {sources.ANSWERED_AFTER:.0f} s while" in PAGE
    assert f"stands still for {sources.STUCK_AFTER:.0f} s and" in PAGE
    assert (5, 60.0, 0.1, 0.1, 100.0) == (
        sources.PROBATION,
        sources.TURNS_OVER,
        MIN_RAMP,
        FLOOR,
        REFUTED,
    )
    assert f"within about {3 * RECOVERY:.0f} s" in PAGE


def test_the_figures_of_failing_instances_are_those_of_the_code() -> None:
    """Tests in tests/steering/test_failures.py and test_probing.py hold the code to them."""
    outliers = OutlierDetection()

    assert f"| {probing.FAILING_TRICKLE:g} requests a second" in PAGE
    assert f"| {probing.TRICKLE:g} requests a second (a probe)" in PAGE
    assert f"{failures.LONGEST_DOUBT:.0f} s after the last attempt" in PAGE
    assert outliers.consecutive_errors == 3
    assert f"| {outliers.ejection_time:.0f} s, then {outliers.max_ejection_time:.0f} s |" in PAGE


def test_every_outcome_is_explained() -> None:
    """Each field that the API and the metrics show."""
    for field in fields(Outcomes):
        assert f"| `{field.name}` |" in PAGE
