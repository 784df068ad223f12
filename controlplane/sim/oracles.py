"""Yardsticks that know the truth: what perfect knowledge of every instance would reach."""

from __future__ import annotations

import math

import numpy as np

from controlplane.sim.curves import Curves, optimal_shares
from controlplane.sim.instances import EngineSpec
from controlplane.sim.policy import Policy
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.workload import Work


class Oracle(Policy):
    """Every request to the instance where it costs least, with perfect and instant knowledge.

    The cost is the request's own time (round trip, service, expected wait) and the time that it
    adds for those already inside: a larger batch slows all of it, a prompt that is read halts all
    decoding.
    The wait is the engine time that the requests inside need, by the mean length of their service,
    times the fraction of them that must leave first.
    Lengths of single requests are not known to it, nor what arrives later.
    No real system has that knowledge.
    """

    name = "oracle"

    def start(self) -> None:
        """Replace the picker."""
        world = self.world
        services = {sidecar.service for sidecar in world.sidecars}
        self._costs = {name: self._cost_of(name) for name in sorted(services)}
        """Service -> by instance (seconds when empty, seconds for each one in the batch)."""
        self._batch = [
            self._most_at_once(engine.spec, world.fleet.mean_request()) for engine in world.engines
        ]
        self._changes = -1
        for sidecar in world.sidecars:

            def pick(_now: float, sidecar: Sidecar = sidecar) -> int:
                return self._pick(sidecar)

            sidecar.pick = pick

    def _cost_of(self, service: str) -> list[tuple[float, float]]:
        mean = self.world.fleet.mean_request(service)
        return [_own_and_imposed(engine.spec, mean) for engine in self.world.engines]

    @staticmethod
    def _most_at_once(spec: EngineSpec, mean: Work) -> int:
        if spec.kind == "work":
            return spec.slots
        return max(1, min(spec.slots, int(spec.kv_tokens / (mean.prompt + mean.output))))

    def _look(self) -> None:
        """Note every engine's speed; called when one has changed."""
        self._changes = self.world.changes
        self._slow = [
            1 / max(engine.factor * (1 - engine.training), 1e-6) if engine.alive else math.inf
            for engine in self.world.engines
        ]

    def _pick(self, sidecar: Sidecar) -> int:
        world = self.world
        if self._changes != world.changes:
            self._look()
        out, back, slow = sidecar.out, sidecar.back, self._slow
        inside, backlog, most = world.outstanding, world.backlog, self._batch
        costs = self._costs[sidecar.service]
        best, least = -1, math.inf
        for index in sidecar.usable:
            own, more = costs[index]
            present, slots = inside[index], most[index]
            if present < slots:
                time = own + more * present
            else:
                waiting = (present + 1 - slots) / present
                time = own + more * (slots - 1) + waiting * backlog[index]
            cost = out[index] + back[index] + slow[index] * time
            if cost < least:
                best, least = index, cost
        return best


def _own_and_imposed(spec: EngineSpec, mean: Work) -> tuple[float, float]:
    """Return (seconds alone, seconds lost for each one inside, by it and by the request)."""
    alone = spec.alone(mean.mean, mean.prompt, mean.output)
    if spec.kind == "work":
        return alone, 2 * alone * spec.slowdown
    step = mean.output * spec.step_time * spec.slowdown / spec.speed
    return alone, 2 * step + mean.prompt / spec.prefill_rate / spec.speed


class Optimum(Policy):
    """The convex optimum with true curves, speeds and demands: what perfect learning would give."""

    name = "optimum"

    def start(self) -> None:
        """Solve for the first time."""
        self._shares: np.ndarray | None = None
        self.tick(0.0)

    def tick(self, now: float) -> None:
        """Solve from the last shares."""
        world = self.world
        sidecars = world.sidecars
        rate = np.zeros(len(sidecars))
        for stream in world.fleet.streams:
            own = [s for s in sidecars if (s.site, s.service) == (stream.site, stream.service)]
            for sidecar in own:
                rate[sidecar.index] += stream.rate / len(own)
        engines = world.engines
        curves = Curves(
            [engine.spec.slots for engine in engines],
            [world.fleet.mean_work / max(engine.speed, 1e-6) for engine in engines],
            [engine.spec.slowdown for engine in engines],
        )
        rtt = np.array([np.add(s.out, s.back) for s in sidecars])
        self._shares = optimal_shares(rate, rtt, curves, start=self._shares)
        for sidecar in sidecars:
            self.push(now, sidecar, self._shares[sidecar.index].tolist())
