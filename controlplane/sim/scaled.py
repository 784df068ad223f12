"""Policies whose pools are scaled: by the control plane's signal, or by what waits in each pool.

A pool is all instances of one site. Three ways are compared, each with the same autoscaler:

* ``scaled``: the control plane steers, and each site has as many replicas as its plan wants.
* ``scaled:queue=N``: it steers, and each site has a replica for every N requests inside.
* ``pools:N``: requests stay in their own site's pool, each at its replica with fewest inside
  (what one gateway for a pool can do at best), with a replica for every N requests inside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from controlplane.sim.autoscaler import Autoscaler, Pool, ScalingRules
from controlplane.sim.loop import ControlPlane
from controlplane.sim.policy import Policy
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.world import World
from controlplane.steering import Plan

TICK = 1.0
"""Seconds between looks at what has started and ended."""


class ScaledPools:
    """All pools of a world under way.

    Args:
        world: whose sites are the pools.
        rules: of all of them.
        since: seconds from which machines are counted.
    """

    def __init__(self, world: World, rules: ScalingRules, *, since: float) -> None:
        self._since = since
        self._world = world
        sites = np.array(world.sites)
        self.pools: dict[str, Pool] = {}
        self._scalers: dict[str, Autoscaler] = {}
        for site in dict.fromkeys(world.sites):
            members = np.flatnonzero(sites == site)
            self.pools[site] = Pool(range(int(members[0]), int(members[-1]) + 1), rules)
            self._scalers[site] = Autoscaler(rules, len(members))
        self.hours = 0.0
        """That machines were in use, over all."""

    def ready(self) -> list[int]:
        """Return the instances that may get requests, in order."""
        return sorted(each for pool in self.pools.values() for each in pool.ready)

    def pass_time(self, now: float) -> bool:
        """Start and end what is due after another `TICK`; return whether any became ready."""
        started = False
        for pool in self.pools.values():
            self.hours += pool.paid * TICK / 3600 if now > self._since else 0.0
            for instance in pool.start_due(now):
                self._world.engines[instance].revive(now)
                started = True
            for instance in list(pool.ending):
                if not self._world.outstanding[instance]:
                    pool.release(instance)
        return started

    def look(self, now: float, values: Mapping[str, float], target: float) -> bool:
        """Let every autoscaler look; a pool without a value stays. Return whether any shrank."""
        before = len(self.ready())
        for site, value in values.items():
            self.pools[site].scale(now, self._scalers[site].look(now, value, target))
        return len(self.ready()) < before


class InsideMeter:
    """The number of requests inside each pool, averaged as Prometheus would."""

    def __init__(self, world: World, rules: ScalingRules) -> None:
        self._world = world
        self._seen: deque[dict[str, int]] = deque(maxlen=max(1, round(rules.averaging / TICK)))

    def read(self, pools: Mapping[str, Pool]) -> None:
        """Count once."""
        engines = self._world.engines
        self._seen.append(
            {
                site: sum(engines[each].present for each in (*pool.ready, *pool.ending))
                for site, pool in pools.items()
            }
        )

    def means(self) -> dict[str, float]:
        """Return the mean of each pool."""
        latest = self._seen[-1]
        return {site: float(np.mean([each[site] for each in self._seen])) for site in latest}


class ScaledControlPlane(ControlPlane):
    """The control plane with discovered replicas, which come and go as an autoscaler wants.

    Args:
        rules: of the pools.
        inside: requests for each replica where that is the metric; 0 for the plan's own wish.
        since: seconds from which machines are counted.
    """

    name: ClassVar[str] = "scaled"

    def __init__(
        self,
        world: World,
        telemetry: TelemetrySettings,
        *,
        rules: ScalingRules,
        seed: int,
        until: float,
        inside: float = 0.0,
        since: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(world, telemetry, seed=seed, until=until, clock=clock)
        self._every = self.period
        self.period = TICK
        self._rules = rules
        self._inside = inside
        self._meter = InsideMeter(world, rules)
        self.pools = ScaledPools(world, rules, since=since)
        self._plan: Plan | None = None
        self._due = self._look_due = 0.0

    @property
    def instance_hours(self) -> float:
        """Return the hours that machines were in use."""
        return self.pools.hours

    def start(self) -> None:
        """Begin with the first replicas of each pool."""
        self._discover(0.0, ramp=False)
        super().start()

    def tick(self, now: float) -> None:
        """Decide when it is time, and whenever replicas have come or go."""
        self._meter.read(self.pools.pools)
        changed = self.pools.pass_time(now)
        if now >= self._look_due:
            self._look_due = now + self._rules.period
            changed |= self._look(now)
        if changed:
            self._discover(now, ramp=True)
        if changed or now >= self._due:
            self._due = now + self._every
            super().tick(now)

    def note(self, plan: Plan) -> None:
        """Keep the newest plan, whose wishes are read."""
        self._plan = plan

    def _look(self, now: float) -> bool:
        if self._inside:
            return self.pools.look(now, self._meter.means(), self._inside)
        wanted = {
            group.site: float(group.patient if group.wanted is None else group.wanted)
            for group in (self._plan.scaling if self._plan is not None else ())
        }
        return self.pools.look(now, wanted, 1.0)

    def _discover(self, now: float, *, ramp: bool) -> None:
        """Have the instances that are ready in the configuration, and no others."""
        config = self.world.fleet.config
        ready = self.pools.ready()
        instances = tuple(config.instances[each] for each in ready)
        self.reconfigure(config.model_copy(update={"instances": instances}), now, ramp=ramp)
        everything = range(len(self.world.engines))
        self.telemetry.silence(ready, silent=False)
        self.telemetry.silence(set(everything) - set(ready), silent=True)


class LocalPools(Policy):
    """Each client site's requests stay in its own site's pool, which is scaled by what is inside.

    Args:
        world: as always.
        rules: of the pools.
        inside: requests for each replica.
        since: seconds from which machines are counted.
    """

    name: ClassVar[str] = "pools"

    def __init__(
        self, world: World, *, rules: ScalingRules, inside: float, since: float = 0.0
    ) -> None:
        super().__init__(world)
        self.period = TICK
        self._rules = rules
        self._inside = inside
        self._meter = InsideMeter(world, rules)
        self.pools = ScaledPools(world, rules, since=since)
        self._look_due = 0.0

    @property
    def instance_hours(self) -> float:
        """Return the hours that machines were in use."""
        return self.pools.hours

    def start(self) -> None:
        """Replace the picker by the fewest inside of the nearest pool."""
        world = self.world
        for sidecar in world.sidecars:
            nearest = min(sidecar.usable, key=sidecar.out.__getitem__)
            pool = self.pools.pools[world.sites[nearest]]

            def pick(_now: float, pool: Pool = pool) -> int:
                return min(pool.ready, key=world.outstanding.__getitem__)

            sidecar.pick = pick

    def tick(self, now: float) -> None:
        """Scale."""
        self._meter.read(self.pools.pools)
        self.pools.pass_time(now)
        if now >= self._look_due:
            self._look_due = now + self._rules.period
            self.pools.look(now, self._meter.means(), self._inside)
