"""What work will cost in the coming period, given how full each instance is now.

The stationary curve answers for the long run; weights live for about a period, in which a backlog
matters more than the mean. Two facts join the two:

* The number inside follows dn/dt = (a - G(n)) / s, with G the inverse of the stationary curve:
  the pointwise stationary fluid flow approximation (Wang, Tipper and Banerjee 1996). It ends at
  the stationary number, and may exceed capacity for a while.
* Along that path, what one more request costs everybody until the memory of it is gone has the
  closed form (n - n*) / (G(n) - a*), where a* is the load of the long run and n* its number.
  For M/M/1 this is (n + 1) / (mu - lambda), the exact price of the dispatching rule that improves
  on fixed shares (Krishnan 1990); at n = n* it is the stationary marginal cost.

So old information fades by itself: the longer the period and the older the state, the nearer the
prices are to the stationary ones, and shares never herd towards what was idle a while ago.
"""

from __future__ import annotations

import numpy as np

from controlplane.steering.latency import KNOTS, Array, Curves, Levels, PriceTable

_STEPS = 6
"""Steps in which a period is integrated."""

STRETCH = 2.0
RESTED = 0.85
_FULLEST = 0.98
"""Largest share of capacity that the long run is taken to be at."""


def advance(
    curves: Curves,
    levels: Levels,
    *,
    number: Array,
    work: Array,
    pace: Array,
    duration: Array,
) -> Array:
    """Give the number inside after *duration* at offered *work*.

    Arrays have shape (instances, m), *pace* and *duration* (instances, 1); *curves* is a column.
    """
    load = levels.load(number)
    slope = curves.pole_marginal(load)
    settled = curves.pole_number(work)
    highest = np.where(work < _FULLEST * curves.capacity, settled, np.inf)
    # Exponential Euler, which no step size makes unstable; it may not pass where it settles.
    step = slope * -np.expm1(-duration / (pace * slope))
    moved = number + (work - load) * step
    moved = np.where(work < load, np.maximum(moved, settled), np.minimum(moved, highest))
    return np.maximum(moved, 0.0)


def price_period(
    curves: Curves,
    *,
    number: Array,
    age: Array,
    inflow: Array,
    planned: Array,
    pace: Array,
    period: float,
) -> tuple[PriceTable, Array]:
    """Give the prices of work over the coming *period*, and the numbers inside at its start.

    Args:
        curves: of the instances.
        number: (instances,): requests inside when last seen; not a number when unknown.
        age: (instances,): seconds since then.
        inflow: (instances,): work that has been arriving since then.
        planned: (instances,): work of the long run, the stationary optimum.
        pace: (instances,): mean seconds that a request takes alone.
        period: seconds that the shares will be used.
    """
    columns = curves.column()
    levels = Levels.of(curves)
    capacity = curves.capacity[:, None]
    rest = np.minimum(planned[:, None], RESTED * capacity)
    rest_number = columns.pole_number(rest)
    rest_price = columns.pole_marginal(rest)
    seen = np.where(np.isnan(number), rest_number[:, 0], number)[:, None]
    span = age[:, None] / 2.0
    start = seen
    for _ in range(2):
        start = advance(
            columns,
            levels,
            number=start,
            work=inflow[:, None],
            pace=pace[:, None],
            duration=span,
        )
    start = np.where(np.isnan(number)[:, None], rest_number, start)
    work = KNOTS[None, :] * capacity
    inside = np.broadcast_to(start, work.shape).copy()
    total = np.zeros(work.shape)
    step = np.full((len(pace), 1), STRETCH * period / _STEPS)
    for index in range(_STEPS + 1):
        load = levels.load(inside)
        apart = load - rest
        near = np.abs(apart) < 2e-3 * capacity
        chord = (inside - rest_number) / np.where(near, 1.0, apart)
        price = np.where(near, rest_price, np.maximum(chord, 1.0))
        total += price * (0.5 if index in (0, _STEPS) else 1.0)
        inside = advance(
            columns, levels, number=inside, work=work, pace=pace[:, None], duration=step
        )
    return PriceTable.of(curves.capacity, total / _STEPS), start[:, 0]
