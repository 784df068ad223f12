"""Devices of a class: each with a model, a battery and a link of its own.

One entry of the configuration stands for all of them. Each has an Envoy, which asks the device's
own model or what its link reaches; while the link is away nothing reaches the Envoy either, and
its agent is silent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.instances import SimEngine

GRACE = 3.0
"""Seconds that a device may take to hear that its battery is low: a report, a cycle, a push."""

Spans = tuple[tuple[float, float], ...]
"""(start, end) pairs in order of time, in seconds, that do not overlap."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device, as it truly is and will be."""

    engine: EngineSpec
    """What serves its own model."""
    charge: float = 1.0
    """Of its battery at the start, 0 to 1."""
    drain: float = 0.0
    """Charge that a second of its own model's work takes, off mains."""
    mains: Spans = ()
    """When it is on mains."""
    away: Spans = ()
    """When its link is away."""


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """All devices behind one instance of a device site."""

    instance: str
    devices: tuple[DeviceSpec, ...]
    recharge: float = 0.0005
    """Charge a second on mains."""
    agents: bool = True
    """Whether each has an agent; without, their batteries and engines are unknown."""


class Device:
    """One device under way."""

    __slots__ = (
        "_charged_at",
        "_low_since",
        "_recharge",
        "broken",
        "charge",
        "column",
        "engine",
        "envoy",
        "floor",
        "linked",
        "linked_since",
        "spec",
        "under_way",
    )

    def __init__(
        self,
        envoy: str,
        spec: DeviceSpec,
        engine: SimEngine,
        *,
        column: int,
        floor: float,
        recharge: float,
    ) -> None:
        self.envoy = envoy
        """Id of its Envoy and of its agent."""
        self.spec = spec
        self.engine = engine
        self.column = column
        """Index of the instance that stands for its own model."""
        self.floor = floor
        """Charge below which its own model is kept for what nothing else answers."""
        self.charge = spec.charge
        self.linked = True
        self.linked_since = -inf
        self.under_way: set[int] = set()
        """Requests that its Envoy has sent over the link and that are not answered yet."""
        self.broken = 0
        """Requests that its own model got below the floor while the link was there."""
        self._recharge = recharge
        self._charged_at = 0.0
        self._low_since = inf

    def is_on_mains(self, now: float) -> bool:
        """Return whether it is on mains."""
        return lies_within(self.spec.mains, now)

    def is_low(self, now: float) -> bool:
        """Return whether its battery is in use and below the floor."""
        return self.charge < self.floor and not self.is_on_mains(now)

    def charge_up(self, now: float) -> None:
        """Bring the charge to *now*; called about once a second."""
        if self.is_on_mains(now):
            self.charge = min(1.0, self.charge + self._recharge * (now - self._charged_at))
        self._charged_at = now
        self._note_low(now)

    def spend(self, now: float, work: float, *, chosen: bool) -> bool:
        """Charge the battery with *work* seconds at speed 1 of its own model.

        With *chosen*, the model is the first place asked, not one that others' failures left.
        Returns whether it is on battery.
        """
        if self.is_on_mains(now):
            return False
        if chosen and self.linked and max(self._low_since, self.linked_since) + GRACE < now:
            self.broken += 1
        self.charge = max(0.0, self.charge - self.spec.drain * work / self.engine.spec.speed)
        self._note_low(now)
        return True

    def _note_low(self, now: float) -> None:
        if not self.is_low(now):
            self._low_since = inf
        elif self._low_since == inf:
            self._low_since = now


def lies_within(spans: Spans, now: float) -> bool:
    """Return whether *now* is in one of *spans*."""
    place = bisect_right(spans, (now, inf)) - 1
    return place >= 0 and now < spans[place][1]


def next_start(spans: Spans, now: float) -> float:
    """Return when the next of *spans* begins after *now*; infinite if none does."""
    place = bisect_right(spans, (now, inf))
    return spans[place][0] if place < len(spans) else inf


def draw_spans(rng: np.random.Generator, *, share: float, length: float, until: float) -> Spans:
    """Draw spans that take *share* of the time to *until*, each *length* seconds in the mean.

    They come and go at random, and have done so for long when the run begins.
    """
    if share <= 0:
        return ()
    if share >= 1:
        return ((0.0, inf),)
    gap = length * (1.0 - share) / share
    now = 0.0 if rng.random() < share else float(rng.exponential(gap))
    spans = []
    while now < until:
        end = now + float(rng.exponential(length))
        spans.append((now, end))
        now = end + float(rng.exponential(gap))
    return tuple(spans)


def merge_spans(some: Spans, other: Spans) -> Spans:
    """Return the spans that cover what either covers."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted((*some, *other)):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def put_own_second(
    weights: Sequence[tuple[int, int, int]], own: int
) -> Sequence[tuple[int, int, int]]:
    """Return (instance, weight, priority) triples with *own* as the second priority.

    They are what `controlplane.resources.low_battery` makes of an assignment.
    """
    others = [entry for entry in weights if entry[0] != own]
    mine = [entry for entry in weights if entry[0] == own]
    if not mine or not others or mine[0][2] > min(priority for _, _, priority in others):
        return weights
    levels = sorted({priority for _, _, priority in others})
    placed = [(own, mine[0][1], 1)]
    for item, weight, priority in others:
        level = levels.index(priority)
        placed.append((item, weight, level + 1 if level else 0))
    return sorted(placed, key=lambda entry: entry[2])
