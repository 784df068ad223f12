"""The tail has a price: a part of the mean time of the slowest hundredth, beside the mean."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.steering.knots import KNOTS
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.tail_price import WORTH, price_tail
from controlplane.steering.tails import SPREAD

COPIES = 16
"""Of three kinds of instances."""
CURVES = Curves(
    np.tile(np.array([16.0, 16.0, 8.0]), COPIES), np.tile(np.array([0.02, 0.05, 0.0]), COPIES)
)
PACE = np.tile(np.array([1.0, 0.5, 2.0]), COPIES)
KIND = np.tile(np.arange(3), COPIES)
ONE = np.zeros(3 * COPIES, dtype=np.intp)
HALF = 0.5 * CURVES.capacity


def price(load: Array = HALF, pool: Array | None = None, burstiness: float = 1.0) -> Array:
    """Return the prices of the fleet, (instances, knots)."""
    pool_of = ONE if pool is None else np.asarray(pool, dtype=np.intp)
    return price_tail(CURVES, PACE, load, pool_of=pool_of, burstiness=burstiness)


def at(prices: Array, load: Array = HALF) -> Array:
    """Return each instance's price at *load*."""
    return PriceTable.of(CURVES.capacity, prices).evaluate(load)[1]


def drawn(load: Array) -> tuple[Array, Array]:
    """Return (instances, draws) times of requests, and the weight of each draw."""
    chances = (np.arange(20_000) + 0.5) / 20_000
    normal = np.interp(chances, *_normal())
    factor = np.exp(SPREAD * normal - 0.5 * SPREAD**2)
    mean = PACE / (1.0 - CURVES.slowdown * load)
    weight = np.repeat((load / PACE)[:, None] / len(chances), len(chances), axis=1)
    return mean[:, None] * factor, weight


def _normal() -> tuple[Array, Array]:
    """Return the normal distribution's probabilities and where they are reached."""
    where = np.linspace(-8.0, 8.0, 200_001)
    density = np.exp(-0.5 * where**2)
    return np.cumsum(density) / density.sum(), where


def test_the_price_is_the_slope_of_what_the_slowest_hundredth_takes() -> None:
    """Drawn one by one: a little more work at an instance adds its price times that work."""
    times, weight = drawn(HALF)
    order = np.argsort(times.ravel())
    above = np.cumsum(weight.ravel()[order][::-1])[::-1]
    slowest = times.ravel()[order][np.searchsorted(-above, -0.01 * weight.sum())]

    def excess(load: Array) -> float:
        times, weight = drawn(load)
        return WORTH * float((np.maximum(times - slowest, 0.0) * weight).sum()) / 0.01

    found = at(price())
    for number in range(3):
        step = np.zeros(len(PACE))
        step[number] = 0.01
        slope = (excess(HALF + step) - excess(HALF - step)) / 0.02
        assert found[number] == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_a_slow_machine_costs_the_tail_more_than_fast_ones() -> None:
    """For the mean a second of work is a second at any machine; the longest are slow ones."""
    found = at(price())
    assert found[2] > 2.0 * found[0] > 10.0 * found[1]


def test_no_price_falls_with_load() -> None:
    """So that the optimum stays convex."""
    assert (np.diff(price(), axis=1) >= -1e-9).all()
    assert price().shape == (len(PACE), len(KNOTS))


@pytest.mark.parametrize(("load", "burstiness"), [(0.86, 1.0), (0.95, 1.0), (0.5, 1.3), (0.5, 2.0)])
def test_where_queues_are_the_tail_it_has_no_price(load: float, burstiness: float) -> None:
    """Near capacity, and while demand is bursty."""
    assert not price(load * CURVES.capacity, burstiness=burstiness).any()


def test_each_pool_has_a_slowest_hundredth_of_its_own() -> None:
    """Slow machines of other services change nothing, and what has no requests has no price."""
    fast = np.flatnonzero(KIND < 2)
    apart = price(pool=np.where(KIND < 2, 0, 1))
    alone = price_tail(CURVES.of(fast), PACE[fast], HALF[fast], pool_of=ONE[fast], burstiness=1.0)
    assert apart[fast] == pytest.approx(alone)
    assert not price(pool=np.where(KIND < 2, 0, -1))[KIND == 2].any()


def test_where_a_few_instances_have_most_of_the_capacity_it_has_no_price() -> None:
    """What leaves a slow one lands on these, whatever they sustain in truth."""
    few = np.arange(6)
    assert not price_tail(
        CURVES.of(few), PACE[few], HALF[few], pool_of=ONE[few], burstiness=1.0
    ).any()


def test_a_fleet_without_requests_is_priced_as_if_they_came_by_capacity() -> None:
    """The first plan is made before any came."""
    assert price(np.zeros(len(PACE))) == pytest.approx(price(1e-6 * CURVES.capacity))
