"""Caution against bursts."""

import numpy as np
import pytest

from controlplane.model import Reading, Source
from controlplane.steering import Steering
from controlplane.steering.burst_hedging import DemandErrors, mix_prices
from controlplane.steering.latency import Curves, PriceTable
from testbed.fakes.views import make_config, make_instance, make_view


def seen(counts: list[float]) -> DemandErrors:
    """Expect 100 requests a second and count *counts*."""
    burst_hedging = DemandErrors()
    for count in counts:
        burst_hedging.observe(count, 100.0, period=1.0)
    return burst_hedging


def test_steady_arrivals_need_no_caution() -> None:
    """The scatter of Poisson counts is no burstiness."""
    counts = np.random.default_rng(1).poisson(100, 200).astype(float)

    assert [(1.0, 1.0)] == seen(list(counts)).cases()


def test_bursts_are_reckoned_with() -> None:
    """One period in five that brings three times as much appears among the cases."""
    cases = seen([3 * 100.0 if n % 5 == 0 else 50.0 for n in range(100)]).cases()

    assert pytest.approx(1.0) == sum(share for share, _ in cases)
    assert pytest.approx(1.0) == sum(share * factor for share, factor in cases)
    assert max(factor for _, factor in cases) > 2


def test_nobody_counting_means_no_cases() -> None:
    """Without counts there is nothing to learn from."""
    burst_hedging = DemandErrors()
    for _ in range(50):
        burst_hedging.observe(None, 100.0, period=1.0)

    assert 1.0 == burst_hedging.burstiness


def test_mixed_prices_rise_before_the_mean_load_is_high() -> None:
    """What may be twice as much costs more at half of capacity, and the same when nearly idle."""
    curves = Curves(np.array([4.0]), np.zeros(1))
    plain = PriceTable.stationary(curves)
    mixed = mix_prices(plain, [(0.5, 0.2), (0.5, 1.8)])

    assert mixed.evaluate(np.array([2.4]))[1][0] > 1.3 * plain.evaluate(np.array([2.4]))[1][0]
    assert pytest.approx(1.0, rel=0.05) == mixed.evaluate(np.array([0.2]))[1][0]


def shares_under(rates: list[float]) -> dict[str, float]:
    """Return the shares after demand went through *rates*, a second each, ending in a lull."""
    config = make_config(
        sites=["near", "far", "moon"],
        instances=[
            make_instance("a", "near", slots=8, service_time="500ms"),
            make_instance("b", "far", slots=24, service_time="500ms"),
            make_instance("c", "moon", slots=64, service_time="500ms"),
        ],
    )
    steering = Steering(config)
    pair = ("near", "chat")
    for second, rate in enumerate(rates):
        at = float(second)
        plan = steering.decide(
            make_view(
                config,
                at=at,
                demand={pair: rate},
                counted={pair: Reading(rate, Source.ENVOY, at)},
                rtt={("near", "far"): 0.05, ("near", "moon"): 5.0},
            )
        )
    found = plan.assignments["chat", "near"].allocations
    return {item.instance: item.share for item in found if item.priority == 0}


def test_where_demand_jumps_shares_lean_towards_capacities() -> None:
    """In the lull before a burst the far instance has a part, the one beyond reach has none."""
    calm = shares_under([3.0] * 60)
    jumping = shares_under([30.0 if n % 6 == 0 else 3.0 for n in range(60)])

    assert {"a"} == set(calm)
    assert {"a", "b"} == set(jumping)
    assert 0.3 < jumping["b"] < 0.9
