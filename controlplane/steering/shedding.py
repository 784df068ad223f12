"""What to refuse when there is more to do than can be done; knows no fleet, no names, no time.

Above capacity every queue grows, anyone who waits in it, so shares alone cannot keep a sensitive
service's latency. Then a part of the tolerant requests is refused at the Envoys, at once, instead
of being kept waiting for ever.

How much is taken from what is seen, not from learned capacities, which are worst known in
overload: as much is let in as is being completed, more while few wait and less while many do
(a proportional controller around the measured throughput).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Flags, Flow, Indices

WAITING = 0.7
"""Requests that may wait, as a part of those that instances work on at once; below half of that
the refused part falls whatever is completed."""

FULL = 1.0
"""Requests waiting, likewise, at which refusing begins."""

PATIENCE = 4
"""Cycles in a row in which so many must wait: a burst passes by itself."""

RELEASE = 0.1
"""Largest fall of the refused part from one cycle to the next, while few wait."""

HORIZON = 5.0
"""Seconds in which the number waiting is led back: longer than telemetry is old."""

STEP = 0.02
"""Changes of the refused part smaller than that are not made."""

_SMOOTH = 0.3


@dataclass(frozen=True, slots=True)
class Pool:
    """Services that share instances, and these: full or not together."""

    services: Indices
    instances: Indices
    names: frozenset[str]
    """Of the services: what stays when a configuration is written in another order."""


def find_pools(names: Sequence[str], uses: Sequence[Sequence[int]]) -> tuple[Pool, ...]:
    """Group services by the instances that they *use*, directly or through one another."""
    pools: list[tuple[set[int], set[int]]] = []
    for service, instances in enumerate(uses):
        own = ({service}, set(instances))
        apart = []
        for pool in pools:
            if pool[1].isdisjoint(instances):
                apart.append(pool)
            else:
                own = (own[0] | pool[0], own[1] | pool[1])
        pools = [*apart, own]
    return tuple(
        Pool(
            np.array(sorted(services), dtype=np.intp),
            np.array(sorted(instances), dtype=np.intp),
            frozenset(names[service] for service in services),
        )
        for services, instances in pools
    )


@dataclass(slots=True)
class Valve:
    """What is refused in one pool, from cycle to cycle."""

    part: float = 0.0
    """Part of the tolerant requests that is refused, 0 to 1."""
    _completed: float | None = None
    _full: int = 0
    """Cycles in a row in which too many have been waiting."""

    def observe(
        self, *, demand: float, tolerant: float, completed: float, waiting: float, slots: float
    ) -> None:
        """Decide the part from one cycle's picture.

        Args:
            demand: requests a second that are asked for, refused ones included.
            tolerant: those of them which may be refused.
            completed: requests a second that instances finish; 0 when no one says.
            waiting: requests beyond those that are worked on.
            slots: requests that are worked on at once.
        """
        self._completed = (
            completed
            if self._completed is None
            else self._completed + _SMOOTH * (completed - self._completed)
        )
        allowed = WAITING * slots
        self._full = self._full + 1 if waiting > FULL * slots else 0
        if not (self.part > 0 or self._full >= PATIENCE) or tolerant <= 0 or self._completed <= 0:
            self.part = 0.0
            return
        room = self._completed + (allowed - waiting) / HORIZON
        wanted = min(max((demand - room) / tolerant, 0.0), 1.0)
        if waiting < 0.5 * allowed:
            wanted = min(wanted, self.part - RELEASE)
        if wanted < STEP:
            self.part = 0.0
        elif abs(wanted - self.part) >= STEP:
            self.part = round(wanted, 2)


class Shedding:
    """What is refused, pool by pool: one that is full takes nothing from another's services."""

    def __init__(self) -> None:
        self._valves: dict[frozenset[str], Valve] = {}
        self.parts: Array = np.zeros(0)
        """(services,): part of the requests that is refused."""

    def observe(
        self,
        pools: Sequence[Pool],
        demand: Array,
        tolerant: Flags,
        *,
        completed: Array,
        number: Array,
        slots: Array,
    ) -> None:
        """Decide the parts from one cycle's picture.

        Args:
            pools: every service is in one.
            demand: (services,): requests a second that are asked for, refused ones included.
            tolerant: (services,): which may be refused.
            completed: (instances,): requests a second that each finishes; 0 when no one says.
            number: (instances,): requests inside; not a number when unknown.
            slots: (instances,): requests that each works on at once.
        """
        known = ~np.isnan(number)
        waiting = np.where(known, np.maximum(number - slots, 0.0), 0.0)
        valves = {}
        self.parts = np.zeros(len(demand))
        for pool in pools:
            valves[pool.names] = valve = self._valves.get(pool.names) or self._joined(pool)
            may = pool.services[tolerant[pool.services]]
            valve.observe(
                demand=float(demand[pool.services].sum()),
                tolerant=float(demand[may].sum()),
                completed=float(completed[pool.instances].sum()),
                waiting=float(waiting[pool.instances].sum()),
                slots=float((slots * known)[pool.instances].sum()),
            )
            self.parts[may] = valve.part
        self._valves = valves

    def _joined(self, pool: Pool) -> Valve:
        """Return the valve of a pool that is new: as open as the tightest of those in it."""
        parts = [valve.part for names, valve in self._valves.items() if names & pool.names]
        return Valve(max(parts, default=0.0))

    @property
    def drops(self) -> dict[int, float]:
        """Return service -> part of its requests that is refused, where some are."""
        return {k: float(self.parts[k]) for k in np.flatnonzero(self.parts).tolist()}

    @property
    def admitted(self) -> Array:
        """Return the part of each service's requests that is not refused, (services,)."""
        # A row without demand has no price; a trickle is harmless.
        return np.maximum(1.0 - self.parts, 1e-3)

    def admit(self, flow: Flow, service: Indices) -> Flow:
        """Return *flow* without what is refused; *service* is that of each row."""
        if not self.parts.any() or len(self.parts) <= service.max(initial=-1):
            return flow
        return replace(flow, demand=flow.demand * self.admitted[service])
