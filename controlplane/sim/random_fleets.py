"""Fleets drawn from wide distributions, with what happens to them; fresh ones for each seed.

A promise measured on fleets that someone chose holds for those fleets.
These are drawn instead: sites and instances from 3 to 300, slots from 1 to 256, speeds over up to
a factor of ten, engines that queue, batch and count tokens, one to five services of different
length that share instances, loads from 0.03 to 0.95, rhythms, events.
``(seed, number)`` gives one fleet, so that a bad draw can be repeated by itself.

Load is that of the tightest set of services at the worst moment: events, crowds and the peaks of a
rhythm never ask for more than `PEAK` of what is left, so that every fleet can be served.
The length of requests is chosen so that a run holds enough of them for a 99th percentile and few
enough to be cheap; everything else is independent of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Kind, Place, build_config
from controlplane.sim.happenings import surge_streams
from controlplane.sim.random_events import draw_events
from controlplane.sim.random_load import (
    FULL,
    Capability,
    DrawnService,
    Scale,
    fit_time,
    lengthen,
    stretch_engine,
)
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.trial import Trial
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Burst, Stream, Work

PEAK = 0.95
"""Largest load at the worst moment, bursts of a few seconds excepted."""
BURST_PEAK = 1.1
"""Largest load while a burst lasts."""
SPARSE = 0.3
"""Loads below it are judged as sparse."""


@dataclass(frozen=True, slots=True)
class RandomFleet:
    """One drawn fleet with its experiment."""

    number: int
    trial: Trial
    load: float
    """Mean load of the tightest set of services while nothing happens."""
    traits: tuple[str, ...]
    """What it is like, in words: ``41 instances``, ``tokens``, ``burst`` ..."""


def draw_random_fleet(seed: int, number: int, *, scale: Scale = FULL) -> RandomFleet:
    """Draw fleet *number* of *seed*; long, since the order of draws is what a seed repeats."""
    rng = np.random.default_rng((seed, number, 12))
    count = _log_int(rng, *scale.instances)
    kind = str(rng.choice(["queue", "batch", "tokens", "mixed"], p=[0.3, 0.3, 0.15, 0.25]))
    services = _draw_services(rng, kind, count)
    places = _draw_places(rng, count, kind, services, scale)
    sites = list(dict.fromkeys(place.site for place in places))
    clients = min(_log_int(rng, 3, 300), max(3, scale.pairs // len(sites)))
    rtt = _draw_paths(rng, sites, clients)
    sizes = rng.pareto(rng.uniform(1.1, 3.0), clients) + 0.3
    sizes /= sizes.sum()
    sparse = rng.random() < 0.15
    load = math.exp(rng.uniform(*np.log([0.03, SPARSE]))) if sparse else rng.uniform(SPARSE, 0.95)

    chunk = Capability(places, services)
    shape, rise = _draw_shape(rng, sizes)
    events = draw_events(
        rng,
        places,
        [chunk.capacity_of(place) for place in places],
        {f"clients-{i:03d}": float(size) for i, size in enumerate(sizes)},
        paths_measured_often=len(sites) * clients <= 2_000,
    )
    limit = BURST_PEAK if shape.burst is not None else PEAK
    most = limit / rise / events.demand * chunk.left(events.capacity_factors(places))
    load = float(min(load, most))
    stretch, duration, window = fit_time(chunk, load, scale)
    places = [replace(place, engine=stretch_engine(place.engine, stretch)) for place in places]
    services = [lengthen(service, stretch) for service in services]

    chunk = Capability(places, services)
    rates = chunk.rates(load)
    streams = [
        replace(shape, site=f"clients-{index:03d}", service=service.name, rate=rate * part,
                work=service.work)
        for service, rate in zip(services, rates, strict=True)
        for index, part in enumerate(_mix(rng, sizes))
    ]  # fmt: skip
    happenings = events.within(*window)
    fleet = Fleet(
        f"random {number}",
        build_config(
            places,
            rtt,
            services=[Kind(service.name, models=service.models) for service in services],
            measured=True,
        ),
        {place.name: place.engine for place in places},
        surge_streams(streams, happenings),
        rtt,
        sidecars=1 if rng.random() < 0.75 else _log_int(rng, 2, max(2, min(20, 400 // clients))),
        mean_work=float(sum(s.work.mean * s.part for s in services)),
    )
    often = len(sites) * clients <= 2_000
    trial = Trial(
        fleet.name,
        fleet,
        duration,
        (("all", *window),),
        happenings,
        telemetry=TelemetrySettings(path_period=5.0 if often else 30.0),
    )
    traits = (
        f"load {load:.2f}",
        f"{count} {kind} instances",
        f"{len(sites)} sites",
        f"{clients} client sites",
        f"{len(services)} services" if len(services) > 1 else "1 service",
        *_traits(fleet, shape),
        *(event.what.value for event in happenings),
    )
    return RandomFleet(number, trial, load, traits)


def _log_int(rng: np.random.Generator, low: int, high: int) -> int:
    """Draw an integer between *low* and *high*, its logarithm uniform."""
    return min(high, int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))


def _draw_services(rng: np.random.Generator, kind: str, instances: int) -> list[DrawnService]:
    """Draw services on at most as many models as there are *instances* to hold them."""
    count = 1 if rng.random() < 0.4 else int(rng.integers(2, 6))
    models = int(rng.integers(1, 5)) if rng.random() < 0.5 else 1
    known = [f"model-{n}" for n in range(min(models, instances))]
    parts = rng.dirichlet(np.full(count, 1.5))
    found = []
    for number in range(count):
        own = rng.permutation(known)[: int(rng.integers(1, len(known) + 1))]
        length = math.exp(rng.uniform(-1.15, 1.15)) if count > 1 else 1.0
        prompt, output = (float(np.exp(rng.uniform(*np.log(r)))) for r in ((100, 4e3), (20, 500)))
        if kind in ("tokens", "mixed"):
            length = prompt / 8000 + output * 0.02
        sigma = float(rng.choice([0.3, 0.6, 1.0, 1.5], p=[0.2, 0.5, 0.2, 0.1]))
        work = Work(length, sigma, "lognormal", prompt, output)
        part = max(float(parts[number]), 0.02)
        found.append(DrawnService(f"service-{number}", tuple(sorted(own)), work, part))
    total = sum(service.part for service in found)
    return [replace(service, part=service.part / total) for service in found]


def _draw_places(
    rng: np.random.Generator, count: int, kind: str, services: Sequence[DrawnService], scale: Scale
) -> list[Place]:
    """Draw instances, each model on one at least; every third fleet has no cloud."""
    models = sorted({model for service in services for model in service.models})
    sites = min(_log_int(rng, min(3, count), count), scale.pairs // 3)
    usual, spread = math.exp(rng.uniform(0, math.log(64))), rng.uniform(0, 1.2)
    pace = rng.uniform(0, math.log(10) / 2)
    size = float(np.mean([service.work.prompt + service.work.output for service in services]))
    cloud = rng.random() < 2 / 3
    places = []
    for number in range(count):
        at_cloud = cloud and number == count - 1
        slots = int(np.clip(usual * math.exp(spread * rng.standard_normal()), 1, 256))
        slots = min(256, 4 * slots) if at_cloud else slots
        engine = _draw_engine(rng, kind, slots, math.exp(rng.uniform(-pace, pace)), size)
        site = number if number < sites else int(rng.integers(0, sites))
        name = "cloud" if at_cloud else f"site-{site:03d}"
        model = models[number] if number < len(models) else str(rng.choice(models))
        places.append(
            Place(
                f"instance-{number:03d}",
                name,
                engine,
                f"region-{site % 4}",
                "cloud" if at_cloud else "edge",
                model,
            )
        )
    return places


def _draw_engine(
    rng: np.random.Generator, kind: str, slots: int, speed: float, size: float
) -> EngineSpec:
    if kind == "mixed":
        kind = str(rng.choice(["queue", "batch", "tokens"]))
    if kind == "queue":
        return EngineSpec(slots, speed)
    # How many times longer a request takes in a full batch than alone.
    full = math.exp(rng.uniform(math.log(1.3), math.log(8.0)))
    slowdown = min(0.2, (full - 1) / max(slots - 1, 1)) if slots > 1 else 0.0
    if kind == "batch":
        return EngineSpec(slots, speed, slowdown)
    return EngineSpec(
        slots,
        speed,
        slowdown,
        kind="tokens",
        prefill_rate=math.exp(rng.uniform(*np.log([2_000, 20_000]))),
        step_time=math.exp(rng.uniform(*np.log([0.008, 0.04]))),
        kv_tokens=slots * size * rng.uniform(0.7, 4.0) + 8 * size,
    )


def _draw_paths(
    rng: np.random.Generator, sites: Sequence[str], clients: int
) -> dict[tuple[str, str], float]:
    """Lay sites out in a square and clients at their homes; the cloud is far from all."""
    spots = rng.random((len(sites), 2))
    across, far = math.exp(rng.uniform(*np.log([0.005, 0.2]))), rng.uniform(0.03, 0.15)
    homes = rng.integers(0, len(sites), clients)
    rtt = {}
    for client, home in enumerate(homes):
        away = np.linalg.norm(spots[home] - spots, axis=1)
        for site, distance in zip(sites, away, strict=True):
            value = far if site == "cloud" else 0.002 + across * float(distance)
            rtt[f"clients-{client:03d}", site] = value
    return rtt


def _mix(rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
    """Return each client site's part of a service's requests; services differ by site."""
    own = sizes * rng.lognormal(0.0, 0.5, len(sizes))
    mixed: np.ndarray = own / own.sum()
    return mixed


def _draw_shape(rng: np.random.Generator, sizes: np.ndarray) -> tuple[Stream, float]:
    """Draw how arrivals vary; return a stream to copy and the peak of all over their mean.

    Days are the same everywhere; bursts come at each client site by itself, so that those of many
    sites partly even out.
    """
    plain = Stream("", "", 0.0)
    match str(rng.choice(["steady", "uneven", "day", "burst"], p=[0.45, 0.15, 0.2, 0.2])):
        case "uneven":
            return replace(plain, cv=rng.uniform(0.5, 2.0)), 1.0
        case "day":
            swing, length = rng.uniform(0.1, 0.6), math.exp(rng.uniform(*np.log([60, 900])))
            return replace(plain, day=length, swing=swing, phase=rng.random()), 1 + swing
        case "burst":
            burst = Burst(rng.uniform(1.5, 6), rng.uniform(0.1, 0.4), rng.uniform(2, 20))
            low = 1 / (1 - burst.share + burst.share * burst.ratio)
            spread = (low * burst.ratio - 1) * float(np.sqrt((sizes**2).sum()))
            return replace(plain, burst=burst), 1 + 2 * spread
        case _:
            return plain, 1.0


def _traits(fleet: Fleet, shape: Stream) -> list[str]:
    slots = [engine.slots for engine in fleet.engines.values()]
    traits = [f"slots {min(slots)} to {max(slots)}"]
    if fleet.sidecars > 1:
        traits.append(f"{fleet.sidecars} sidecars a site")
    if shape.burst is not None:
        traits.append(f"bursts x{shape.burst.ratio:.1f}")
    elif shape.day:
        traits.append(f"day of {shape.day:.0f} s")
    elif shape.cv != 1:
        traits.append(f"cv {shape.cv:.1f}")
    return traits
