"""How long requests take until what is promised has happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from controlplane.steering.latency import Array, Curves
from controlplane.steering.problem import Problem

IDLE = 1e-6


class PromiseKind(StrEnum):
    """What is promised."""

    TTFT = "ttft"
    """The beginning of the answer."""
    LATENCY = "latency"
    """Its end."""


@dataclass(frozen=True, slots=True)
class Tail:
    """How long one service's requests take until what is promised has happened."""

    service: int
    """Of the layout."""
    kind: PromiseKind
    limit: float
    """Seconds promised."""
    scale: float = 1.0
    """Mean time until then over the mean time inside that the curve says."""
    spread: float = 0.6
    """Standard deviation of its logarithm."""

    def late(self, path: Array, inside: Array) -> Array:
        """Return the probability of being late, for a mean time *inside* behind *path*, seconds."""
        room = np.maximum((self.limit - path) / (self.scale * inside), 1e-12)
        return normal_tail((np.log(room) + 0.5 * self.spread**2) / self.spread)


def normal_tail(z: Array) -> Array:
    """Return the probability that a standard normal is above *z* (Abramowitz and Stegun 26.2.17).

    The error is below 1e-7.
    """
    size = np.minimum(np.abs(z), 38.0)
    t = 1.0 / (1.0 + 0.2316419 * size)
    series = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    above = np.exp(-0.5 * size * size) / np.sqrt(2.0 * np.pi) * series
    found: Array = np.where(z >= 0.0, above, 1.0 - above)
    return found


@dataclass(frozen=True, slots=True)
class Mix:
    """Who uses the instances at some shares."""

    load: Array
    """(instances,): work."""
    rate: Array
    """(services of the layout, instances): requests a second."""
    path: Array
    """(services, instances): mean seconds of the network of these; not a number where none."""


def mix_of(problem: Problem, shares: Array, load: Array) -> Mix:
    """Return who uses the instances at *shares*, (entries,), and *load*, (instances,)."""
    flow = problem.flow
    services, instances = len(problem.layout.services), len(problem.layout.instances)
    place = problem.service_of[flow.row] * instances + flow.column
    amount = flow.demand[flow.row] * shares
    size = services * instances
    rate: Array = np.bincount(place, amount, size).reshape(services, instances).astype(np.float64)
    away = np.bincount(place, amount * (problem.rtt + problem.transfer), size)
    with np.errstate(invalid="ignore", divide="ignore"):
        path = away.reshape(services, instances) / rate
    return Mix(load, rate, np.where(rate > IDLE, path, np.nan))


def stretch(curves: Curves, load: Array) -> Array:
    """Return the time inside over the time alone at *load*, which is that of *curves*' arrays."""
    least = 1e-6 * curves.capacity
    found: Array = np.maximum(1.0, curves.number(load) / np.maximum(load, least))
    return found
