"""Devices of one class that differ: those whose battery is low leave their own model to the rest.

The plan holds the mean over all clients of a site. Envoys of devices whose battery is low get the
same weights without their own model, so that the others get as much more of it.
"""

from __future__ import annotations

import numpy as np

from controlplane.steering.latency import Array
from controlplane.steering.problem import Problem

_WHOLE = 1.0 - 1e-9

MOST = 0.97
"""Largest share of its own model that a charged device has while others of its class are low: what
those get instead is read from the weights of the other instances, which must not all be nothing."""


def shares_of_charged(problem: Problem, shares: Array) -> Array:
    """Return the shares, (entries,), of the clients whose battery is not low.

    *shares* are the mean over all clients of a row. A row that goes to its own devices alone has
    nothing else, and stays so.
    """
    flow = problem.flow
    low = problem.low[flow.column]
    if not (low > 0).any():
        return shares
    own = np.where(low > 0, shares, 0.0)
    of_charged = np.divide(own, 1.0 - low, out=np.zeros(len(own)), where=low < 1.0)
    rows = len(flow.demand)
    mean, most = np.bincount(flow.row, own, rows), np.bincount(flow.row, of_charged, rows)
    of_charged /= np.maximum(1.0, most / MOST)[flow.row]
    left = np.divide(
        1.0 - np.minimum(MOST, most), 1.0 - mean, out=np.zeros(rows), where=mean < _WHOLE
    )
    found: Array = np.where(low > 0, of_charged, shares * left[flow.row])
    return np.where((mean < _WHOLE)[flow.row], found, shares)


def shares_of_all(problem: Problem, of_charged: Array) -> Array:
    """Return the mean shares, (entries,), that come of those *of_charged* clients.

    The inverse of `shares_of_charged`. What devices with a low battery have of their own model
    alone is missing where the row has anything else: those shares cannot stay.
    """
    flow = problem.flow
    low = problem.low[flow.column]
    if not (low > 0).any():
        return of_charged
    rows = len(flow.demand)
    part = np.zeros(rows)
    np.maximum.at(part, flow.row, low)
    own = np.bincount(flow.row, np.where(low > 0, of_charged, 0.0), rows)
    others = (1.0 - part) + np.divide(part, 1.0 - own, out=np.zeros(rows), where=own < _WHOLE)
    found: Array = of_charged * np.where(low > 0, 1.0 - low, others[flow.row])
    alone = np.bincount(flow.row, low == 0, rows) == 0
    return np.where(((own < _WHOLE) | ~alone)[flow.row], found, of_charged)
