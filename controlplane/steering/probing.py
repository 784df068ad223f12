"""Asking again: a few requests for instances of which too little is known to leave them out.

What gets nothing teaches nothing: an instance that was slow while it started, or before a job on
it ended, would stay left out on the word of old evidence. If it would be worth using at the pace
of others of its model, or at the one that operators wrote, it is given a trickle: enough to see
it change, so little that asking in vain costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.optimiser import Flags, Flow
from controlplane.steering.weights import LEAST_SHARE

TRICKLE = 0.2
"""Requests a second that teach enough of one instance."""

FAILING_TRICKLE = 0.08
"""The same of one that fails: each of them may be lost."""

_MOST_ROWS = 16
"""Rows that share in probing one instance: those that would gain most."""

_CLEAR = 0.5
"""Gain, as a part of what a row pays, that is worth a push by itself."""

_EQUAL = 1.0
"""Loss, as a part of what a row pays, up to which a failing instance would be used if it answered:
equal to the others, but for what its failures have made of its estimate."""


def probe(
    flow: Flow,
    prices: PriceTable,
    *,
    estimates: Sequence[Estimate],
    failure: Array | None = None,
    shares: Array,
    former: Array,
    allowed: Flags,
    most: float,
    held: bool,
) -> Array:
    """Return the part of its row's requests that each entry gets on top of *shares*, mostly 0.

    Args:
        flow: rows, entries and their costs.
        prices: of the work of the coming period.
        estimates: (instances,).
        failure: (entries,): what expected failures cost a request, weighted seconds: what fails
            may answer again.
        shares: (entries,): as decided.
        former: (entries,): what this gave the last time; what goes on stays as it is.
        allowed: (entries,): those that may get more than was decided.
        most: part of a row's requests that all its probes together may get.
        held: whether *shares* are those from before: then only what clearly pays is begun and
            nothing ends, for a push would serve nothing else.
    """
    column = flow.column
    parts = np.zeros(len(shares))
    hope = np.array([estimate.hope for estimate in estimates])
    rate = np.bincount(column, flow.demand[flow.row] * shares, len(estimates))
    failing = np.zeros(len(shares)) if failure is None else failure
    trickle = np.full(len(estimates), TRICKLE)
    trickle[column[failing > 0]] = FAILING_TRICKLE
    doubtful = (rate < 0.5 * trickle) & ((hope < 1.0) | (trickle < TRICKLE))
    if most <= 0 or not doubtful.any():
        return parts
    paid = flow.paid(shares, prices)
    hoped = flow.linear - failing + hope[column] * flow.work * prices.evaluate(flow.base)[1][column]
    gain = paid - hoped
    # One of equal instances gains nothing by itself; that it fails no longer is worth knowing.
    least = np.where(failing > 0, -_EQUAL, 0.0)
    margin = np.where(former > 0, -np.inf if held else -_CLEAR, _CLEAR if held else least)
    # What has a share of a row teaches, however few requests the row has.
    unused = shares < LEAST_SHARE
    able = np.flatnonzero(allowed & unused & doubtful[column] & (gain > margin * paid))
    able = able[np.lexsort((-gain[able], column[able]))]
    room = np.maximum(most - np.bincount(flow.row, former, len(flow.demand)), 0.0)
    for own in np.split(able, np.flatnonzero(np.diff(column[able])) + 1):
        going = own[former[own] > 0]
        if len(going):
            parts[going] = former[going]
            continue
        missing = float(trickle[column[own[0]]]) if len(own) else 0.0
        for entry in own[:_MOST_ROWS].tolist():
            row = flow.row[entry]
            if missing <= 0 or room[row] < LEAST_SHARE:
                continue
            parts[entry] = min(max(missing / flow.demand[row], LEAST_SHARE), room[row])
            room[row] -= parts[entry]
            missing = max(0.0, missing - parts[entry] * flow.demand[row])
    return parts
