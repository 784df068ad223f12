"""The short form of the suite's random fleets: a dozen that no one chose, with the seed fixed."""

from __future__ import annotations

import pytest

from controlplane.sim.random_load import SHORT
from controlplane.sim.random_suite import FleetResult, Target, quantile, run_random_fleet

SEED = 20261128
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def results() -> list[FleetResult]:
    """Run a dozen fleets."""
    return [run_random_fleet(SEED, number, scale=SHORT) for number in range(12)]


@pytest.mark.parametrize(
    "target",
    [
        Target("mean", "oracle", 0.5, 1.5),
        Target("p99", "oracle", 0.5, 1.6),
        Target("mean", "capacity", 0.5, 1.15),
        Target("p99", "capacity", 0.5, 1.15),
    ],
    ids=lambda target: target.name,
)
def test_steering_stays_near_the_yardsticks(results: list[FleetResult], target: Target) -> None:
    """Wider than the suite's limits: short runs hold the cold start, and few requests."""
    assert quantile(results, target) <= target.limit


def test_nothing_fails_that_need_not(results: list[FleetResult]) -> None:
    """Every fleet can be served, also while instances are dead."""
    for result in results:
        ours, oracle = (result.figures[name].failed for name in ("controlplane", "oracle"))

        assert ours <= oracle + 0.01, result.traits
