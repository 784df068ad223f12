"""One policy through one trial with one seed.

Every policy meets the very same arrivals and events, so two outcomes of one seed differ by the
policy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from controlplane.config import Config, PolicyName
from controlplane.sim.device_world import DeviceWorld
from controlplane.sim.happenings import schedule
from controlplane.sim.loop import VARIANTS, ControlPlane
from controlplane.sim.policies import BASELINES
from controlplane.sim.policy import Policy
from controlplane.sim.results import (
    Outcome,
    crowding,
    measure,
    measure_batteries,
    measure_sessions,
    prediction_error,
    shares_over_time,
)
from controlplane.sim.scaled import LocalPools, ScaledControlPlane
from controlplane.sim.scenario import Scenario
from controlplane.sim.scenario_fleet import build_fleet
from controlplane.sim.tariffs import mean_spent, spend
from controlplane.sim.trial import Trial
from controlplane.sim.true_fleet import Record
from controlplane.sim.waking import WakingControlPlane
from controlplane.sim.workload import draw_arrivals
from controlplane.sim.world import World

DRAIN = 60.0
"""Seconds after the last arrival in which requests may still be answered."""


def simulate(
    scenario: Scenario,
    policy: str,
    *,
    seed: int,
    read_config: Callable[[str], Config] | None = None,
    clock: Callable[[], float] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Outcome:
    """Run *policy* through the scenario's fleet of this seed; see `run_trial`.

    Raises:
        ValueError: the scenario does not fit its fleet.
    """
    trial = build_trial(scenario, seed=seed, read_config=read_config)
    return run_trial(trial, policy, seed=seed, clock=clock, progress=progress)


def build_trial(
    scenario: Scenario, *, seed: int, read_config: Callable[[str], Config] | None = None
) -> Trial:
    """Return the scenario with its fleet drawn.

    Raises:
        ValueError: the scenario does not fit its fleet.
    """
    return Trial(
        scenario.name,
        build_fleet(scenario, seed=seed, read_config=read_config),
        scenario.duration,
        tuple((item.name, item.start, item.end) for item in scenario.all_windows()),
        tuple(event.value() for event in scenario.events),
        scenario.period,
        scenario.telemetry.value(),
    )


def run_trial(
    trial: Trial,
    policy: str,
    *,
    seed: int,
    clock: Callable[[], float] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Outcome:
    """Run *policy*; *clock* times its decisions, *progress* gets the simulated seconds done."""
    fleet, duration = trial.fleet, trial.duration
    arrivals = draw_arrivals(fleet.streams, duration=duration, seed=seed)
    world = (DeviceWorld if fleet.devices else World)(fleet, arrivals, seed=seed)
    kernel = world.kernel
    chosen = _build_policy(trial, policy, world, seed=seed, clock=clock)
    chosen.start()

    def tick(now: float) -> None:
        if now <= duration:
            chosen.tick(now)

    kernel.every(chosen.period, tick, start=chosen.period)
    telemetry = chosen.telemetry if isinstance(chosen, ControlPlane) else None
    schedule(trial.events, world, telemetry)
    engines = [world.engines_of(index) for index in range(len(world.engines))]
    load = np.zeros((int(np.ceil(duration)), len(engines)))
    loadings = np.zeros(len(load))

    def sample(now: float) -> None:
        second = int(now)
        if second < len(load):
            load[second] = [sum(e.present for e in each) for each in engines]
            loadings[second] = sum(engine.memory.loadings for engine in world.engines)
            if progress is not None:
                progress(now)

    kernel.every(1.0, sample, start=0.5)
    ended = duration + DRAIN
    record = world.run(ended)
    by_window, by_service, latencies = measure(fleet, record, trial.windows, ended=ended)
    warm, warm_instance = measure_sessions(fleet, record, trial.windows)
    sites = np.array(world.sites)
    outcome = Outcome(
        policy=policy,
        seed=seed,
        windows=by_window,
        services=by_service,
        pushes=tuple(chosen.pushes),
        latencies=latencies,
        arrivals=record.times,
        shares=shares_over_time(fleet, record, duration=duration),
        loadings=loadings,
        warm=warm,
        warm_instance=warm_instance,
        crowded=crowding(record),
        instance_hours=chosen.instance_hours,
        load={site: load[:, sites == site].sum(axis=1) for site in dict.fromkeys(world.sites)},
    )
    outcome = _with_batteries(outcome, trial, world, record)
    outcome = _with_spending(outcome, trial, world, record)
    return _with_predictions(outcome, trial, chosen, record)


def _with_predictions(outcome: Outcome, trial: Trial, chosen: Policy, record: Record) -> Outcome:
    if not isinstance(chosen, ControlPlane):
        return outcome
    outcome = replace(outcome, predicted_spent=chosen.predicted_spent(after=trial.windows[0][1]))
    predictions = tuple((at, predicted) for at, predicted, _ in chosen.predictions)
    error = prediction_error(predictions, record, period=chosen.period, after=trial.windows[0][1])
    return chosen.annotate(outcome, error)


def _with_batteries(outcome: Outcome, trial: Trial, world: World, record: Record) -> Outcome:
    if not isinstance(world, DeviceWorld):
        return outcome
    return replace(
        outcome,
        on_battery=measure_batteries(record, world.on_battery, trial.windows),
        limits_broken=sum(device.broken for device in world.devices.values()),
    )


def _with_spending(outcome: Outcome, trial: Trial, world: World, record: Record) -> Outcome:
    fleet = trial.fleet
    if not fleet.tariffs:
        return outcome
    costs = spend(
        record.times,
        np.array(world.load.work),
        record.instance,
        engines=[fleet.engines[name] for name in world.names],
        tariffs=[fleet.tariffs[site] for site in world.sites],
    )
    owner = np.array([stream.service for stream in fleet.streams])[record.stream]
    members = {name: owner == name for name in fleet.service_names()}
    return replace(outcome, spent=mean_spent(record.times, costs, members, trial.windows))


def _build_policy(
    trial: Trial,
    name: str,
    world: World,
    *,
    seed: int,
    clock: Callable[[], float] | None,
) -> Policy:
    if name in BASELINES:
        policy = BASELINES[name](world)
        policy.period = trial.period
        return policy
    base, _, override = name.partition(":")
    if trial.scaling is not None and base in (ScaledControlPlane.name, LocalPools.name):
        since = trial.windows[0][1]
        inside = float(override.removeprefix("queue=") or 0.0)
        if base == LocalPools.name:
            return LocalPools(world, rules=trial.scaling, inside=inside, since=since)
        return ScaledControlPlane(
            world,
            trial.telemetry,
            rules=trial.scaling,
            seed=seed,
            until=trial.duration,
            inside=inside,
            since=since,
            clock=clock,
        )
    if base == WakingControlPlane.name:
        return WakingControlPlane(
            world,
            trial.telemetry,
            seed=seed,
            until=trial.duration,
            awake=override == "awake",
            since=trial.windows[0][1],
            clock=clock,
        )
    return ControlPlane(
        world,
        trial.telemetry,
        seed=seed,
        until=trial.duration,
        policy=PolicyName(override) if override and override not in VARIANTS else None,
        variant=override if override in VARIANTS else "",
        clock=clock,
    )
