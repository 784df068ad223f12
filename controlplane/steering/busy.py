"""How many requests an engine works on between two looks at it."""

from __future__ import annotations

import math

from controlplane.steering.latency import Array
from controlplane.steering.observation import Gauge
from controlplane.steering.token_rates import SLOWDOWNS

NEAR = 5.0
"""Service times between two gauges up to which gauges say more than the mean number inside."""


def mean_busy(
    last: Gauge,
    gauge: Gauge,
    correction: float,
    *,
    residence: float | None,
    ratio: float,
    slots: float,
    level: float,
) -> float:
    """Return the mean number of requests worked on between two gauges.

    Under steady arrivals the number relaxes to its new level within about one service time, so
    the later gauge says more of the interval the more service times, *ratio*, fit into it. Where
    the sum of latencies is reported it gives the mean number inside directly (Little): both are
    averaged, for their errors differ; and where many service times fit into the interval, the
    load at which that number is the mean, *level*, says more than gauges.
    """
    late = _late(ratio)
    running = late * min(gauge.running * correction, slots)
    running += (1.0 - late) * min(last.running * correction, slots)
    if residence is None:
        return running
    waiting = late * gauge.waiting + (1.0 - late) * last.waiting
    short = 0.5 * running + 0.5 * min(max(residence - waiting, 0.0), slots)
    near = 1.0 / (1.0 + (ratio / NEAR) ** 2)
    return near * short + (1.0 - near) * level


def busy_level(residence: float | None, slots: float) -> float:
    """Return the mean number worked on by a queue with *residence* requests inside on average."""
    if residence is None:
        return 0.0
    low, high = 0.0, slots
    power = math.sqrt(2.0 * (slots + 1.0))
    for _ in range(24):
        middle = 0.5 * (low + high)
        rho = middle / slots
        inside = middle + (rho**power / (1.0 - rho) if rho < 1.0 else math.inf)
        low, high = (middle, high) if inside < residence else (low, middle)
    return low


def _late(ratio: float) -> float:
    """Return the weight of the later of two gauges *ratio* service times apart."""
    return 0.5 if ratio < 1e-3 else 1.0 / -math.expm1(-ratio) - 1.0 / ratio


def work_rate(busy: float) -> Array:
    """Return the work done a second by *busy* requests in progress, for each candidate slowdown."""
    rate: Array = busy / (1.0 + SLOWDOWNS * max(busy - 1.0, 0.0))
    return rate
