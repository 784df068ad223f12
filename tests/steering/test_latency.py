"""The curve of the time inside an instance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.steering.knots import KNOTS
from controlplane.steering.latency import Array, Curves, Levels, PriceTable

slots = st.floats(0.05, 512)
slowdowns = st.floats(0.0, 0.6)


def chain(work: float, slots: int, slowdown: float) -> float:
    """Return the exact mean number inside: a birth-death chain, summed to 4,000 requests."""
    number = np.arange(1, 4000)
    busy = np.minimum(number, slots)
    rate = busy / (1 + slowdown * (busy - 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(work / rate))])
    odds = np.exp(logs - logs.max())
    return float((odds * np.arange(4000)).sum() / odds.sum())


def one(slots: float, slowdown: float) -> Curves:
    """Make the curve of one instance."""
    return Curves(np.array([slots]), np.array([slowdown]))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9, 0.949])
@pytest.mark.parametrize(
    ("slots", "slowdown"),
    [(1, 0.0), (4, 0.0), (16, 0.0), (8, 0.05), (8, 0.2), (16, 0.1), (32, 0.2), (64, 0.03)],
)
def test_number_inside_is_within_three_per_cent_of_the_exact_chain(
    slots: int, slowdown: float, load: float
) -> None:
    """Both shapes of engine agree with birth-death chains."""
    curve = one(slots, slowdown)
    work = load * curve.capacity

    assert pytest.approx(chain(float(work[0]), slots, slowdown), rel=0.03) == curve.number(work)[0]


@given(slots, slowdowns)
def test_number_and_price_rise_and_stay_finite(slots: float, slowdown: float) -> None:
    """The curve is increasing, convex and finite from idle to ten times capacity."""
    curve = one(slots, slowdown)
    work = np.linspace(0, 10, 400) * curve.capacity
    number, price = curve.number(work), curve.marginal(work)

    assert np.isfinite(number).all()
    assert (np.diff(number) > 0).all()
    assert (np.diff(price) > -1e-9 * price[1:]).all()


@given(slots, slowdowns, st.floats(0.01, 2.0))
def test_price_is_the_slope_of_the_number(slots: float, slowdown: float, load: float) -> None:
    """Marginal cost is the derivative of the cost."""
    curve = one(slots, slowdown)
    step = 1e-5 * curve.capacity
    work = load * curve.capacity
    slope = (curve.number(work + step) - curve.number(work - step)) / (2 * step)

    assert pytest.approx(slope[0], rel=1e-3) == curve.marginal(work)[0]


@given(slots, slowdowns, st.floats(0.0, 0.98))
def test_level_undoes_number(slots: float, slowdown: float, load: float) -> None:
    """The load that a number inside stands for is the load that gives that number."""
    curve = one(slots, slowdown)
    work: Array = load * curve.capacity
    number = curve.pole_number(work)

    found = Levels.of(curve).load(number[:, None])[0]

    assert pytest.approx(work[0], abs=2e-3 * curve.capacity[0]) == found[0]


@given(slots, slowdowns, st.floats(0.0, 20.0))
def test_table_follows_the_curve(slots: float, slowdown: float, load: float) -> None:
    """Prices and costs from the table are those of the curve, beyond its end too."""
    curve = one(slots, slowdown)
    work: Array = load * curve.capacity
    cost, price, _ = PriceTable.stationary(curve).evaluate(work)

    assert pytest.approx(curve.number(work)[0], rel=0.02) == cost[0]
    assert pytest.approx(curve.marginal(work)[0], rel=0.1) == price[0]


def test_table_is_made_increasing() -> None:
    """A price that falls somewhere is lifted, so that the problem stays convex."""
    price = np.ones((1, len(KNOTS)))
    price[0, 5] = 3.0

    assert (np.diff(PriceTable.of(np.array([4.0]), price).price[0]) >= 0).all()


def test_a_table_of_numbers_is_inverted_as_each_alone() -> None:
    """Many numbers of an instance are looked up together, and mean the loads that each does."""
    curves = Curves(np.array([1.0, 8.0, 64.0]), np.array([0.0, 0.05, 0.2]))
    levels = Levels.of(curves)
    numbers = np.tile(np.array([0.0, 0.3, 1.0, 7.5, 80.0, 1e6]), (3, 1))
    alone = [levels.load(numbers[:, [column]])[:, 0] for column in range(numbers.shape[1])]

    np.testing.assert_array_equal(np.stack(alone, axis=1), levels.load(numbers))


def test_a_price_alone_is_the_price_of_the_whole() -> None:
    """At, between and beyond the knots."""
    curves = Curves(np.array([1.0, 8.0, 64.0]), np.array([0.0, 0.05, 0.2]))
    prices = PriceTable.stationary(curves)
    for share in (0.0, 0.33, 0.8, 1.07, 25.0):
        work = share * curves.capacity
        np.testing.assert_array_equal(prices.evaluate(work)[1], prices.prices(work))
