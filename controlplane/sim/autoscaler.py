"""Kubernetes' autoscaler as KEDA drives it, and replicas that take a while to start.

It knows numbers only: a metric's value and its target for each replica. Where the value comes from
is the policy's choice (`controlplane.sim.scaled`).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """How pools are scaled; the defaults are those of KEDA and the horizontal pod autoscaler."""

    cold_start: float = 60.0
    """Seconds from a replica's creation to its first request: image, weights, warm-up."""
    period: float = 15.0
    """Seconds between two looks at the metric."""
    window: float = 300.0
    """Seconds whose highest wish counts when replicas are removed."""
    tolerance: float = 0.1
    """Deviation from the target, as a part of it, at which nothing is done."""
    first: int = 1
    """Replicas of each pool at the start, ready."""
    least: int = 1
    averaging: float = 60.0
    """Seconds over which the number of requests inside is averaged."""


class Autoscaler:
    """How many replicas one pool has, by the algorithm of the horizontal pod autoscaler.

    Args:
        rules: how it is set up.
        most: replicas that the pool may have.
    """

    def __init__(self, rules: ScalingRules, most: int) -> None:
        self._rules = rules
        self._most = most
        # As Kubernetes' does, it begins as if what there is had just been wished for.
        self._wishes: deque[tuple[float, int]] = deque([(0.0, rules.first)])
        self.replicas = rules.first

    def look(self, now: float, value: float, target: float) -> int:
        """Return the number of replicas after a look at a metric.

        Args:
            now: seconds; never falls.
            value: of the metric, over the pool.
            target: of the metric, for each replica (``AverageValue``).
        """
        rules = self._rules
        wish = self.replicas
        if abs(value / (target * self.replicas) - 1.0) > rules.tolerance:
            wish = math.ceil(value / target - 1e-9)
        wish = min(max(wish, rules.least), self._most)
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - rules.window:
            self._wishes.popleft()
        if wish > self.replicas:
            self.replicas = wish
        else:
            self.replicas = min(self.replicas, max(each for _, each in self._wishes))
        return self.replicas


class Pool:
    """The replicas of one pool: those that are ready, start, or end what they hold.

    Args:
        members: indices of the instances that it may have.
        rules: of their start.
    """

    def __init__(self, members: range, rules: ScalingRules) -> None:
        self._rules = rules
        self._idle = list(members)
        self._starting: list[tuple[float, int]] = []
        """(instant at which it is ready, instance)."""
        self.ready = [self._idle.pop(0) for _ in range(rules.first)]
        self.ending: list[int] = []

    def scale(self, now: float, replicas: int) -> None:
        """Create replicas, or remove first those that are not ready yet, then the youngest."""
        for _ in range(len(self.ready) + len(self._starting), replicas):
            if self._idle:
                self._starting.append((now + self._rules.cold_start, self._idle.pop(0)))
        for _ in range(replicas, len(self.ready) + len(self._starting)):
            if self._starting:
                self._idle.append(self._starting.pop()[1])
            elif len(self.ready) > 1:
                self.ending.append(self.ready.pop())

    def start_due(self, now: float) -> list[int]:
        """Return the instances that are ready from now on."""
        due = [instance for at, instance in self._starting if at <= now]
        self._starting = [each for each in self._starting if each[0] > now]
        self.ready += due
        return due

    def release(self, instance: int) -> None:
        """Let the machine go of an instance that has ended what it held."""
        self.ending.remove(instance)
        self._idle.append(instance)

    @property
    def paid(self) -> int:
        """Return the number of machines in use: ready, starting and ending."""
        return len(self.ready) + len(self._starting) + len(self.ending)
