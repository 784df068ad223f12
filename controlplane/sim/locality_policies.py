"""Baselines that go by places: the nearest with room, the region, the locality."""

from __future__ import annotations

import math
from collections.abc import Sequence

from controlplane.sim.policy import Policy


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
