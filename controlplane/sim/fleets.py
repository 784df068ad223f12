"""Reference fleets, drawn from a seed: what exists, who asks, and how far apart they are.

What they return is the truth; how much of it the control plane is reported is the caller's choice
(`known`): by default it knows neither slots nor speeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from controlplane.config import Config
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work

CLOUD_RTT = 0.090
"""Round trip from every client site to the cloud, seconds."""
MEAN_WORK = 0.5
"""Seconds that a mean request takes alone at speed 1."""


@dataclass(frozen=True, slots=True)
class Place:
    """An instance to be put into a configuration."""

    name: str
    site: str
    engine: EngineSpec
    region: str = ""
    kind: str = "edge"
    model: str = "model"


@dataclass(frozen=True, slots=True)
class Kind:
    """A service to be put into a configuration."""

    name: str = "chat"
    delay: str = "sensitive"
    latency_slo: float = 0.0
    """Seconds; 0 promises nothing."""
    timeout: float = 0.0
    """Seconds; 0 waits for ever."""
    models: tuple[str, ...] = ("model",)
    """Models that may serve it."""


def build_config(
    places: Sequence[Place],
    rtt: Mapping[tuple[str, str], float],
    *,
    services: Sequence[Kind] = (Kind(),),
    known: bool = False,
    work: float = MEAN_WORK,
    period: float = 1.0,
    client_regions: Mapping[str, str] | None = None,
    steering: Mapping[str, Any] | None = None,
    measured: bool = False,
) -> Config:
    """Return the configuration that the control plane has of a fleet.

    With *measured*, round trips are left out of it: agents measure them.
    With *known*, slots and the lone service time of every instance are as they truly are.
    """
    regions = client_regions or {}
    clients = sorted({client for client, _ in rtt})
    homes = {place.site: place for place in places}
    sites = [
        {"name": place.site, "kind": place.kind, "region": place.region} for place in homes.values()
    ]
    sites += [
        {"name": client, "kind": "edge", "region": regions.get(client, "")}
        for client in clients
        if client not in homes
    ]
    instances = [
        _instance(number, place, service_time=work / place.engine.speed if known else None)
        for number, place in enumerate(places)
    ]
    document: dict[str, Any] = {
        "version": 1,
        "sites": sites,
        "models": [{"name": name} for name in sorted({place.model for place in places})],
        "services": [_service(kind) for kind in services],
        "instances": instances,
        "network": {
            "paths": [
                {"from": client, "to": site, "rtt": _seconds(value)}
                for (client, site), value in rtt.items()
                if client != site and not measured
            ]
        },
        "steering": {"period": _seconds(period), **(steering or {})},
    }
    return Config.model_validate(document)


def _instance(number: int, place: Place, *, service_time: float | None) -> dict[str, Any]:
    """Return the entry of an instance; its slots too where its *service_time* is known."""
    entry: dict[str, Any] = {
        "name": place.name,
        "site": place.site,
        "address": f"10.{number // 60000}.{number // 250 % 240}.{number % 250 + 1}:8000",
        "model": place.model,
        "engine": "generic" if place.engine.slowdown == 0 else "vllm",
    }
    if service_time is not None:
        entry["slots"] = place.engine.slots
        entry["service_time"] = _seconds(service_time)
    if place.engine.busy_power:
        entry["power"] = {
            "idle": f"{place.engine.idle_power:.3f}W",
            "busy": f"{place.engine.busy_power:.3f}W",
        }
    return entry


def _service(kind: Kind) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": kind.name,
        "delay": kind.delay,
        "match": [{"header": {"x-service": kind.name}}],
        "models": [{"name": name} for name in kind.models],
    }
    if kind.latency_slo:
        entry["slo"] = {"latency": _seconds(kind.latency_slo)}
    if kind.timeout:
        entry["timeout"] = _seconds(kind.timeout)
    return entry


def _seconds(value: float) -> str:
    return f"{value:.9f}s"


def edge_fleet(
    *,
    batching: bool,
    utilisation: float,
    seed: int,
    known: bool = False,
    client_sites: int = 30,
    edges: int = 12,
    steering: Mapping[str, Any] | None = None,
) -> Fleet:
    """Draw unequal edges in a unit square, one large cloud, and clients near random edges.

    A client's round trip to an edge is 4 ms and 50 ms times the distance from its home edge to
    that edge; clients' shares are Pareto(1.5) + 0.3, scaled to *utilisation* of all capacity.
    """
    rng = np.random.default_rng((seed, 0))
    spots = rng.random((edges, 2))
    places = []
    for number in range(edges):
        quadrant = f"quadrant-{int(spots[number, 0] * 2)}{int(spots[number, 1] * 2)}"
        name = f"edge-{number:02d}"
        places.append(Place(f"{name}-a", name, _draw_edge(rng, batching=batching), quadrant))
    cloud = EngineSpec(64, 1.2, 0.03 if batching else 0.0)
    places.append(Place("cloud-a", "cloud", cloud, "cloud", "cloud"))
    homes = rng.integers(0, edges, client_sites)
    sizes = rng.pareto(1.5, client_sites) + 0.3
    capacity = sum(place.engine.capacity(MEAN_WORK) for place in places)
    rates = utilisation * capacity * sizes / sizes.sum()
    rtt: dict[tuple[str, str], float] = {}
    regions = {}
    streams = []
    for number in range(client_sites):
        client = f"clients-{number:02d}"
        home = int(homes[number])
        regions[client] = places[home].region
        for edge in range(edges):
            distance = float(np.linalg.norm(spots[home] - spots[edge]))
            rtt[client, places[edge].site] = 0.004 + 0.050 * distance
        rtt[client, "cloud"] = CLOUD_RTT
        streams.append(Stream(client, "chat", float(rates[number]), Work(MEAN_WORK)))
    config = build_config(places, rtt, known=known, client_regions=regions, steering=steering)
    return Fleet(
        "batching" if batching else "queue",
        config,
        {place.name: place.engine for place in places},
        tuple(streams),
        rtt,
    )


def _draw_edge(rng: np.random.Generator, *, batching: bool) -> EngineSpec:
    speed = float(rng.choice([0.6, 1.0, 1.6]))
    if batching:
        return EngineSpec(int(rng.choice([8, 16, 32])), speed, float(rng.choice([0.05, 0.1, 0.2])))
    return EngineSpec(int(rng.choice([4, 8, 16])), speed)


def single_server_fleet(
    speeds: Sequence[float],
    *,
    name: str,
    utilisation: float,
    sidecars: int,
    period: float,
    known: bool = False,
    steering: Mapping[str, Any] | None = None,
) -> Fleet:
    """Build servers of one slot with exponential work of mean 1 s, all clients at one site.

    There is no network: the fleets of the theory on stale information.
    """
    places = [
        Place(f"server-{number:02d}", f"site-{number:02d}", EngineSpec(1, speed))
        for number, speed in enumerate(speeds)
    ]
    rtt = {("clients", place.site): 0.0 for place in places}
    work = Work(1.0, distribution="exponential")
    stream = Stream("clients", "chat", utilisation * float(sum(speeds)), work)
    config = build_config(places, rtt, known=known, work=1.0, period=period, steering=steering)
    engines = {place.name: place.engine for place in places}
    return Fleet(name, config, engines, (stream,), rtt, sidecars=sidecars, mean_work=1.0)


def ramp_fleet(
    *,
    seed: int,
    duration: float,
    known: bool = False,
    steering: Mapping[str, Any] | None = None,
) -> Fleet:
    """Build the queue-like edges with a sensitive and a tolerant service of equal rates.

    Their load together rises from 0.75 to 1.74 of all capacity in equal steps, as Prequal's
    load ramp does.
    """
    base = edge_fleet(batching=False, utilisation=1.0, seed=seed)
    places = [
        Place(
            item.name,
            item.site,
            base.engines[item.name],
            next(site.region for site in base.config.sites if site.name == item.site),
            "cloud" if item.site == "cloud" else "edge",
        )
        for item in base.config.instances
    ]
    kinds = (
        Kind("chat", "sensitive", latency_slo=5.0, timeout=5.0),
        Kind("batch", "tolerant"),
    )
    config = build_config(places, base.rtt, services=kinds, known=known, steering=steering)
    steps = np.linspace(0.75, 1.74, RAMP_STEPS)
    length = duration / RAMP_STEPS
    ramp = []
    for number, factor in enumerate(steps):
        ramp += [(number * length, float(factor)), ((number + 1) * length - 1e-3, float(factor))]
    streams = []
    for kind, part in (("chat", 0.5), ("batch", 0.5)):
        streams += [
            replace(item, service=kind, rate=item.rate * part, ramp=tuple(ramp))
            for item in base.streams
        ]
    return Fleet("ramp", config, base.engines, tuple(streams), base.rtt)


def near_fleet(*, duration: float, steering: Mapping[str, Any] | None = None) -> Fleet:
    """Build a near site that a tolerant service fills half-way through, and two far ones.

    The near site sustains 32 requests a second. A sensitive service asks for 14 all the time, a
    tolerant one for 4 and then for 28, at the same client site; the far sites have room for all,
    40 ms away.
    """
    places = [
        Place("near-a", "near", EngineSpec(16)),
        Place("far-a", "far", EngineSpec(32), kind="cloud"),
        Place("farther-a", "farther", EngineSpec(32), kind="cloud"),
    ]
    rtt = {("near", "near"): 0.002, ("near", "far"): 0.040, ("near", "farther"): 0.050}
    kinds = (Kind("chat", "sensitive"), Kind("batch", "tolerant"))
    config = build_config(places, rtt, services=kinds, steering=steering)
    middle = 0.5 * duration
    fills = ((0.0, 1.0), (middle, 1.0), (middle + 1.0, 7.0))
    streams = (
        Stream("near", "chat", 14.0, Work(MEAN_WORK)),
        Stream("near", "batch", 4.0, Work(MEAN_WORK), ramp=fills),
    )
    engines = {place.name: place.engine for place in places}
    return Fleet("near", config, engines, streams, rtt)


RAMP_STEPS = 8
"""Levels of load in the ramp; the third of 0.75 to 1.74 is 1.03."""
EQUAL_SPEEDS = (1.0,) * 16
UNEQUAL_SPEEDS = (4.0, 4.0, 2.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.5)
