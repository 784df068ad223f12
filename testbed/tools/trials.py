"""A fleet, a schedule of requests for it, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from testbed.demo.records import Record
from testbed.fakes.engine import Curve
from testbed.tools.lone_envoys import Balancing


@dataclass(frozen=True, slots=True)
class Setting:
    """Instances and where they are, clients, and what goes wrong."""

    fleet: Mapping[str, Sequence[tuple[float, int]]]
    """Site -> speed and slots of its instances."""
    clients: Mapping[str, float]
    """Site -> its clients' part of all requests."""
    rtt: Mapping[frozenset[str], float]
    """Two sites -> seconds."""
    slowed: Mapping[str, float]
    """Instance -> share of its machine that a training job takes from the middle of the trial on.
    """
    base: float = 0.30
    """Seconds of a mean request alone at speed 1."""
    crowding: float = 0.03
    """Seconds that each request in the batch adds."""

    def curves(self) -> Mapping[str, Curve]:
        """Return instance -> how fast it really is."""
        return {
            f"{site}-{number}": Curve(self.base / speed, self.crowding / speed, slots)
            for site, machines in self.fleet.items()
            for number, (speed, slots) in enumerate(machines)
        }


TWELVE = Setting(
    {
        "north": ((1.6, 8), (0.6, 4), (1.0, 2)),
        "south": ((1.0, 8), (0.6, 2), (1.6, 4)),
        "east": ((0.6, 8), (1.0, 4), (1.6, 2)),
        "west": ((1.6, 4), (0.6, 2), (1.0, 8)),
    },
    {"north": 0.4, "south": 0.3, "east": 0.2, "west": 0.1},
    {
        frozenset(pair): rtt
        for pair, rtt in zip(
            combinations(("north", "south", "east", "west"), 2),
            (0.015, 0.030, 0.040, 0.020, 0.035, 0.025),
            strict=True,
        )
    },
    {"south-2": 0.6, "west-2": 0.6},
)
"""Twelve instances at four sites."""

_EIGHT = ("north", "south", "east", "west", "coast", "hills", "lakes", "plain")
_SPEEDS, _SLOTS = (1.6, 0.6, 1.0), (8, 2, 4, 8, 4)
FORTY = Setting(
    {
        site: tuple(
            (_SPEEDS[(place + number) % len(_SPEEDS)], _SLOTS[(2 * place + number) % len(_SLOTS)])
            for number in range(5)
        )
        for place, site in enumerate(_EIGHT)
    },
    dict(zip(_EIGHT, (0.28, 0.2, 0.15, 0.12, 0.1, 0.07, 0.05, 0.03), strict=True)),
    {
        frozenset((_EIGHT[one], _EIGHT[other])): 0.005 * (1 + (3 * one + 5 * other) % 8)
        for one, other in combinations(range(len(_EIGHT)), 2)
    },
    {"north-0": 0.6, "east-4": 0.6, "coast-2": 0.6, "west-3": 0.6, "plain-1": 0.6},
    base=1.05,
    crowding=0.105,
)
"""Forty instances at eight sites. Requests take 3.5 times as long, so that they come as often."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A schedule for a setting."""

    setting: Setting = TWELVE
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
        return self.utilisation * math.fsum(
            curve.capacity for curve in self.setting.curves().values()
        )


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
