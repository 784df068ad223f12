"""A thousand devices of a class, whose links go and come, with edges and a cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from controlplane.config.schema.sites import DeviceBattery
from controlplane.sim.devices import DeviceClass, DeviceSpec, draw_spans, merge_spans
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Kind, Place, build_config
from controlplane.sim.results import Outcome
from controlplane.sim.suite import Case, Measure, Runs
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work

SITE, OWN = "phones", "own"
DEVICES, EDGES = 1000, 4
AWAY, STAY = 0.2, 15.0
"""Part of the time without a link, and mean seconds of each time."""
SPREAD = 0.15
"""Standard deviation of the logarithm of devices' speeds in their class."""
OUTAGE = 60.0
"""Seconds without any link, after the rest."""
_STEADY: Window = ("steady", 30.0, 150.0)
_SHORT: Window = ("steady", 20.0, 50.0)
_WORK = Work(0.3)
_ORACLE = "device_oracle"


def draw_device_fleet(
    seed: int,
    *,
    devices: int = DEVICES,
    away: float = AWAY,
    outage: tuple[float, float] = (150.0, 210.0),
    agents: bool = True,
) -> Fleet:
    """Draw a class of devices, four edges and a cloud that may have room for them or not.

    Args:
        seed: of speeds, places, loads, batteries and links.
        devices: how many.
        away: part of the time for which each one's link is away, alone.
        outage: when all links are away, in seconds.
        agents: whether devices have agents.
    """
    rng = np.random.default_rng((seed, 31))
    slots = max(2, round(16 * devices / DEVICES))
    places = [
        Place(f"edge-{number}-a", f"edge-{number}", EngineSpec(slots, float(speed)))
        for number, speed in enumerate(rng.uniform(0.8, 1.5, EDGES))
    ]
    places.append(Place("cloud-a", "cloud", EngineSpec(4 * slots, 1.2), "cloud", "cloud"))
    room = sum(place.engine.capacity(_WORK.mean) for place in places)
    typical = EngineSpec(1, float(rng.uniform(0.5, 0.9)))
    places.append(Place(OWN, SITE, typical, kind="device", model="pruned"))
    load = float(rng.uniform(0.5, 1.0)) * room
    edge_rate = float(rng.uniform(0.1, 0.3)) * room / EDGES
    ways = rng.uniform(0.015, 0.040, EDGES)
    rtt = {(SITE, SITE): 0.0, (SITE, "cloud"): float(rng.uniform(0.06, 0.12))}
    rtt |= {(SITE, f"edge-{number}"): float(way) for number, way in enumerate(ways)}
    for one in range(EDGES):
        rtt |= {(f"edge-{one}", f"edge-{other}"): 0.02 * (one != other) for other in range(EDGES)}
        rtt |= {(f"edge-{one}", "cloud"): 0.06, (f"edge-{one}", SITE): 1.0}
    services = (Kind("assist", models=("model", "pruned")), Kind("chat"))
    config = build_config(places, rtt, services=services, work=_WORK.mean)
    sites = tuple(
        site.model_copy(update={"battery": DeviceBattery.model_construct(floor=0.2, penalty=0.1)})
        if site.name == SITE
        else site
        for site in config.sites
    )
    streams = [Stream(SITE, "assist", load, work=_WORK)]
    streams += [Stream(f"edge-{n}", "chat", edge_rate, work=_WORK) for n in range(EDGES)]
    until = outage[1] + 60.0
    found = tuple(
        _draw_device(rng, typical, away=away, outage=outage, until=until) for _ in range(devices)
    )
    return Fleet(
        "devices",
        config.model_copy(update={"sites": sites}),
        {place.name: place.engine for place in places},
        tuple(streams),
        rtt,
        mean_work=_WORK.mean,
        devices={SITE: DeviceClass(OWN, found, agents=agents)},
    )


def _draw_device(
    rng: np.random.Generator,
    typical: EngineSpec,
    *,
    away: float,
    outage: tuple[float, float],
    until: float,
) -> DeviceSpec:
    """Draw one device: 40 % of their time on mains; a battery lasts some minutes of work."""
    return DeviceSpec(
        replace(typical, speed=typical.speed * float(np.exp(SPREAD * rng.standard_normal()))),
        charge=float(rng.uniform(0.05, 1.0)),
        drain=0.01,
        mains=draw_spans(rng, share=0.4, length=100.0, until=until),
        away=merge_spans(draw_spans(rng, share=away, length=STAY, until=outage[0]), (outage,)),
    )


def device_case() -> Case:
    """Return the case, with the limits that were promised for it."""
    return Case(
        f"devices, a link away {AWAY:.0%} of the time",
        _trial,
        ("controlplane", _ORACLE),
        (
            Measure("mean latency / an oracle on each", 1.05, _ratio(0.0)),
            Measure("mean with the battery's wait / the oracle's", 1.05, _ratio(0.1)),
            Measure("battery limits broken", 0.0, lambda r: float(_ours(r).limits_broken), ""),
            Measure("requests lost, 60 s without links included", 0.0, _lost, ""),
        ),
        most_seeds=3,
    )


def build_device_trial(fleet: Fleet, *, steady: Window = _STEADY) -> Trial:
    """Return the trial of a device fleet whose links are all away after the window *steady*."""
    end = steady[2] + OUTAGE
    windows: tuple[Window, ...] = (
        steady,
        ("outage", steady[2], end),
        ("back", end, end + 20.0),
        ("whole", 0.0, end + 20.0),
    )
    return Trial(fleet.name, fleet, end + 20.0, windows)


def _trial(seed: int, shorter: bool) -> Trial:
    steady = _SHORT if shorter else _STEADY
    fleet = draw_device_fleet(
        seed,
        devices=100 if shorter else DEVICES,
        outage=(steady[2], steady[2] + OUTAGE),
    )
    return build_device_trial(fleet, steady=steady)


def _ours(runs: Runs) -> Outcome:
    return runs["controlplane"]


def _ratio(penalty: float) -> Callable[[Runs], float]:
    """Return our mean over the oracle's, with *penalty* seconds for each request on battery."""

    def of(runs: Runs) -> float:
        ours, theirs = (
            runs[name].services["steady", "assist"].mean + penalty * runs[name].on_battery["steady"]
            for name in ("controlplane", _ORACLE)
        )
        return ours / theirs

    return of


def _lost(runs: Runs) -> float:
    whole = _ours(runs).windows["whole"]
    return round(whole.failed * whole.requests)
