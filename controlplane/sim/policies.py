"""Baselines: the ways of choosing that others use, each against the same arrivals.

A policy sets every sidecar's picker, or pushes weights at each tick; it sees what its original
would see, except where its name says that it knows the truth (`capacity`, `optimum`, `oracle`).
Requests are decided by anyone who owns ``pick``; nothing here touches an engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.sim.device_oracle import DeviceOracle
from controlplane.sim.oracles import Optimum, Oracle
from controlplane.sim.policy import Policy
from controlplane.sim.policy_iteration import PolicyIteration
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.world import World


class Nearest(Policy):
    """Everything to the instance with the shortest round trip."""

    name = "nearest"

    def start(self) -> None:
        """Push once."""
        for sidecar in self.world.sidecars:
            best = min(sidecar.usable, key=sidecar.out.__getitem__)
            self.push(0.0, sidecar, [float(i == best) for i in range(len(self.world.engines))])


class RoundRobin(Policy):
    """Each instance in turn."""

    name = "round_robin"

    def start(self) -> None:
        """Push once."""
        self.push_all(0.0, [1.0] * len(self.world.engines))


class Random(Policy):
    """Each instance with equal chance."""

    name = "random"

    def start(self) -> None:
        """Replace the picker."""
        source = self.world.random
        for sidecar in self.world.sidecars:
            sidecar.pick = lambda _now, sidecar=sidecar: source.choice(sidecar.usable)  # type: ignore[misc]


class Capacity(Policy):
    """Fixed weights by the true capacity at the start."""

    name = "capacity"

    def start(self) -> None:
        """Push once."""
        fleet = self.world.fleet
        by_service = {name: fleet.capacities(name) for name in fleet.service_names()}
        for sidecar in self.world.sidecars:
            usable, capacities = set(sidecar.usable), by_service[sidecar.service]
            shares = [rate if i in usable else 0.0 for i, rate in enumerate(capacities)]
            self.push(0.0, sidecar, shares)


class LeastRequest(Policy):
    """Envoy's least request with equal weights.

    Of two random instances the one with fewer of this sidecar's own requests gets it.
    """

    name = "least_request"

    def start(self) -> None:
        """Replace the picker."""
        source = self.world.random.random
        for sidecar in self.world.sidecars:

            def pick(_now: float, sidecar: Sidecar = sidecar) -> int:
                usable, active = sidecar.usable, sidecar.active
                size = len(usable)
                first, second = usable[int(source() * size)], usable[int(source() * size)]
                return first if active[first] <= active[second] else second

            sidecar.pick = pick


class _Meter:
    """Answers a second and utilisation of each engine, as an ORCA report has them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counts = [0] * len(world.engines)
        self._at = 0.0
        self.rate = [0.0] * len(world.engines)
        self.utilisation = [0.0] * len(world.engines)
        """Of the slots; above 1 when requests wait, as ORCA's application utilisation may be."""

    def read(self, now: float) -> None:
        elapsed = now - self._at
        for index, engine in enumerate(self._world.engines):
            done = engine.completed - self._counts[index]
            self.rate[index] = max(done, 0) / elapsed if elapsed > 0 else 0.0
            self.utilisation[index] = engine.present / engine.spec.slots
            self._counts[index] = engine.completed
        self._at = now


class ClientSideWrr(Policy):
    """gRPC A58, Envoy's client_side_weighted_round_robin with in-band reports.

    Weight is rate / utilisation, as the last answer of each instance carried it to this sidecar.
    Blackout 10 s after the first report, expiry 3 min, update 1 s; an instance without weight gets
    the mean of the others.
    """

    name = "cswrr"
    in_band = True
    blackout = 10.0
    expiry = 180.0

    def start(self) -> None:
        """Begin with equal weights."""
        self._meter = _Meter(self.world)
        size = len(self.world.engines)
        self._seen: list[dict[int, tuple[float, float, float]]] = [{} for _ in self.world.sidecars]
        """By sidecar: instance -> (first seen, last seen, weight)."""
        self.push_all(0.0, [1.0] * size)
        if self.in_band:
            for sidecar in self.world.sidecars:
                sidecar.on_response = self._on_response

    def _on_response(self, sidecar: Sidecar, instance: int, now: float, _latency: float) -> None:
        engine = self.world.engines[instance]
        utilisation = engine.present / engine.spec.slots
        self._note(sidecar.index, instance, now, self._meter.rate[instance], utilisation)

    def _note(self, sidecar: int, instance: int, now: float, rate: float, use: float) -> None:
        if rate <= 0 or use <= 0:
            return
        seen = self._seen[sidecar]
        first = seen[instance][0] if instance in seen else now
        seen[instance] = (first, now, rate / use)

    def tick(self, now: float) -> None:
        """Renew the weights from what was reported."""
        self._meter.read(now)
        for sidecar in self.world.sidecars:
            if not self.in_band:
                for i in sidecar.usable:
                    rate, use = self._meter.rate[i], self._meter.utilisation[i]
                    self._note(sidecar.index, i, now, rate, use)
            seen = self._seen[sidecar.index]
            weights = {
                i: weight
                for i, (first, last, weight) in seen.items()
                if now - first >= self.blackout and now - last < self.expiry
            }
            mean = sum(weights.values()) / len(weights) if len(weights) >= 2 else 0.0
            usable = set(sidecar.usable)
            size = range(len(self.world.engines))
            equal = not mean
            shares = [(1.0 if equal else weights.get(i, mean)) * (i in usable) for i in size]
            self.push(now, sidecar, shares)


