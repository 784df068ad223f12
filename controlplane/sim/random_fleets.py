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
from itertools import combinations

import numpy as np

from controlplane.sim.fleets import Kind, Place, build_config
from controlplane.sim.happenings import surge_streams
from controlplane.sim.instances import EngineSpec
from controlplane.sim.random_events import draw_events
from controlplane.sim.reports import TelemetrySettings
from controlplane.sim.trial import Trial
from controlplane.sim.workload import Burst, Stream, Work
from controlplane.sim.world import Fleet

PEAK = 0.95
"""Largest load at the worst moment, bursts of a few seconds excepted."""
BURST_PEAK = 1.1
"""Largest load while a burst lasts."""
SPARSE = 0.3
"""Loads below it are judged as sparse."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large fleets may be and how long they run."""

    instances: tuple[int, int] = (3, 300)
    pairs: int = 10_000
    """Most pairs of client site and instances' site."""
    requests: tuple[int, int] = (4_000, 50_000)
    """Requests wanted of a run, least and most."""
    warm: float = 20.0
    """Seconds before the figures begin; three mean lengths of the longest service are added."""
    span: float = 60.0
    """Least seconds of figures; twelve mean lengths of the longest service, if they are more."""
    longest: float = 8.0
    """Most seconds of the mean request, as long as `requests` allows."""


FULL = Scale()
SMALL = Scale((3, 16), 300, (4_000, 9_000), longest=6.0)
"""What many users have: few instances, so that each is a good part of what there is."""
SHORT = Scale((3, 40), 100, (1_000, 3_000), warm=10.0, span=20.0, longest=2.0)
"""For the tests of every change."""


@dataclass(frozen=True, slots=True)
class RandomFleet:
    """One drawn fleet with its experiment."""

    number: int
    trial: Trial
    load: float
    """Mean load of the tightest set of services while nothing happens."""
    traits: tuple[str, ...]
    """What it is like, in words: ``41 instances``, ``tokens``, ``burst`` ..."""


@dataclass(frozen=True, slots=True)
class _Service:
    name: str
    models: tuple[str, ...]
    work: Work
    part: float
    """Of the work that is asked for."""


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

    chunk = _Chunk(places, services)
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
    stretch, duration, window = _fit_time(chunk, load, scale)
    places = [replace(place, engine=_stretch(place.engine, stretch)) for place in places]
    services = [_lengthen(service, stretch) for service in services]

    chunk = _Chunk(places, services)
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


def _draw_services(rng: np.random.Generator, kind: str, instances: int) -> list[_Service]:
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
        found.append(_Service(f"service-{number}", tuple(sorted(own)), work, part))
    total = sum(service.part for service in found)
    return [replace(service, part=service.part / total) for service in found]


def _draw_places(
    rng: np.random.Generator, count: int, kind: str, services: Sequence[_Service], scale: Scale
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


class _Chunk:
    """What the places can do for the services, and how tightly that binds."""

    def __init__(self, places: Sequence[Place], services: Sequence[_Service]) -> None:
        self._services = services
        self._models = sorted({place.model for place in places})
        self.capacity = np.array([self._at(place) for place in places])
        """Work a second by place, with the services' mix; work is seconds alone at speed 1."""
        self._owner = np.array([self._models.index(place.model) for place in places])
        self._places = places

    def capacity_of(self, place: Place) -> float:
        """Return the work a second that *place* sustains."""
        return self._at(place)

    def _at(self, place: Place) -> float:
        """Return the work a second with the mix of the services that may go there."""
        own = [s for s in self._services if place.model in s.models] or list(self._services)
        parts = np.array([service.part for service in own])
        need = [
            place.engine.capacity(s.work.mean, s.work.prompt, s.work.output) * s.work.mean
            for s in own
        ]
        return float(parts.sum() / (parts / need).sum())

    def tightness(self, factors: np.ndarray) -> float:
        """Return load per work: the largest, over sets of services, of need over what serves it.

        By Hall's theorem that is the least largest load that any split reaches.
        """
        by_model = np.bincount(self._owner, self.capacity * factors, len(self._models))
        worst = 0.0
        for size in range(1, len(self._services) + 1):
            for group in combinations(self._services, size):
                reach = {model for service in group for model in service.models}
                total = sum(by_model[self._models.index(model)] for model in reach)
                worst = max(worst, sum(s.part for s in group) / max(total, 1e-12))
        return worst

    def left(self, factors: np.ndarray) -> float:
        """Return what is left of the capacity that binds, as a part of it."""
        return self.tightness(np.ones(len(factors))) / self.tightness(factors)

    def rates(self, load: float) -> list[float]:
        """Return each service's requests a second at *load*."""
        work = load / self.tightness(np.ones(len(self._places)))
        return [float(work * service.part / service.work.mean) for service in self._services]

    def lengths(self) -> list[float]:
        """Return each service's mean seconds alone, over places by their capacity."""
        parts = self.capacity / self.capacity.sum()
        return [
            float(
                sum(
                    part * place.engine.alone(s.work.mean, s.work.prompt, s.work.output)
                    for part, place in zip(parts, self._places, strict=True)
                )
            )
            for s in self._services
        ]


def _fit_time(chunk: _Chunk, load: float, scale: Scale) -> tuple[float, float, tuple[float, float]]:
    """Return (factor on all lengths, duration, window) that make a run long enough and cheap."""
    longest, rate = max(chunk.lengths()), sum(chunk.rates(load))
    stretch = 1.0
    for _ in range(20):
        warm = scale.warm + 3 * stretch * longest
        duration = warm + max(scale.span, 12 * stretch * longest)
        requests = rate / stretch * duration
        least, most = scale.requests
        wanted = requests / float(np.clip(requests, least, most))
        stretch = float(min(stretch * wanted, scale.longest / longest))
        if abs(wanted - 1) < 0.01:
            break
    warm = scale.warm + 3 * stretch * longest
    span = max(scale.span, 12 * stretch * longest)
    return stretch, warm + span, (warm, warm + span)


def _stretch(engine: EngineSpec, factor: float) -> EngineSpec:
    """Make an engine that counts tokens slower by *factor*."""
    if engine.kind == "work":
        return engine
    return replace(
        engine, prefill_rate=engine.prefill_rate / factor, step_time=engine.step_time * factor
    )


def _lengthen(service: _Service, factor: float) -> _Service:
    return replace(service, work=replace(service.work, mean=service.work.mean * factor))


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
