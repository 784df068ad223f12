"""What to refuse when there is more to do than can be done; knows no fleet, no names, no time.

Above capacity every queue grows, whoever waits in it, so shares alone cannot keep a sensitive
service's latency. Then a part of the tolerant requests is refused at the Envoys, at once, instead
of being kept waiting for ever.

How much is taken from what is seen, not from learned capacities, which are worst known in
overload: as much is let in as is being completed, more while few wait and less while many do
(a proportional controller around the measured throughput).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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


@dataclass(slots=True)
class Shedding:
    """What is refused, from cycle to cycle."""

    part: float = 0.0
    """Part of the tolerant requests that is refused, 0 to 1."""
    services: Flags = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """(services,): those of which a part may be refused."""
    _completed: float | None = None
    _full: int = 0
    """Cycles in a row in which too many have been waiting."""

    def observe(
        self,
        demand: Array,
        services: Flags,
        *,
        completed: float,
        number: Array,
        slots: Array,
    ) -> None:
        """Decide the part from one cycle's picture.

        Args:
            demand: (services,): requests a second that are asked for, refused ones included.
            services: (services,): which may be refused.
            completed: requests a second that instances finish; 0 when nobody says.
            number: (instances,): requests inside; not a number when unknown.
            slots: (instances,): requests that each works on at once.
        """
        self.services = services
        self._completed = (
            completed
            if self._completed is None
            else self._completed + _SMOOTH * (completed - self._completed)
        )
        known = ~np.isnan(number)
        waiting = float(np.maximum(number - slots, 0.0)[known].sum())
        room_inside = float(slots[known].sum())
        allowed = WAITING * room_inside
        self._full = self._full + 1 if waiting > FULL * room_inside else 0
        tolerant = float(demand[services].sum())
        if not (self.part > 0 or self._full >= PATIENCE) or tolerant <= 0 or self._completed <= 0:
            self.part = 0.0
            return
        room = self._completed + (allowed - waiting) / HORIZON
        wanted = min(max((float(demand.sum()) - room) / tolerant, 0.0), 1.0)
        if waiting < 0.5 * allowed:
            wanted = min(wanted, self.part - RELEASE)
        if wanted < STEP:
            self.part = 0.0
        elif abs(wanted - self.part) >= STEP:
            self.part = round(wanted, 2)

    @property
    def drops(self) -> dict[int, float]:
        """Give service -> part of its requests that is refused, where some are."""
        if self.part <= 0:
            return {}
        return dict.fromkeys(np.flatnonzero(self.services).tolist(), self.part)

    def admit(self, flow: Flow, service: Indices) -> Flow:
        """Give *flow* without what is refused; *service* is that of each row."""
        if self.part <= 0:
            return flow
        # A row without demand has no price; a trickle is harmless.
        kept = np.where(self.services[service], max(1.0 - self.part, 1e-3), 1.0)
        return replace(flow, demand=flow.demand * kept)