class ClientSideWrrOutOfBand(ClientSideWrr):
    """The same from reports that each instance streams once a second."""

    name = "cswrr_oob"
    in_band = False


class LoadAwareLocality(Policy):
    """Envoy's load_aware_locality.

    Stays local while the local locality is not busier than the others by more than 0.1, else
    splits by hosts * (1 - utilisation); 3 % probe the rest.
    Utilisation is smoothed over 5 s; the local locality is the nearest.
    """

    name = "load_aware_locality"

    def start(self) -> None:
        """Begin at home."""
        self._use = [0.0] * len(self.world.engines)
        self.tick(0.0)

    def tick(self, now: float) -> None:
        """Renew the split between localities."""
        keep = math.exp(-self.period / 5.0)
        for index, engine in enumerate(self.world.engines):
            self._use[index] = keep * self._use[index] + (1 - keep) * engine.utilisation()
        for sidecar in self.world.sidecars:
            home = min(sidecar.usable, key=sidecar.out.__getitem__)
            others = [i for i in sidecar.usable if i != home]
            shares = [0.0] * len(self.world.engines)
            headroom = {i: max(0.0, 1 - self._use[i]) for i in sidecar.usable}
            mean = sum(self._use[i] for i in others) / max(len(others), 1)
            spare = sum(headroom[i] for i in others)
            if not others or self._use[home] <= mean + 0.1 or sum(headroom.values()) <= 0:
                shares[home] = 0.97
                for i in others:
                    shares[i] = 0.03 * (headroom[i] / spare if spare > 0 else 1 / len(others))
            else:
                for i in sidecar.usable:
                    shares[i] = headroom[i]
            self.push(now, sidecar, shares)


class Headroom(Policy):
    """Weights by free capacity: true capacity times the free part, smoothed over five periods."""

    name = "headroom"

    def start(self) -> None:
        """Begin by capacity."""
        self._use = [0.0] * len(self.world.engines)
        self._capacity = self.true_capacity()
        self.push_all(0.0, self._capacity)

    def tick(self, now: float) -> None:
        """Renew the weights."""
        shares = []
        for index, engine in enumerate(self.world.engines):
            busy = min(1.0, engine.present / engine.spec.slots)
            self._use[index] += 0.2 * (busy - self._use[index])
            free = max(0.05, 1 - self._use[index])
            shares.append(self._capacity[index] * free)
        self.push_all(now, shares)


class WaterFill(Policy):
    """Shares that level the time to empty; ignores the network.

    That is what each instance holds plus what it gets until the next tick, by its true speed.
    """

    name = "water_fill"

    def start(self) -> None:
        """Begin by capacity."""
        self.push_all(0.0, self.true_capacity())

    def tick(self, now: float) -> None:
        """Renew the level."""
        world = self.world
        rates = [
            engine.spec.capacity(world.fleet.mean_work) * engine.factor * (1 - engine.training)
            for engine in world.engines
        ]
        coming = sum(stream.rate for stream in world.fleet.streams) * self.period
        inside = [float(count) for count in world.outstanding]
        self.push_all(now, level_shares(inside, rates, coming))


def level_shares(inside: Sequence[float], rates: Sequence[float], coming: float) -> list[float]:
    """Return each instance's part of *coming* requests so that (inside + part) / rate is level."""
    order = sorted(range(len(inside)), key=lambda i: inside[i] / rates[i])
    held = rate = 0.0
    level = 0.0
    for place, index in enumerate(order):
        held += inside[index]
        rate += rates[index]
        level = (coming + held) / rate
        following = order[place + 1] if place + 1 < len(order) else -1
        if following < 0 or level <= inside[following] / rates[following]:
            break
    return [max(0.0, level * rates[i] - inside[i]) for i in range(len(inside))]


