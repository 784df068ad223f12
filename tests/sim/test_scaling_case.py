"""Pools that are scaled in the simulator, short: they follow demand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.sim.autoscaler import ScalingRules
from controlplane.sim.results import Figures, Outcome
from controlplane.sim.run import run_trial
from controlplane.sim.scaling_case import draw_scaling_fleet, scaling_case
from controlplane.sim.trial import Trial

FIGURES = Figures(1, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)


def short(load: float) -> Trial:
    """Return 90 seconds of the case's trial at a constant *load*."""
    trial = scaling_case().trial(1, True)
    fleet = draw_scaling_fleet(1, load=load, known=True)
    streams = tuple(replace(stream, day=0.0) for stream in fleet.streams)
    return replace(
        trial,
        fleet=replace(fleet, streams=streams),
        duration=90.0,
        windows=(("day", 0, 90),),
        scaling=ScalingRules(first=1),
    )


@pytest.mark.parametrize("policy", ["scaled", "pools:12"])
def test_pools_grow_with_their_load(policy: str) -> None:
    """Of six machines at the start none may go in the first five minutes; more have to come."""
    outcome = run_trial(short(75.0), policy, seed=1)

    assert outcome.instance_hours > 6 * 90 / 3600


def test_the_measures_compare_with_the_cheapest_that_kept_the_promise() -> None:
    """One that broke it is no rival."""
    case = scaling_case()

    def made(hours: float, kept: float) -> Outcome:
        figures = replace(FIGURES, kept=kept)
        return Outcome("p", 1, {}, {("day", "chat"): figures}, (), instance_hours=hours)

    runs = {name: made(30.0, 0.995) for name in case.policies}
    runs |= {"scaled": made(18.0, 0.992), "pools:12": made(24.0, 1.0), "pools:24": made(9.0, 0.9)}
    late, usual, best = (measure.of(runs) for measure in case.measures)

    assert (0.008, 0.75, 0.75) == pytest.approx((late, usual, best))
