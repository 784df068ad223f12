"""A price for the tail: what work costs the slowest hundredth of the requests, beside the mean.

The sum of all times does not see which requests are slow: a machine at half the speed of the others
makes the longest of its requests the slowest of all, and is as good as any for the mean while it
has room. So a part of the mean time of the slowest hundredth, the conditional value at risk, joins
what is minimised. With its quantile Q held it is the mean of max(T - Q, 0) over 0.01, convex in the
shares (Rockafellar and Uryasev 2000), and for times that are log-normal about their mean the excess
has the closed form of an option's price.

What a batch makes of a request counts, its wait for a slot does not: queues have their price
already, they pass, and the curve's estimate of them is the worst known part of it. Near capacity,
and while demand is bursty, they are what the tail is made of; the price ends there. So it does
where a few instances have most of the capacity: what leaves slow ones lands on these, and a wrong
estimate of one of them costs more than the tail gains.
"""

from __future__ import annotations

import numpy as np

from controlplane.steering.burst_hedging import CALM
from controlplane.steering.knots import KNOTS
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.optimiser import Indices
from controlplane.steering.promise_tails import normal_tail
from controlplane.steering.promises import LATE
from controlplane.steering.stability import calmness
from controlplane.steering.tails import SPREAD

WORTH = 0.1
"""Seconds of the mean that a second of the slowest hundredth's mean is worth."""

FEW, MANY = 16.0, 22.0
"""Equal instances that a pool's capacity amounts to, up to which the tail has no price, and from
which it has all of it."""

_TRIFLE = 1e-6
"""Load of an instance without any, as a part of its capacity."""

_HALVINGS = 24


def price_tail(
    curves: Curves, pace: Array, load: Array, *, pool_of: Indices, burstiness: float
) -> Array:
    """Return what the tail adds to the price of work, (instances, knots), never falling with load.

    Args:
        curves: of the instances.
        pace: (instances,): seconds of a request of ordinary size, alone.
        load: (instances,): work by the shares in use, by which the slowest hundredth is found.
        pool_of: (instances,): which of them share requests; -1 where none come.
        burstiness: largest factor on the demand that is reckoned with, 1 for a steady one.
    """
    surcharge: Array = np.zeros((len(pace), len(KNOTS)))
    own = np.flatnonzero(pool_of >= 0)
    if not len(own):
        return surcharge
    curves, pace = curves.of(own), pace[own]
    # Where nothing comes yet, it would come by capacity.
    load = np.maximum(load[own], _TRIFLE * curves.capacity)
    pool = pool_of[own]
    part = WORTH * _steady(burstiness) * _judge(curves.capacity, load, pool)[pool]
    if not part.any():
        return surcharge
    rate = load / pace
    slowest = _slowest(pace * _stretch(curves, load), rate, pool)[pool][:, None]
    columns = curves.column()
    work = KNOTS[None, :] * columns.capacity
    stretch = _stretch(columns, work)
    time = pace[:, None] * stretch
    score = _score(slowest, time)
    above = time * normal_tail(score - SPREAD)
    excess = above - slowest * normal_tail(score)
    # A request is late itself, and makes those late that it slows down.
    price = (excess + above * (stretch - 1.0)) / LATE
    surcharge[own] = part[:, None] * price / pace[:, None]
    return surcharge


def toll_of(surcharge: Array, load: Array, capacity: Array) -> Array:
    """Return the *surcharge* at the *load* of the long run, (instances,), for a period's prices.

    Loads of one period say little of who will be slow.
    """
    toll: Array = PriceTable.of(capacity, surcharge).evaluate(load)[1]
    return toll


def _stretch(curves: Curves, load: Array) -> Array:
    """Return the time of a request in the batch over its time alone, up to a full one's."""
    own = np.minimum(load, curves.capacity) / curves.copies
    stretch: Array = 1.0 / (1.0 - curves.slowdown * own)
    return stretch


def _score(limit: Array, time: Array) -> Array:
    """Return how many standard deviations *limit* is above the median of times of mean *time*."""
    score: Array = np.log(limit / time) / SPREAD + 0.5 * SPREAD
    return score


def _slowest(time: Array, rate: Array, pool: Indices) -> Array:
    """Return the time that a hundredth of each pool's requests exceeds, (pools,), by bisection.

    Of *time*, (instances,), the mean of *rate* requests a second.
    """
    whole = np.bincount(pool, rate)
    reach = np.exp(4.0 * SPREAD)
    low = np.full(len(whole), np.log(time.min() / reach))
    high = np.full(len(whole), np.log(time.max() * reach))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        late = np.bincount(pool, rate * normal_tail(_score(np.exp(middle)[pool], time)))
        over = late > LATE * whole
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    found: Array = np.exp(high)
    return found


def _judge(capacity: Array, load: Array, pool: Indices) -> Array:
    """Return how far each pool's tail is not one of queues or of a few instances, (pools,)."""
    room = np.maximum(np.bincount(pool, capacity), 1e-12)
    # The inverse of Herfindahl's index.
    alike = room**2 / np.maximum(np.bincount(pool, capacity**2), 1e-24)
    many = np.clip((alike - FEW) / (MANY - FEW), 0.0, 1.0)
    calm: Array = np.array([calmness(each) for each in (np.bincount(pool, load) / room).tolist()])
    return calm * many


def _steady(burstiness: float) -> float:
    """Return how far demand is steady: 1 where it is, 0 where shares lean towards capacities."""
    return min(max((CALM - burstiness) / (CALM - 1.0), 0.0), 1.0)
