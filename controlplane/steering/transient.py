"""What work will cost in the coming period, given how full each instance is now.

The stationary curve answers for the long run; weights live for about a period, in which a backlog
matters more than the mean. Two facts join the two:

* The number inside follows dn/dt = (a - G(n)) / s, with G the inverse of the stationary curve:
  the pointwise stationary fluid flow approximation (Wang, Tipper and Banerjee 1996). It ends at
  the stationary number, and may exceed capacity for a while.
* From n requests on, what one more costs everyone until the memory of it is gone has the closed
  form (n - n*) / (G(n) - a*) per unit of work, where a* is the load of the long run and n* its
  number.
  For M/M/1 this is (n + 1) / (mu - lambda), the exact price of the dispatching rule that improves
  on fixed shares (Krishnan 1990); at n = n* it is the stationary marginal cost.

The cost of a load over the period is the time spent inside meanwhile, plus what is left behind at
its end; its derivative is the price. So old information fades by itself: the longer the period
and the older the state, the nearer the prices are to the stationary ones, and shares never herd
towards what was idle a while ago.
"""

from __future__ import annotations

import numpy as np

from controlplane.steering.knots import KNOTS
from controlplane.steering.latency import Array, Curves, Levels, PriceTable

_STEPS = 6
"""Steps in which a period is integrated."""

STRETCH = 1.2
"""Periods that are looked ahead: shares are used for one, and their requests stay longer."""

RESTED = 0.85
"""Largest share of capacity at which an instance is taken to come to rest. A burst that fills the
fleet does not last; without the limit what stands in a queue would seem never to leave."""

_AT_ONCE = 200
"""Instances that are priced together: what is made in between then stays in a processor's cache."""

_FULLEST = 0.98
"""Share of capacity beyond which a number inside grows without settling."""


def advance(
    curves: Curves,
    levels: Levels,
    *,
    number: Array,
    work: Array,
    settled: Array,
    pace: Array,
    duration: Array,
) -> Array:
    """Return the number inside after *duration* at offered *work*; `settle` leads to *settled*.

    Arrays have shape (instances, m) or (instances, 1), *pace* and *duration* (instances, 1);
    *curves* is a column.
    """
    load = levels.load(number)
    target = np.minimum(work, _FULLEST * curves.capacity)
    apart = target - load
    near = np.abs(apart) < 1e-3 * curves.capacity
    chord = (settled - number) / np.where(near, 1.0, apart)
    slope = np.maximum(chord, 1.0)
    row, place = np.nonzero(near)
    if len(row):
        at = np.broadcast_to(load, near.shape)[row, place][:, None]
        slope[row, place] = curves.of(row).pole_marginal(at)[:, 0]
    # Exponential Euler along the chord: right at once, right in the end, stable at any length.
    moved = number + (work - load) * slope * -np.expm1(-duration / (pace * slope))
    highest = np.where(work < _FULLEST * curves.capacity, settled, np.inf)
    moved = np.where(work < load, np.maximum(moved, settled), np.minimum(moved, highest))
    return np.maximum(moved, 0.0)


def settle(curves: Curves, work: Array) -> Array:
    """Return the number inside that offered *work* leads to; it is the same at every step."""
    return curves.pole_number(np.minimum(work, _FULLEST * curves.capacity))


def price_period(
    curves: Curves,
    *,
    number: Array,
    age: Array,
    inflow: Array,
    planned: Array,
    pace: Array,
    period: float,
) -> PriceTable:
    """Return the prices of work over the coming *period*.

    Args:
        curves: of the instances.
        number: (instances,): requests inside when last seen; not a number when unknown.
        age: (instances,): seconds since then.
        inflow: (instances,): work that has been arriving since then.
        planned: (instances,): work of the long run, the stationary optimum.
        pace: (instances,): mean seconds that a request takes alone.
        period: seconds that the shares will be used.
    """
    parts = [
        _price(
            curves.of(own),
            number=number[own],
            age=age[own],
            inflow=inflow[own],
            planned=planned[own],
            pace=pace[own],
            period=period,
        )
        for own in np.array_split(np.arange(len(pace)), max(1, len(pace) // _AT_ONCE))
    ]
    return PriceTable.of(curves.capacity, np.concatenate(parts))


def _price(
    curves: Curves,
    *,
    number: Array,
    age: Array,
    inflow: Array,
    planned: Array,
    pace: Array,
    period: float,
) -> Array:
    """Return the prices of work, (instances, knots), as `price_period` does."""
    columns = curves.column()
    levels = Levels.of(curves)
    capacity = curves.capacity[:, None]
    rest = np.minimum(planned[:, None], RESTED * capacity)
    rest_number = columns.pole_number(rest)
    rest_price = columns.pole_marginal(rest)
    seen = np.where(np.isnan(number), rest_number[:, 0], number)[:, None]
    start = _follow(columns, levels, number=seen, work=inflow[:, None], pace=pace, duration=age)
    start = np.where(np.isnan(number)[:, None], rest_number, start)
    work = KNOTS[None, :] * capacity
    inside = start
    # Most happens in the first service times, which may be a small part of a long period.
    times = STRETCH * period * np.linspace(0.0, 1.0, _STEPS + 1) ** 2
    widths = np.diff(times, prepend=0.0, append=times[-1])
    held = np.zeros(work.shape)
    settled = settle(columns, work)
    for index in range(_STEPS + 1):
        held += inside * 0.5 * (widths[index] + widths[index + 1])
        if index < _STEPS:
            step = np.full((len(pace), 1), times[index + 1] - times[index])
            inside = advance(
                columns,
                levels,
                number=inside,
                work=work,
                settled=settled,
                pace=pace[:, None],
                duration=step,
            )
    apart = levels.load(inside) - rest
    near = np.abs(apart) < 2e-3 * capacity
    chord = (inside - rest_number) / np.where(near, 1.0, apart)
    left = np.where(near, rest_price, np.maximum(chord, 1.0))
    # The cost is the time spent inside during the period and what is left behind at its end.
    behind = pace[:, None] * 0.5 * (left[:, 1:] + left[:, :-1]) * np.diff(inside, axis=1)
    slope = (np.diff(held, axis=1) + behind) / np.diff(work, axis=1) / times[-1]
    return np.concatenate(
        [slope[:, :1], 0.5 * (slope[:, 1:] + slope[:, :-1]), slope[:, -1:]], axis=1
    )


def _follow(
    curves: Curves, levels: Levels, *, number: Array, work: Array, pace: Array, duration: Array
) -> Array:
    """Return the number inside, (instances, 1), *duration* after it was *number*."""
    settled = settle(curves, work)
    for _ in range(2):
        number = advance(
            curves,
            levels,
            number=number,
            work=work,
            settled=settled,
            pace=pace[:, None],
            duration=duration[:, None] / 2.0,
        )
    return number
