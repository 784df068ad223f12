"""A day of sites whose pools are scaled: by the control plane's signal, or by what is inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from controlplane.config import Slo
from controlplane.sim.autoscaler import ScalingRules
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Place, build_config
from controlplane.sim.results import Outcome
from controlplane.sim.suite import Case, Measure, Runs
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work

SITES, MOST = 6, 10
"""Sites, and replicas that each may have."""
DAY = 7200.0
"""Seconds; a twelfth of a day, so that demand rises more steeply than it does by the clock,
beside the same cold start."""
PROMISED = 60.0
"""Seconds in which 99 of 100 answers are complete."""
_WORK = Work(10.0)
_ENGINE = EngineSpec(16, 1.0, 0.04)
_TARGETS = (12, 16, 20, 24)
"""Requests inside each replica at which other autoscalers aim; the first is what an operator would
set who does not know the day, three quarters of the slots."""


def draw_scaling_fleet(
    seed: int, *, day: float = DAY, load: float = 60.0, known: bool = False
) -> Fleet:
    """Draw six sites of like replicas, each with clients whose day has a phase of its own.

    Args:
        seed: of sizes, places and phases.
        day: seconds of it.
        load: mean work, over all sites.
        known: whether slots and paces are configured as they are.
    """
    rng = np.random.default_rng((seed, 29))
    places = [
        Place(f"site-{site}-r{number}", f"site-{site}", _ENGINE)
        for site in range(SITES)
        for number in range(MOST)
    ]
    spots = rng.random((SITES, 2))
    sizes = rng.uniform(0.5, 2.0, SITES)
    rates = load / _WORK.mean * sizes / sizes.sum()
    phases = rng.choice([0.0, 0.3], SITES)
    rtt, streams = {}, []
    for client in range(SITES):
        for site in range(SITES):
            distance = float(np.linalg.norm(spots[client] - spots[site]))
            rtt[f"site-{client}", f"site-{site}"] = 0.004 + 0.050 * distance
        streams.append(
            Stream(
                f"site-{client}",
                "chat",
                float(rates[client]),
                work=_WORK,
                day=day,
                swing=0.8,
                phase=float(phases[client]),
            )
        )
    config = build_config(places, rtt, known=known, work=_WORK.mean, period=5.0)
    chat = config.services[0].model_copy(
        update={"slo": Slo.model_construct(ttft=None, latency=PROMISED)}
    )
    return Fleet(
        "scaling",
        config.model_copy(update={"services": (chat,)}),
        {place.name: place.engine for place in places},
        tuple(streams),
        rtt,
        mean_work=_WORK.mean,
    )


def scaling_case() -> Case:
    """Return the case: hours of machines for a promise kept, beside pools on their own."""
    pools = tuple(f"pools:{target}" for target in _TARGETS)
    return Case(
        "scaling, a day of six sites",
        _trial,
        ("scaled", *pools),
        (
            Measure("late answers", 0.01, lambda runs: 1.0 - _kept(runs["scaled"]), ""),
            Measure("instance-hours / pools, 12 of 16 slots in use", 0.8, _beside(pools[:1])),
            Measure("instance-hours / pools, best target in hindsight", 0.8, _beside(pools)),
        ),
        most_seeds=3,
    )


def _trial(seed: int, shorter: bool) -> Trial:
    day = DAY / 2 if shorter else DAY
    window: Window = ("day", day / 12, day)
    return Trial(
        "scaling",
        draw_scaling_fleet(seed, day=day),
        day,
        (window,),
        telemetry=TelemetrySettings(period=5.0, traffic_period=5.0, path_period=60.0),
        scaling=ScalingRules(first=3),
    )


def _kept(outcome: Outcome) -> float:
    """Return the part of the requests that kept the promise."""
    return outcome.services["day", "chat"].kept


def _beside(others: Sequence[str]) -> Callable[[Runs], float]:
    """Return our hours over the fewest with which one of *others* kept the promise."""

    def of(runs: Runs) -> float:
        kept = [runs[name].instance_hours for name in others if _kept(runs[name]) >= 0.99]
        return runs["scaled"].instance_hours / min(kept, default=math.nan)

    return of
