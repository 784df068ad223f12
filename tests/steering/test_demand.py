"""Demand: calm where it is steady, quick where it changes."""

import numpy as np
import pytest

from controlplane.model import Reading, Source
from controlplane.steering.demand import DemandFilter

PAIR = ("near", "chat")


def feed(demand: DemandFilter, rates: list[float], start: float = 0.0) -> float:
    """Count one second after the other; give the estimate."""
    for second, rate in enumerate(rates):
        at = start + second
        demand.observe({PAIR: Reading(rate, Source.ENVOY, at)}, now=at)
    filled = demand.fill(("chat",), ("near",), clients={}, completions=0.0, capacity=0.0)
    return float(filled[0, 0])


def poisson(mean: float, seconds: int) -> list[float]:
    """Draw counts."""
    return [float(n) for n in np.random.default_rng(3).poisson(mean, seconds)]


def test_noise_is_averaged() -> None:
    """After a minute the estimate is much nearer than a count."""
    assert pytest.approx(20.0, rel=0.1) == feed(DemandFilter(), poisson(20, 60))


@pytest.mark.parametrize("after", [5.0, 80.0])
def test_a_step_is_followed_within_three_seconds(after: float) -> None:
    """What chance does not explain is believed at once."""
    demand = DemandFilter()
    feed(demand, poisson(20, 60))

    found = feed(demand, [after] * 3, start=60.0)

    assert abs(found - after) < 0.2 * abs(after - 20.0)


def test_the_same_reading_counts_once() -> None:
    """A view that is older than the report does not add evidence."""
    demand = DemandFilter()
    for now in range(10):
        demand.observe({PAIR: Reading(10.0, Source.ENVOY, 0.0)}, now=float(now))

    assert 10.0 == feed(demand, [])


@pytest.mark.parametrize(
    ("completions", "clients", "expected"),
    [
        pytest.param(12.0, {"near": 3, "far": 1}, [9.0, 3.0], id="completions by Envoys"),
        pytest.param(12.0, {}, [6.0, 6.0], id="completions evenly"),
        pytest.param(0.0, {}, [20.0, 20.0], id="half of the capacity"),
    ],
)
def test_without_readings_something_sensible_is_assumed(
    completions: float, clients: dict[str, int], expected: list[float]
) -> None:
    """What instances complete, else half of what they are believed to sustain."""
    filled = DemandFilter().fill(
        ("chat",), ("near", "far"), clients=clients, completions=completions, capacity=80.0
    )

    assert pytest.approx(expected) == list(filled[0])
