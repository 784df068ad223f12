"""Baselines by what engines report of themselves: weights (gRPC A58) and probes (Prequal)."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.sim.policy import Policy
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.world import World


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