class Waterfall(Policy):
    """Fill the nearest instances to 80 % of their true capacity, then the next nearest."""

    name = "waterfall"
    limit = 0.8

    def start(self) -> None:
        """Begin with the nominal demand."""
        self._rates = {id(s): 0.0 for s in self.world.sidecars}
        for stream in self.world.fleet.streams:
            own = [
                s
                for s in self.world.sidecars
                if (s.site, s.service) == (stream.site, stream.service)
            ]
            for sidecar in own:
                self._rates[id(sidecar)] = stream.rate / len(own)
        self._place(0.0)

    def _place(self, now: float) -> None:
        capacity = self.true_capacity()
        room = [self.limit * value for value in capacity]
        left = dict(self._rates)
        shares = {id(s): [0.0] * len(capacity) for s in self.world.sidecars}
        pairs = sorted(
            (self.world.true_rtt(s, i), s.index, i) for s in self.world.sidecars for i in s.usable
        )
        for _, number, i in pairs:
            key = id(self.world.sidecars[number])
            moved = min(left[key], room[i])
            shares[key][i] += moved
            left[key] -= moved
            room[i] -= moved
        for sidecar in self.world.sidecars:
            rest = left[id(sidecar)]
            own = shares[id(sidecar)]
            if rest > 0:
                total = sum(capacity[i] for i in sidecar.usable)
                for i in sidecar.usable:
                    own[i] += rest * capacity[i] / total
            self.push(now, sidecar, own)


class Spray(Policy):
    """Spread over all instances of the client's region by true capacity.

    What is above 80 % of the region goes to the world by free capacity.
    """

    name = "spray"
    limit = 0.8

    def start(self) -> None:
        """Push once."""
        world = self.world
        region_of = {site.name: site.region for site in world.fleet.config.sites}
        capacity = self.true_capacity()
        regions = [region_of[site] for site in world.sites]
        demand: dict[str, float] = {}
        for stream in world.fleet.streams:
            home = region_of[stream.site]
            demand[home] = demand.get(home, 0.0) + stream.rate
        room = {
            region: self.limit
            * sum(c for c, r in zip(capacity, regions, strict=True) if r == region)
            for region in {*regions, *demand}
        }
        local = {
            region: min(1.0, room[region] / wanted) if wanted > 0 else 1.0
            for region, wanted in demand.items()
        }
        spare = [
            capacity[i] * max(0.02, 1 - min(1.0, demand.get(r, 0.0) / max(room[r], 1e-9)))
            for i, r in enumerate(regions)
        ]
        for sidecar in world.sidecars:
            home = region_of[sidecar.site]
            inside = [c if r == home else 0.0 for c, r in zip(capacity, regions, strict=True)]
            total = sum(inside)
            part = local.get(home, 1.0) if total > 0 else 0.0
            shares = [
                part * (own / total if total > 0 else 0.0) + (1 - part) * free / sum(spare)
                for own, free in zip(inside, spare, strict=True)
            ]
            usable = set(sidecar.usable)
            self.push(0.0, sidecar, [s if i in usable else 0 for i, s in enumerate(shares)])


@dataclass(slots=True)
class _Probe:
    at: float
    instance: int
    inside: int
    latency: float
    uses: int = 0


class Prequal(Policy):
    """Probes of requests in flight and latency (Wydrowski et al., NSDI'24).

    Three probes per request, a pool of 16; hot above the 0.84 quantile of the pool; among cold
    ones the least latency, else the least in flight.
    """

    name = "prequal"
    pool_size = 16
    probes = 3
    hot_quantile = 0.84
    max_age = 1.0
    max_uses = 2

    def start(self) -> None:
        """Replace the picker."""
        for sidecar in self.world.sidecars:
            pool: list[_Probe] = []

            def pick(now: float, sidecar: Sidecar = sidecar, pool: list[_Probe] = pool) -> int:
                return self._pick(now, sidecar, pool)

            sidecar.pick = pick

    def _pick(self, now: float, sidecar: Sidecar, pool: list[_Probe]) -> int:
        source, engines = self.world.random, self.world.engines
        pool[:] = [probe for probe in pool if now - probe.at <= self.max_age]
        ready = [probe for probe in pool if probe.at <= now]
        if len(ready) < 2:
            choice = source.choice(sidecar.usable)
        else:
            levels = sorted(probe.inside for probe in ready)
            edge = levels[min(len(levels) - 1, int(self.hot_quantile * len(levels)))]
            cold = [probe for probe in ready if probe.inside < edge or edge == levels[0]]
            if cold:
                best = min(cold, key=lambda probe: probe.latency)
            else:
                best = min(ready, key=lambda probe: probe.inside)
            choice = best.instance
            best.uses += 1
            best.inside += 1
            if best.uses >= self.max_uses:
                pool.remove(best)
            if pool:
                pool.remove(max(pool, key=lambda probe: (probe.inside, -probe.at)))
        for _ in range(self.probes):
            target = source.choice(sidecar.usable)
            engine, way = engines[target], self.world.true_rtt(sidecar, target)
            mean = engine.recent_latency or self.world.fleet.mean_work
            pool.append(_Probe(now + way, target, engine.present, mean + way))
        del pool[: -self.pool_size]
        return choice


BASELINES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Nearest,
        RoundRobin,
        Random,
        Capacity,
        LeastRequest,
        ClientSideWrr,
        ClientSideWrrOutOfBand,
        LoadAwareLocality,
        Headroom,
        WaterFill,
        Waterfall,
        Spray,
        Prequal,
        Optimum,
        Oracle,
        DeviceOracle,
        PolicyIteration,
    )
}
"""Every baseline by name."""
