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


@pytest.mark.parametrize("rate", [0.3, 1.0, 5.0])
def test_the_rates_of_many_small_clients_stand_still(rate: float) -> None:
    """Of fifty clients one always has a lucky second; its rate is not another one for it."""
    demand = DemandFilter()
    pairs = [(f"site-{number}", "chat") for number in range(50)]
    source = np.random.default_rng(5)
    worst = []
    for second in range(300):
        at = float(second)
        counts = source.poisson(rate, len(pairs))
        demand.observe(
            {
                pair: Reading(float(count), Source.ENVOY, at)
                for pair, count in zip(pairs, counts, strict=True)
            },
            now=at,
        )
        if second >= 60:
            worst.append(np.abs(demand.value - rate).max())

    # Counts of 20 s have an error of sqrt(rate / 20), averages that fade a smaller one.
    assert np.mean(worst) < 3.0 * np.sqrt(rate / 20.0)


def test_what_is_always_uneven_is_averaged() -> None:
    """Counts that scatter three times as much as chance would are no change each time."""
    demand = DemandFilter()
    counts = np.random.default_rng(7).negative_binomial(10, 1 / 3, 600).astype(float)
    found = [feed(demand, [count], start=float(second)) for second, count in enumerate(counts)]

    error = np.sqrt(np.mean((np.array(found[60:]) - 20.0) ** 2))
    # Averages over 20 s of what varies by 60: sqrt(60 / 39) at best.
    assert error < 1.5 * np.sqrt(60.0 / 39.0)


@pytest.mark.parametrize(("before", "after"), [(0.3, 6.0), (5.0, 30.0), (30.0, 4.0)])
def test_what_uneven_clients_change_is_followed(before: float, after: float) -> None:
    """However uneven counts are, a rate of several times as much is noticed within seconds."""
    demand = DemandFilter()
    even = np.random.default_rng(11).poisson(before, 90) * np.tile([0.5, 1.5], 45)
    feed(demand, [float(count) for count in even])

    found = feed(demand, [after] * 5, start=90.0)

    assert abs(found - after) < 0.25 * abs(after - before)


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
