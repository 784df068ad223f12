"""Fleets drawn for promises of one kind: size, sparse demand, bursts, tails, sidecars, calm.

All are like those on which the first version failed: pairs of unequal instances at sites in a
square, one cloud, 60 client sites of Pareto sizes, nothing known to the control plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import CLOUD_RTT, MEAN_WORK, Place, build_config
from controlplane.sim.happenings import Happening, What
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work

STEADY: Window = ("steady", 20.0, 60.0)
DROP_AT = 60.0
AFTER: Window = ("after", DROP_AT + 5.0, DROP_AT + 40.0)
DROP = 0.35
"""What five instances keep of their speed."""
_BEARABLE = 0.95
"""Load after the drop that the rest can serve; the demand is lowered to it where it must be."""


def draw_fleet(
    seed: int,
    *,
    instances: int = 41,
    load: float = 0.75,
    clients: int = 60,
    shape: Stream | None = None,
    work: Work | None = None,
    sidecars: int = 1,
) -> Fleet:
    """Draw pairs of instances and a cloud: 2 to 32 slots, speeds 0.4 to 2.5, slowdowns to 0.2.

    *shape* is a stream whose rhythm all take.
    """
    work = work or Work(MEAN_WORK)
    rng = np.random.default_rng((seed, instances, 13))
    places = _draw_places(rng, instances)
    sites = list(dict.fromkeys(place.site for place in places))
    spots = rng.random((len(sites), 2))
    homes = rng.integers(0, len(sites), clients)
    sizes = rng.pareto(1.5, clients) + 0.3
    total = load * sum(place.engine.capacity(work.mean) for place in places)
    rtt, streams = {}, []
    for client, home in enumerate(homes):
        name = f"clients-{client:03d}"
        for number, site in enumerate(sites):
            distance = float(np.linalg.norm(spots[home] - spots[number]))
            rtt[name, site] = CLOUD_RTT if site == "cloud" else 0.004 + 0.050 * distance
        rate = float(total * sizes[client] / sizes.sum())
        like = shape or Stream("", "", 0.0)
        streams.append(replace(like, site=name, service="chat", rate=rate, work=work))
    return Fleet(
        f"{instances} instances",
        build_config(places, rtt),
        {place.name: place.engine for place in places},
        tuple(streams),
        rtt,
        sidecars=sidecars,
        mean_work=work.mean,
    )


def _draw_places(rng: np.random.Generator, instances: int) -> list[Place]:
    places = []
    for number in range(instances - 1):
        slots = int(np.exp(rng.uniform(np.log(2), np.log(33))))
        speed = float(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
        site = f"site-{number // 2:03d}"
        engine = EngineSpec(slots, speed, float(rng.uniform(0, 0.2)))
        places.append(Place(f"{site}-{'ab'[number % 2]}", site, engine, f"region-{number % 4}"))
    places.append(Place("cloud-a", "cloud", EngineSpec(64, 1.2, 0.03), "cloud", "cloud"))
    return places


def steady(fleet: Fleet, *windows: Window) -> Trial:
    """Return the fleet's trial without events, as long as its windows."""
    return Trial(fleet.name, fleet, max(end for _, _, end in windows), windows)


def with_drop(fleet: Fleet, seed: int) -> Trial:
    """Let five instances drop to `DROP`, chosen so that the rest can bear it if any five allow.

    A fleet near its capacity cannot lose its largest instances and stay one that can be judged.
    """
    rng = np.random.default_rng((seed, 14))
    names = [item.name for item in fleet.config.instances if item.site != "cloud"]
    capacity = dict(
        zip((item.name for item in fleet.config.instances), fleet.capacities("chat"), strict=True)
    )
    demand = sum(stream.rate for stream in fleet.streams)

    def load_after(chosen: Sequence[str]) -> float:
        lost = (1 - DROP) * sum(capacity[name] for name in chosen)
        return demand / (sum(capacity.values()) - lost)

    draws = [sorted(map(str, rng.permutation(names)[:5])) for _ in range(200)]
    chosen = next((draw for draw in draws if load_after(draw) <= _BEARABLE), None)
    if chosen is None:
        chosen = min(draws, key=load_after)
    factor = min(1.0, _BEARABLE / load_after(chosen))
    streams = tuple(replace(stream, rate=stream.rate * factor) for stream in fleet.streams)
    event = Happening(What.SLOWDOWN, DROP_AT, amount=DROP, instances=tuple(chosen))
    trial = steady(replace(fleet, streams=streams), STEADY, AFTER)
    return replace(trial, events=(event,))
