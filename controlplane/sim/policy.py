"""What every way of choosing has in common: it is bound to a world and may push weights to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from controlplane.sim.sidecars import Sidecar
from controlplane.sim.world import World

WEIGHT_SUM = 10_000
"""What a baseline's weights add up to."""


class Policy(ABC):
    """A way of choosing, bound to one world."""

    name: ClassVar[str]
    period: float = 1.0
    """Seconds between ticks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pushes: list[float] = []
        """Instants at which some sidecar got new weights."""

    @property
    def instance_hours(self) -> float:
        """Return the hours that machines were in use; not a number where none comes or goes."""
        return float("nan")

    @abstractmethod
    def start(self) -> None:
        """Set the sidecars up before the first request."""

    def tick(self, now: float) -> None:  # noqa: B027 -- those who decide once need none
        """Decide again; called each period."""

    def push(self, now: float, sidecar: Sidecar, shares: Sequence[float]) -> None:
        """Turn shares by instance into weights and push them when they differ."""
        weights = integer_weights(shares)
        if sidecar.push(weights) and (not self.pushes or self.pushes[-1] != now):
            self.pushes.append(now)

    def push_all(self, now: float, shares: Sequence[float]) -> None:
        """Push the same shares, restricted to what serves them, to all sidecars."""
        for sidecar in self.world.sidecars:
            usable = set(sidecar.usable)
            self.push(now, sidecar, [s if i in usable else 0 for i, s in enumerate(shares)])

    def true_capacity(self) -> list[float]:
        """Return the mean requests a second that each instance sustains, as it is at the start."""
        fleet = self.world.fleet
        rates = {stream.service: 0.0 for stream in fleet.streams}
        for stream in fleet.streams:
            rates[stream.service] += stream.rate
        total = sum(rates.values()) or 1.0
        busy = np.zeros(len(self.world.engines))
        for service, rate in rates.items():
            busy += rate / total / np.array(fleet.capacities(service))
        return [float(rate) for rate in 1 / busy]


def integer_weights(shares: Sequence[float]) -> tuple[tuple[int, int, int], ...]:
    """Round shares to (instance, weight, priority 0); what rounds to 0 is left out."""
    total = sum(shares)
    if total <= 0:
        return ()
    rounded = [(i, round(share / total * WEIGHT_SUM)) for i, share in enumerate(shares)]
    return tuple((i, weight, 0) for i, weight in rounded if weight > 0)
