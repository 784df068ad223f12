"""How many requests engines work on between two looks at them; every array is (intervals,)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.steering.latency import Array
from controlplane.steering.observation import REPORTED, Gauge, Seen
from controlplane.steering.token_rates import SLOWDOWNS

NEAR = 5.0
"""Service times between two gauges up to which gauges say more than the mean number inside."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """What was seen between two gauges of each of several instances; not a number where nothing."""

    span: Array
    """Seconds."""
    running: Array
    """By the later gauge."""
    waiting: Array
    last_running: Array
    """By the earlier one."""
    last_waiting: Array
    completed: Array
    """Requests a second, of ordinary size; not a number where none are known of this interval."""
    residence: Array
    """Mean number inside by the sum of latencies."""
    witness: Array
    """Mean number inside as Envoys saw it, else by the sum of latencies."""
    size: Array
    training: Array
    output: Array
    """Tokens a second; not a number where gauges are not the instance's own."""
    prompt: Array

    @staticmethod
    def of(pairs: Sequence[tuple[Gauge, Seen]]) -> Intervals:
        """Return the intervals from each earlier gauge to the one that was seen now."""
        made = np.array([_read(last, one) for last, one in pairs], dtype=np.float64)
        return Intervals(*made.reshape(-1, 12).T)

    @property
    def number(self) -> Array:
        """Return the requests inside at the later gauge."""
        number: Array = self.running + self.waiting
        return number

    @property
    def mean_number(self) -> Array:
        """Return the mean of the requests inside at both."""
        number: Array = 0.5 * (self.number + (self.last_running + self.last_waiting))
        return number

    def inside(self, correction: Array) -> Array:
        """Return the mean number inside by the sum of latencies, where that can be.

        Latencies are reported when they end, however long before they began: no more can have been
        inside than those who left and those who are still there. Where *correction* says that the
        instance claims too few, those are not known.
        """
        most = self.completed * self.span / self.size + self.number
        limited = (correction <= 1.0) & (most < self.residence)
        return np.where(limited, most, self.residence)


def _read(last: Gauge, one: Seen) -> tuple[float | None, ...]:
    gauge = one.gauge
    if gauge is None:
        raise ValueError("an interval ends with a gauge")
    span = gauge.at - last.at
    known = one.completed is not None and one.completed_at >= gauge.at - span
    own = gauge.source == last.source == REPORTED
    return (
        span,
        gauge.running,
        gauge.waiting,
        last.running,
        last.waiting,
        one.completed if known else None,
        one.residence,
        one.observed if one.observed is not None else one.residence,
        one.size,
        one.training,
        one.output if own else None,
        one.prompt,
    )


def mean_busy(
    seen: Intervals, correction: Array, *, inside: Array, ratio: Array, slots: Array
) -> Array:
    """Return the mean number of requests worked on between two gauges.

    Under steady arrivals the number relaxes to its new level within about one service time, so
    the later gauge says more of the interval the more service times, *ratio*, fit into it. Where
    the sum of latencies is reported it gives the mean number *inside* directly (Little): both are
    averaged, for their errors differ; and where many service times fit into the interval, the
    load at which that number is the mean says more than gauges.
    """
    # As scalars: what a processor makes of whole arrays differs in the last digit.
    late = np.array([_late(each) for each in ratio.tolist()])
    running = late * np.minimum(seen.running * correction, slots)
    running += (1.0 - late) * np.minimum(seen.last_running * correction, slots)
    waiting = late * seen.waiting + (1.0 - late) * seen.last_waiting
    short = 0.5 * running + 0.5 * np.minimum(np.maximum(inside - waiting, 0.0), slots)
    near = 1.0 / (1.0 + (ratio / NEAR) ** 2)
    mixed = near * short + (1.0 - near) * busy_level(inside, slots)
    return np.where(np.isnan(inside), running, mixed)


def busy_level(inside: Array, slots: Array) -> Array:
    """Return the mean number worked on by queues with so many requests *inside* on average."""
    low, high = np.zeros(len(slots)), slots
    power = np.sqrt(2.0 * (slots + 1.0))
    for _ in range(24):
        middle = 0.5 * (low + high)
        rho = middle / slots
        idle = 1.0 - rho
        queue = np.where(idle > 0.0, rho**power / np.where(idle > 0.0, idle, 1.0), np.inf)
        fewer = middle + queue < inside
        low, high = np.where(fewer, middle, low), np.where(fewer, high, middle)
    return low


def _late(ratio: float) -> float:
    """Return the weight of the later of two gauges *ratio* service times apart."""
    return 0.5 if ratio < 1e-3 else 1.0 / -math.expm1(-ratio) - 1.0 / ratio


def work_rate(busy: Array) -> Array:
    """Return the work done a second by *busy* requests in progress, (intervals, slowdowns)."""
    each = busy[:, None]
    rate: Array = each / (1.0 + SLOWDOWNS * np.maximum(each - 1.0, 0.0))
    return rate
