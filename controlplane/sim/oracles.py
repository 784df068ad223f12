"""Yardsticks that know the truth: what perfect knowledge of every instance would reach."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controlplane.sim.curves import Curves, optimal_shares
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.policy import Policy
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.token_engine import TokenEngine
from controlplane.sim.workload import Work


class Oracle(Policy):
    """Every request to the instance where it costs least, with perfect and instant knowledge.

    The cost is the request's own time (round trip, service, expected wait) and the time that it
    adds for those already inside: a larger batch slows all of it, a prompt that is read halts all
    decoding and comes after the prompts before it.
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
        mean = world.fleet.mean_request()
        self._reading = [
            mean.prompt / engine.spec.prefill_rate / engine.spec.speed
            if isinstance(engine, TokenEngine)
            else 0.0
            for engine in world.engines
        ]
        """By instance: seconds that reading a mean prompt takes."""
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
        return self._cheapest(sidecar, sidecar.usable)[0]

    def _cheapest(self, sidecar: Sidecar, instances: Sequence[int]) -> tuple[int, float]:
        """Return the cheapest of *instances* now, and its cost in seconds."""
        world = self.world
        if self._changes != world.changes:
            self._look()
        out, back, slow = sidecar.out, sidecar.back, self._slow
        inside, backlog, most = world.outstanding, world.backlog, self._batch
        costs, reading, engines = self._costs[sidecar.service], self._reading, world.engines
        best, least = -1, math.inf
        for index in instances:
            own, more = costs[index]
            present, slots = inside[index], most[index]
            if present < slots:
                time = own + more * present
            else:
                waiting = (present + 1 - slots) / present
                time = own + more * (slots - 1) + waiting * backlog[index]
            if reading[index]:
                time += reading[index] * engines[index].unread
            cost = out[index] + back[index] + slow[index] * time
            if cost < least:
                best, least = index, cost
        return best, least


def _own_and_imposed(spec: EngineSpec, mean: Work) -> tuple[float, float]:
    """Return (seconds alone, seconds lost for each one inside, by it and by the request)."""
    alone = spec.alone(mean.mean, mean.prompt, mean.output)
    if spec.kind == "work":
        return alone, 2 * alone * spec.slowdown
    step = mean.output * spec.step_time * spec.slowdown / spec.speed
    return alone, 2 * step + mean.prompt / spec.prefill_rate / spec.speed


class Optimum(Policy):
    """The convex optimum with true curves, speeds and mean demands: perfect learning, no hedging.

    Services weigh by the capacity that a request of theirs takes.
    An engine that counts tokens is taken for the batching engine with the same lone time and
    capacity, which is close where decoding binds and less so where reading prompts does.
    """

    name = "optimum"

    def start(self) -> None:
        """Solve for the first time."""
        world = self.world
        fleet = world.fleet
        services = {service: number for number, service in enumerate(fleet.service_names())}
        self._rows = {(s.site, s.service): s for s in world.sidecars}
        self._rate = np.array(
            [sum(s.rate for s in fleet.streams if (s.site, s.service) == row) for row in self._rows]
        )
        capacity = np.array([fleet.capacities(service) for service in services])
        self._mixed = np.array(self.true_capacity())
        of = [services[service] for _, service in self._rows]
        self._sizes = self._mixed / capacity[of]
        self._usable = np.zeros(self._sizes.shape, dtype=bool)
        for number, sidecar in enumerate(self._rows.values()):
            self._usable[number, list(sidecar.usable)] = True
        mean = fleet.mean_request()
        self._alone = np.array(
            [engine.spec.alone(mean.mean, mean.prompt, mean.output) for engine in world.engines]
        )
        self._shares: np.ndarray | None = None
        self._changes = -1
        self.tick(0.0)

    def tick(self, now: float) -> None:
        """Solve from the last shares, if anything has changed."""
        world = self.world
        if self._changes == world.changes:
            return
        self._changes = world.changes
        engines = world.engines
        speed = np.array(
            [max(e.factor * (1 - e.training), 1e-6) if e.alive else 1e-6 for e in engines]
        )
        slots = [engine.spec.slots for engine in engines]
        # The slowdown with which a batch of all slots reaches the capacity.
        full = np.array(slots) / (self._mixed * self._alone)
        slowdown = np.maximum(full - 1, 0.0) / np.maximum(np.array(slots) - 1, 1)
        curves = Curves(slots, (self._alone / speed).tolist(), slowdown.tolist())
        rtt = np.array([np.add(s.out, s.back) for s in self._rows.values()])
        self._shares = optimal_shares(
            self._rate, rtt, curves, sizes=self._sizes, usable=self._usable, start=self._shares
        )
        shares = dict(zip(self._rows, self._shares, strict=True))
        for sidecar in world.sidecars:
            self.push(now, sidecar, shares[sidecar.site, sidecar.service].tolist())
