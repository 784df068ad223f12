"""Prices of the coming period from the state of every instance."""

import numpy as np
import pytest

from controlplane.steering.knots import KNOTS
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.transient import price_period


def prices(number: list[float], *, period: float, age: float = 0.0, slots: float = 1.0) -> Array:
    """Return the price at half of capacity for instances that hold *number* requests."""
    size = len(number)
    curves = Curves(np.full(size, slots), np.zeros(size))
    half = 0.5 * curves.capacity
    table = price_period(
        curves,
        number=np.array(number),
        age=np.full(size, age),
        inflow=half,
        planned=half,
        pace=np.ones(size),
        period=period,
    )
    price: Array = table.evaluate(half)[1]
    return price


def test_a_moment_ahead_the_price_is_that_of_one_step_of_policy_improvement() -> None:
    """For M/M/1 it is (n + 1) / (mu - lambda), exactly."""
    assert pytest.approx([2.0, 4.0, 12.0], rel=0.02) == list(prices([0, 1, 5], period=1e-3))


def test_in_the_long_run_the_price_is_the_stationary_one() -> None:
    """After many service times nothing is left of where an instance stood."""
    curves = Curves(np.ones(3), np.zeros(3))
    stationary = PriceTable.stationary(curves).evaluate(np.full(3, 0.5))[1]

    assert pytest.approx(list(stationary), rel=0.05) == list(prices([0, 1, 5], period=2000.0))


def test_a_fuller_instance_costs_more_and_old_news_less_so() -> None:
    """Prices rise with what is inside, and differ less the older that is."""
    fresh, old = prices([0, 3, 9], period=1.0), prices([0, 3, 9], period=1.0, age=20.0)

    assert list(fresh) == sorted(fresh)
    assert old[2] - old[0] < 0.3 * (fresh[2] - fresh[0])


def test_an_unknown_state_is_taken_to_be_the_usual_one() -> None:
    """Without a gauge the price is that of the mean number."""
    assert pytest.approx(prices([1.0], period=1.0)[0], rel=0.02) == prices([np.nan], period=1.0)[0]


@pytest.mark.parametrize("number", [0.0, 10.0, 1e4])
@pytest.mark.parametrize("period", [0.01, 1.0, 60.0])
def test_prices_are_finite_and_rise_with_load(number: float, period: float) -> None:
    """Whatever the state, the problem stays convex and finite."""
    curves = Curves(np.array([4.0]), np.array([0.1]))
    table = price_period(
        curves,
        number=np.array([number]),
        age=np.array([1.0]),
        inflow=2.0 * curves.capacity,
        planned=1.5 * curves.capacity,
        pace=np.array([0.5]),
        period=period,
    )

    assert (1, len(KNOTS)) == table.price.shape
    assert np.isfinite(table.value).all()
    assert (np.diff(table.price) >= 0).all()
