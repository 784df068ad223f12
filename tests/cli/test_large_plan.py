"""``cats plan`` of a large fleet: one screen, then what is asked for."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import pytest
from click.testing import CliRunner

from controlplane.cli import cats
from testbed.fakes.large_fleets import make_crowd

MOST = 4.0
"""Processor time of a plan over that of a check of the same file, which is 2.3 to 2.6. A plan takes
1.3 s on a quiet machine; seconds alone would say how busy it is."""
RUNS = 3
"""Runs of each, of which the least counts: what else runs can only add to it."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a file with 50 sites, 500 instances and 20 services."""
    path = tmp_path_factory.mktemp("large") / "fleet.yaml"
    path.write_text(make_crowd(sites=50, instances=500, services=20), encoding="utf-8")
    return str(path)


def plan(*arguments: str) -> list[str]:
    """Return the lines that ``cats plan`` prints at 80 columns."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(cats, ["plan", *arguments], prog_name="cats")
    assert 0 == result.exit_code, result.output
    return result.stdout.splitlines()


def ran(*arguments: str) -> tuple[list[str], float]:
    """Return the lines that a command prints at 80 columns, and its processor time in seconds."""
    runs = [ran_once(*arguments) for _ in range(RUNS)]
    return runs[0][0], min(used for _, used in runs)


def ran_once(*arguments: str) -> tuple[list[str], float]:
    """Run a command once."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, "-m", "controlplane", *arguments],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        check=True,
        text=True,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return done.stdout.splitlines(), used


def test_a_large_plan_fits_one_screen(fleet: str) -> None:
    """A line a service, at most 24 rows and 80 columns, in a few times what a check takes."""
    lines, used = ran("plan", "-c", fleet)
    _, checked = ran("check", fleet)

    assert 24 >= len(lines)
    assert 80 >= max(map(len, lines))
    assert lines[0].split()[:6] == ["service", "policy", "sites", "req/s", "ms", "instances"]
    assert used < MOST * checked
    assert not any(re.search(r"\de[+-]\d", line) for line in lines)


def test_a_filter_shows_the_pairs_and_two_show_one_in_full(fleet: str) -> None:
    """By service: a line a client site; by both: every instance, the excluded by reason."""
    service, site = "service-03", "edge-13"

    pairs = plan("-c", fleet, "--service", service)
    pair = plan("-c", fleet, "--service", service, "--from", site)

    assert 50 == sum(line.startswith(service) for line in pairs)
    assert pair[0].startswith(f"{service} from {site}: ")
    assert any(" ms = " in line for line in pair)
    assert any(re.search(r"no requests for \d+: ", line) for line in pair)
    assert 40 > len(pair)


def test_an_instance_is_shown_with_all_that_send_to_it(fleet: str) -> None:
    """Each line is a pair that sends to it or falls back to it."""
    name = re.search(r"\S+-\d+(?= \d+%)", " ".join(plan("-c", fleet)))
    assert name is not None

    lines = plan("-c", fleet, "--instance", name[0])

    pairs = [line for line in lines[1:] if line.startswith("service-")]
    assert pairs
    assert all(name[0] in line or "fallback only" in line for line in pairs)


def test_a_filter_that_names_nothing_is_an_error(fleet: str) -> None:
    """With the nearest name."""
    result = CliRunner().invoke(cats, ["plan", "-c", fleet, "--from", "edge-1x"])

    assert 2 == result.exit_code
    assert "did you mean" in result.stderr
