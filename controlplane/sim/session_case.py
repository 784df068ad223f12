"""Sessions whose turns repeat their prompts: what is lost where a push scatters them."""

from __future__ import annotations

import math

import numpy as np

from controlplane.config import Affinity
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Place, build_config
from controlplane.sim.happenings import Happening, What
from controlplane.sim.suite import Case, Measure, Runs, ratio
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Sessions, Stream, Work

SITES, LOAD = 6, 0.8
_LONG: Window = ("steady", 60.0, 1860.0)
_SHORT: Window = ("steady", 60.0, 360.0)
_WORK = Work(2.0)
"""Seconds alone of a request that finds nothing remembered; half of them go to its prompt."""
_CACHED = 8
"""Sessions that an engine remembers for each slot: half as many again as are under way there."""
_SESSIONS = Sessions(turns=8.0, pause=20.0)


def session_case() -> Case:
    """Return the case: sessions kept warm through pushes and the death of a site."""
    return Case(
        f"sessions at {LOAD}",
        _trial,
        ("controlplane", "controlplane:unpriced", "controlplane:sessionless"),
        (
            Measure("turns that left the warm site", 0.10, _cold, ""),
            Measure("100 / pushes in half an hour", 1.0, _calm),
            Measure("most of an instance / its share", 1.25, _crowded),
            Measure(
                "mean / without affinity", 0.85, ratio("steady", "mean", "controlplane:sessionless")
            ),
            Measure(
                "mean / without a price", 1.0, ratio("steady", "mean", "controlplane:unpriced")
            ),
        ),
        most_seeds=3,
    )


def _trial(seed: int, shorter: bool) -> Trial:
    window = _SHORT if shorter else _LONG
    dies = window[1] + 0.6 * (window[2] - window[1])
    death = Happening(What.DEATH, dies, instances=("site-0-a", "site-0-b"))
    return Trial("sessions", draw_session_fleet(seed), window[2], (window,), (death,))


def draw_session_fleet(seed: int, *, load: float = LOAD, clients: int = 12) -> Fleet:
    """Draw six sites of two engines and a cloud; *load* is of what remembers no session."""
    rng = np.random.default_rng((seed, 23))
    places = [
        Place(f"site-{site}-{letter}", f"site-{site}", _draw_engine(rng), f"region-{site}")
        for site in range(SITES)
        for letter in "ab"
    ]
    cloud = EngineSpec(64, 1.2, 0.03, cached_sessions=64 * _CACHED)
    places.append(Place("cloud-a", "cloud", cloud, "cloud", "cloud"))
    spots, homes = rng.random((SITES, 2)), rng.integers(0, SITES, clients)
    sizes = rng.pareto(1.5, clients) + 0.5
    total = load * sum(place.engine.capacity(_WORK.mean) for place in places)
    rtt, streams = {}, []
    for client, home in enumerate(homes.tolist()):
        name = f"clients-{client:02d}"
        for site in range(SITES):
            distance = float(np.linalg.norm(spots[home] - spots[site]))
            rtt[name, f"site-{site}"] = 0.004 + 0.050 * distance
        rtt[name, "cloud"] = 0.09
        rate = float(total * sizes[client] / sizes.sum())
        streams.append(Stream(name, "chat", rate, work=_WORK, sessions=_SESSIONS))
    config = build_config(places, rtt, work=_WORK.mean)
    chat = config.services[0].model_copy(update={"affinity": Affinity(header="x-session-id")})
    return Fleet(
        "sessions",
        config.model_copy(update={"services": (chat,)}),
        {place.name: place.engine for place in places},
        tuple(streams),
        rtt,
        mean_work=_WORK.mean,
    )


def _draw_engine(rng: np.random.Generator) -> EngineSpec:
    slots = int(rng.choice((8, 16, 32)))
    speed, slowdown = float(rng.uniform(0.7, 1.6)), float(rng.uniform(0.02, 0.1))
    return EngineSpec(slots, speed, slowdown, cached_sessions=slots * _CACHED)


def _cold(runs: Runs) -> float:
    """Return the part of the turns at another site than the turn before."""
    return 1.0 - runs["controlplane"].warm["steady"]


def _calm(runs: Runs) -> float:
    """Return 100 over the pushes in half an hour; of a shorter run as many as it comes to."""
    ours, start = runs["controlplane"], _LONG[1]
    made = sum(at >= start for at in ours.pushes)
    length = float(ours.arrivals[-1]) - start
    return 100.0 * length / (_LONG[2] - start) / made if made else math.inf


def _crowded(runs: Runs) -> float:
    return runs["controlplane"].crowded
