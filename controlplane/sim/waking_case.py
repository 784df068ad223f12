"""A day of sites with replicas asleep: what their starts cost, and what they save."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from controlplane.config import Wake
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Kind, Place, build_config
from controlplane.sim.suite import Case, Measure, Runs
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work

SITES, ASLEEP = 3, 2
"""Sites, and replicas asleep at each beside one that always runs."""
DAY = 7200.0
"""Seconds; a twelfth of a day, beside the start-up of a day by the clock."""
START_UP, SOON = 60.0, 30.0
"""Seconds of a start, and of one of the model that is asked for rarely."""
_RARE = 0.6, 0.65
"""Part of the day in which it is."""
_WORK = Work(4.0)
_ENGINE = EngineSpec(8, 1.0, 0.05)


def waking_case() -> Case:
    """Return the case: hours of machines and latency, beside replicas that never sleep."""
    return Case(
        "waking, three sites",
        _trial,
        ("waking", "waking:awake"),
        (
            Measure("instance-hours / all awake", 0.8, _hours),
            Measure("mean / all awake", 1.25, _mean),
            Measure("failed where a replica runs", 0.0, _failed, ""),
            Measure("first answer of what slept / start-up", 1.5, _first),
        ),
        most_seeds=3,
    )


def draw_waking_fleet(seed: int, *, day: float = DAY, load: float = 0.4) -> Fleet:
    """Draw sites with one replica that runs and some asleep, and a model that sleeps as a whole.

    Args:
        seed: of sizes, places and phases.
        day: seconds of it.
        load: mean fraction of what all replicas sustain.
    """
    rng = np.random.default_rng((seed, 37))
    places = [
        Place(f"site-{site}-r{number}", f"site-{site}", _ENGINE)
        for site in range(SITES)
        for number in range(1 + ASLEEP)
    ]
    places.append(Place("rare-0", "site-0", _ENGINE, model="rare"))
    spots, sizes = rng.random((SITES, 2)), rng.uniform(0.6, 1.4, SITES)
    total = load * SITES * (1 + ASLEEP) * _ENGINE.capacity(_WORK.mean)
    rtt, streams = {}, []
    for client, size in enumerate((sizes / sizes.sum()).tolist()):
        for site in range(SITES):
            distance = float(np.linalg.norm(spots[client] - spots[site]))
            rtt[f"site-{client}", f"site-{site}"] = 0.004 + 0.050 * distance
        asked = Stream(f"site-{client}", "chat", total * size, work=_WORK)
        streams.append(replace(asked, day=day, swing=0.8, phase=float(rng.random())))
    begun, ended = (part * day for part in _RARE)
    ramp = ((0.0, 0.0), (begun, 0.0), (begun + 0.1, 1.0), (ended - 0.1, 1.0), (ended, 0.0))
    streams.append(Stream("site-1", "rare", 0.5, work=_WORK, ramp=ramp))
    config = build_config(
        places,
        rtt,
        services=(Kind("chat"), Kind("rare", models=("rare",))),
        work=_WORK.mean,
        period=2.0,
    )
    instances = tuple(
        each.model_copy(update={"wake": Wake.model_construct(start_up=start_up)})
        if (start_up := _start_up(each.name)) is not None
        else each
        for each in config.instances
    )
    return Fleet(
        "waking",
        config.model_copy(update={"instances": instances}),
        {place.name: place.engine for place in places},
        tuple(streams),
        rtt,
        mean_work=_WORK.mean,
    )


def _start_up(name: str) -> float | None:
    if name == "rare-0":
        return SOON
    return None if name.endswith("-r0") else START_UP


def _trial(seed: int, shorter: bool) -> Trial:
    day = DAY / 2 if shorter else DAY
    windows: tuple[Window, ...] = (
        ("day", day / 24, day),
        ("rare", _RARE[0] * day, _RARE[1] * day),
    )
    return Trial(
        "waking",
        draw_waking_fleet(seed, day=day),
        day,
        windows,
        telemetry=TelemetrySettings(period=1.0, traffic_period=1.0, path_period=60.0),
    )


def _hours(runs: Runs) -> float:
    return runs["waking"].instance_hours / runs["waking:awake"].instance_hours


def _mean(runs: Runs) -> float:
    ours, theirs = (runs[name].services["day", "chat"].mean for name in ("waking", "waking:awake"))
    return ours / theirs


def _failed(runs: Runs) -> float:
    """Return the fraction of the requests that failed while a replica of theirs always ran."""
    return runs["waking"].services["day", "chat"].failed


def _first(runs: Runs) -> float:
    """Return how long requests failed that came steadily to a model asleep, over its start."""
    ours = runs["waking"]
    window = ours.services["rare", "rare"]
    length = window.requests / 0.5
    return window.failed * length / SOON
