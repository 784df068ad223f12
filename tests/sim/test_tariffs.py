"""What requests come to at prices that change."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.tariffs import Spent, Tariff, mean_spent, spend

SWINGING = Tariff(0.3, 400.0, price_swing=0.5, carbon_swing=0.25, day=100.0)
CONSTANT = Tariff(0.1, 50.0)


def test_a_tariff_swings_about_its_mean() -> None:
    """A quarter of the day is the peak, three quarters the trough."""
    price, carbon = SWINGING.at(np.array([0.0, 25.0, 75.0]))

    assert [0.3, 0.45, 0.15] == pytest.approx(price.tolist())
    assert [400.0, 500.0, 300.0] == pytest.approx(carbon.tolist())


def test_a_request_costs_the_energy_of_its_slot() -> None:
    """3.6 kW over ten slots for ten seconds at double speed are 0.5 Wh; nowhere costs nothing."""
    engine = EngineSpec(10, 2.0, idle_power=100.0, busy_power=3700.0)
    money, grams = spend(
        np.array([25.0, 25.0, 25.0]),
        np.array([10.0, 10.0, 10.0]),
        np.array([0, 1, -1]),
        engines=[engine, engine],
        tariffs=[SWINGING, CONSTANT],
    )

    assert [0.45 * 5e-4, 0.1 * 5e-4, 0.0] == pytest.approx(money.tolist())
    assert [500.0 * 5e-4, 50.0 * 5e-4, 0.0] == pytest.approx(grams.tolist())


def test_means_are_by_window_and_service() -> None:
    """A service without requests in a window is absent."""
    times = np.array([1.0, 2.0, 11.0])
    costs = np.array([1.0, 3.0, 5.0]), np.array([10.0, 30.0, 50.0])
    members = {"chat": np.array([True, True, False]), "batch": np.array([False, False, True])}

    found = mean_spent(times, costs, members, [("a", 0.0, 10.0), ("b", 10.0, 20.0)])

    assert {("a", "chat"): Spent(2.0, 20.0), ("b", "batch"): Spent(5.0, 50.0)} == found
