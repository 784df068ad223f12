"""A fleet, a schedule of requests for it, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from testbed.demo.records import Record
from testbed.fakes.engine import Curve
from testbed.tools.lone_envoys import (
    Balancing,
)

BASE, CROWDING = 0.30, 0.03
"""Seconds of a mean request alone at speed 1, and what each request in the batch adds."""
FLEET: Mapping[str, Sequence[tuple[float, int]]] = {
    "north": ((1.6, 8), (0.6, 4), (1.0, 2)),
    "south": ((1.0, 8), (0.6, 2), (1.6, 4)),
    "east": ((0.6, 8), (1.0, 4), (1.6, 2)),
    "west": ((1.6, 4), (0.6, 2), (1.0, 8)),
}
"""Site -> speed and slots of its instances."""


def curves() -> Mapping[str, Curve]:
    """Return instance -> how fast it really is."""
    return {
        f"{site}-{number}": Curve(BASE / speed, CROWDING / speed, slots)
        for site, machines in FLEET.items()
        for number, (speed, slots) in enumerate(machines)
    }


@dataclass(frozen=True, slots=True)
class Trial:
    """A schedule."""

    length: float = 60.0
    """Seconds of arrivals."""
    slow_at: float = 30.0
    """Seconds from the first of them to the slowdown."""
    timeout: float = 30.0
    """Seconds that a client waits for the end of an answer."""
    utilisation: float = 0.65
    """Of what all instances could serve before the slowdown."""
    seed: int = 1

    @property
    def rate(self) -> float:
        """Return the requests a second of all sites, mean."""
        return self.utilisation * math.fsum(curve.capacity for curve in curves().values())


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the requests of one trial."""

    balancing: Balancing
    records: Sequence[Record]
    began_at: float
    """On the clock of the records."""
    timeout: float

    @property
    def failed(self) -> int:
        """Count the requests that were not answered."""
        return sum(not record.answered for record in self.records)

    @property
    def late(self) -> float:
        """Return the 99th percentile of the seconds that requests were sent after they were due."""
        return percentile([record.late for record in self.records], 0.99)

    def latencies(self, start: float = 0.0, end: float = math.inf) -> Sequence[float]:
        """Return the seconds of the requests that came from *start* to *end* of the schedule.

        One that was not answered counts as the timeout, however soon it failed.
        """
        return [
            record.latency if record.answered else max(self.timeout, record.latency)
            for record in self.records
            if start <= record.started_at - self.began_at < end
        ]


def percentile(latencies: Sequence[float], share: float) -> float:
    """Return the smallest latency that *share* of all do not exceed."""
    return sorted(latencies)[math.ceil(share * len(latencies)) - 1]
