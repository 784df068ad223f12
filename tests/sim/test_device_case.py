"""A small class of devices through the case: what it measures, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.sim.device_case import build_device_trial, device_case, draw_device_fleet
from controlplane.sim.results import Figures, Outcome
from controlplane.sim.run import run_trial

FIGURES = Figures(100, 0.5, 0.5, 0.5, 0.5, 0.0, 1.0)


def test_the_measures_are_ratios_to_the_oracle_and_counts() -> None:
    """A request on battery counts a tenth of a second more."""

    def made(mean: float, on_battery: float, failed: float) -> Outcome:
        figures = Figures(100, mean, mean, mean, mean, failed, 1.0)
        return Outcome(
            "p",
            1,
            {"whole": figures},
            {("steady", "assist"): figures},
            (),
            on_battery={"steady": on_battery},
            limits_broken=3,
        )

    runs = {"controlplane": made(0.55, 0.5, 0.02), "device_oracle": made(0.5, 0.0, 0.0)}
    values = [measure.of(runs) for measure in device_case().measures]

    assert values == pytest.approx([1.1, 1.2, 3.0, 2.0])


def test_devices_are_drawn_as_they_are_asked_for() -> None:
    """A fifth of the time without a link, all of them during the outage; the same for a seed."""
    fleet = draw_device_fleet(3, devices=400, away=0.2, outage=(100.0, 160.0))
    (kind,) = fleet.devices.values()
    away = [
        sum(min(end, 100.0) - start for start, end in each.away if start < 100.0)
        for each in kind.devices
    ]

    assert np.mean(away) / 100.0 == pytest.approx(0.2, abs=0.02)
    assert all(any(a <= 100.0 and b >= 160.0 for a, b in each.away) for each in kind.devices)
    assert fleet == draw_device_fleet(3, devices=400, away=0.2, outage=(100.0, 160.0))


@pytest.mark.parametrize(("seed", "agents"), [(5, True), (4, True), (2, True), (5, False)])
def test_no_request_is_lost_and_no_limit_broken(seed: int, agents: bool) -> None:
    """Links go and come, and then all are away; without agents nothing says which are low."""
    fleet = draw_device_fleet(seed, devices=30, agents=agents, outage=(25.0, 40.0))
    trial = build_device_trial(fleet, steady=("steady", 10.0, 25.0))
    outcome = run_trial(trial, "controlplane", seed=seed)

    assert outcome.windows["whole"].requests > 300
    assert outcome.windows["whole"].failed == 0.0
    assert (outcome.limits_broken == 0) == agents
    assert 0.05 < outcome.shares["phones"][10:25].mean() < 0.9
