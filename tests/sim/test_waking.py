"""Instances that sleep in the simulator: started when that pays, ended when it no longer does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.config import Wake
from controlplane.sim.results import Figures, Outcome
from controlplane.sim.run import run_trial
from controlplane.sim.trial import Trial
from controlplane.sim.waking_case import SOON, draw_waking_fleet, waking_case

LENGTH = 120.0


def short(load: float) -> Trial:
    """Return two minutes of constant *load*, with starts of five seconds."""
    fleet = draw_waking_fleet(1, day=LENGTH, load=load)
    wake = Wake.model_construct(start_up=5.0, use=30.0, price=30.0)
    instances = tuple(
        each if each.wake is None else each.model_copy(update={"wake": wake})
        for each in fleet.config.instances
    )
    return Trial(
        "short",
        replace(
            fleet,
            config=fleet.config.model_copy(update={"instances": instances}),
            streams=tuple(replace(each, day=0.0) for each in fleet.streams),
        ),
        LENGTH,
        (("day", 0.0, LENGTH), ("rare", 0.6 * LENGTH, 0.65 * LENGTH)),
    )


def machines(outcome: Outcome) -> float:
    """Return how many machines ran on average."""
    return outcome.instance_hours * 3600 / LENGTH


def test_what_sleeps_is_started_for_a_load_that_needs_it_and_no_other() -> None:
    """Of ten machines three always run, and suffice for a tenth of what all sustain."""
    calm, full = (run_trial(short(load), "waking", seed=1) for load in (0.1, 0.6))
    assert 2.9 <= machines(calm) < 5.0
    assert machines(full) > machines(calm) + 1.5
    for outcome in (calm, full):
        assert outcome.services["day", "chat"].failed == 0.0


def test_awake_is_every_machine_all_the_time() -> None:
    """The comparison pays for all of them, and no request finds them asleep."""
    outcome = run_trial(short(0.1), "waking:awake", seed=1)
    assert 10.0 == pytest.approx(machines(outcome), rel=0.03)
    assert outcome.services["day", "rare"].failed == 0.0


def test_requests_for_a_model_that_sleeps_as_a_whole_fail_until_it_has_started() -> None:
    """They count as demand meanwhile, or it would sleep for ever."""
    trial = short(0.1)
    rare = replace(trial.fleet.streams[-1], rate=4.0)
    streams = (*trial.fleet.streams[:-1], rare)
    outcome = run_trial(
        replace(trial, fleet=replace(trial.fleet, streams=streams)), "waking", seed=1
    )
    figures = outcome.services["rare", "rare"]
    assert figures.requests > 8
    assert 0.2 < figures.failed <= 1.0


def test_the_measures_are_over_what_never_slept_and_over_a_start() -> None:
    """A fifth of a hundred steady requests a half second apart is 40 s of a start of 30."""
    case = waking_case()
    figures = Figures(100, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)

    def made(hours: float, mean: float, failed: float) -> Outcome:
        chat, rare = replace(figures, mean=mean), replace(figures, failed=failed)
        services = {("day", "chat"): chat, ("rare", "rare"): rare}
        return Outcome("p", 1, {}, services, (), instance_hours=hours)

    runs = {"waking": made(6.0, 1.2, 0.2), "waking:awake": made(10.0, 1.0, 0.0)}
    found = [measure.of(runs) for measure in case.measures]
    assert [0.6, 1.2, 0.0, 40.0 / SOON] == pytest.approx(found)
