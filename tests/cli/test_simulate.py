"""``cats simulate`` says figures, and a user's mistake in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from controlplane.cli import cats

SHORT = "name: short\nduration: 4s\npolicies: [capacity, controlplane]\n"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Return the file of a short scenario."""
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    return path


def test_a_table_has_a_row_for_each_policy(scenario: Path) -> None:
    """With the latencies under their heads."""
    result = CliRunner().invoke(cats, ["simulate", str(scenario)])

    assert 0 == result.exit_code, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert {"capacity", "controlplane"} <= {row[0] for row in rows if row}
    assert "p99" in rows[1]


def test_long_names_stay_apart_from_what_follows(scenario: Path) -> None:
    """The variants of the control plane have the longest; a table is read by columns."""
    names = ("controlplane:sessionless", "least_request")
    chosen = [part for name in names for part in ("--policy", name)]
    result = CliRunner().invoke(cats, ["simulate", str(scenario), *chosen])

    rows = [line.split() for line in result.stdout.splitlines() if line.startswith(names)]
    assert {*names} == {row[0] for row in rows}
    assert {len(result.stdout.splitlines()[1].split())} == {len(row) for row in rows}


def test_json_carries_figures_shares_and_load(scenario: Path) -> None:
    """The policy asked for replaces the scenario's."""
    arguments = ["simulate", str(scenario), "--policy", "oracle", "--seed", "3", "--json"]
    result = CliRunner().invoke(cats, arguments)

    (outcome,) = json.loads(result.stdout)
    assert ("oracle", 3) == (outcome["policy"], outcome["seed"])
    assert outcome["windows"]["all"]["requests"] > 100
    assert 4 == len(outcome["shares"]["cloud"]) == len(outcome["load"]["cloud"])


def test_a_seed_says_the_same_in_every_process(tmp_path: Path) -> None:
    """With noise too, though the order of a set of names changes with each process."""
    scenario = tmp_path / "noisy.yaml"
    scenario.write_text(
        "name: noisy\nduration: 8s\ntelemetry: {noise: 20%}\npolicies: [controlplane]\n"
    )
    command = [sys.executable, "-m", "controlplane", "simulate", str(scenario), "--json"]
    outcomes = []
    for order in ("1", "2"):
        ran = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": order}, capture_output=True, check=True
        )
        (outcome,) = json.loads(ran.stdout)
        outcomes.append((outcome["windows"], outcome["shares"], outcome["load"]))

    assert outcomes[0] == outcomes[1]


def test_a_plot_is_written_where_asked(scenario: Path, tmp_path: Path) -> None:
    """As SVG."""
    target = tmp_path / "p.svg"
    result = CliRunner().invoke(
        cats, ["simulate", str(scenario), "--policy", "capacity", "--plot", str(target)]
    )

    assert 0 == result.exit_code, result.output
    assert target.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "--suite", id="nothing asked"),
        pytest.param(["FILE", "--policy", "best"], "prequal", id="unknown policy"),
        pytest.param(["FILE", "--plot", "p.png"], ".svg", id="no svg"),
        pytest.param(["FILE", "--suite"], "leave the file out", id="suite with file"),
        pytest.param(["--suite", "--only", "xyz"], "queue 0.8", id="no such case"),
        pytest.param(["--suite", "--fleet", "3"], "--seed", id="a fleet of no seed"),
        pytest.param(
            ["--suite", "--only", "queue 0.8", "--seed", "1", "--fleet", "3"],
            "draws no fleets; random and small do",
            id="a fleet of a case that draws none",
        ),
        pytest.param(["FILE", "--fleet", "3"], "--suite", id="a fleet of a file"),
    ],
)
def test_a_mistake_ends_with_status_2_and_a_remedy(
    scenario: Path, arguments: list[str], words: str
) -> None:
    """And without a traceback."""
    given = [str(scenario) if item == "FILE" else item for item in arguments]
    result = CliRunner().invoke(cats, ["simulate", *given])

    assert 2 == result.exit_code
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_fault_in_the_scenario_is_reported_with_its_line(tmp_path: Path) -> None:
    """Also one that shows only against the fleet."""
    path = tmp_path / "s.yaml"
    path.write_text("name: x\nduration: 5\n")
    read = CliRunner().invoke(cats, ["simulate", str(path)])
    path.write_text("events: [{what: death, at: 1s, instances: [no one]}]\n")
    fitted = CliRunner().invoke(cats, ["simulate", str(path)])

    assert (2, 2) == (read.exit_code, fitted.exit_code)
    assert f"{path}:2:11: duration" in read.output
    assert "no one" in fitted.output


def test_the_suite_lists_its_cases() -> None:
    """One a line, random fleets among them."""
    result = CliRunner().invoke(cats, ["simulate", "--suite", "--list"])

    assert {"random", "small", "queue 0.8", "300 instances at 0.9", "sparse"} <= set(
        result.stdout.splitlines()
    )


def test_a_random_fleet_can_be_run_by_itself() -> None:
    """Twice the same figures; what it is like goes to standard error."""
    arguments = ["simulate", "--suite", "--seed", "1", "--fleet", "5", "--policy", "capacity"]
    first, second = (CliRunner().invoke(cats, arguments) for _ in range(2))

    assert first.stdout == second.stdout
    assert "capacity" in first.stdout
    assert "load" in first.stderr


def test_a_small_fleet_can_be_run_by_itself() -> None:
    """The case that draws it is the one named: at most 16 instances."""
    found = {}
    for case in ("random", "small"):
        arguments = ["simulate", "--suite", "--only", case, "--seed", "1", "--fleet", "8"]
        result = CliRunner().invoke(cats, [*arguments, "--policy", "capacity"])
        found[case] = int(result.stderr.split(" instances")[0].split(", ")[-1].split()[0])

    assert found["small"] <= 16 < found["random"]


def test_the_suite_prints_the_seed_that_repeats_it() -> None:
    """Every line ends in a verdict; the worst fleets come with their command."""
    arguments = ["simulate", "--suite", "--only", "random", "--fleets", "1", "--jobs", "1"]
    result = CliRunner().invoke(cats, [*arguments, "--seed", "77"])

    assert "--seed 77" in result.stdout.splitlines()[0]
    assert "cats simulate --suite --only random --seed 77 --fleet 0" in result.stdout
    assert "pushes a minute: median" in result.stdout
    lines = [line for line in result.stdout.splitlines() if "target" in line]
    assert lines
    assert all(line.endswith(("pass", "short")) for line in lines)
