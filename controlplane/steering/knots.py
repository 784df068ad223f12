"""Tables of rising values, in which a load, a number or a price is looked up.

Fleets have thousands of rows, each of which is searched dozens of times in a decision, so all rows
are searched together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.intp]

KNOTS: Array = np.concatenate(
    [
        np.linspace(0.0, 0.5, 11),
        np.linspace(0.5, 0.8, 16)[1:],
        np.linspace(0.8, 1.1, 31)[1:],
        np.array([1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0]),
    ]
)
"""Loads, as shares of capacity, at which prices are tabulated."""

WIDTHS: Array = np.diff(KNOTS)

_BINS = 200.0
"""Parts of a capacity, each less than half as wide as knots are apart, by which the knot below a
load is looked up."""
_FIRST_KNOT: Places = np.maximum(
    KNOTS.searchsorted((np.arange(int(_BINS * KNOTS[-1]) + 1) - 1e-6) / _BINS, side="right") - 1, 0
)
"""The last knot below each bin; the knot of a load in it is this one or the next."""


def knot_below(share: Array) -> Places:
    """Return the last of `KNOTS` that is not above each *share* of a capacity, but never the last.

    Below the first it is the first. A bin says it up to one, which is quicker than a search.
    """
    bins = np.fmin(share, KNOTS[-1]) * _BINS
    place = _FIRST_KNOT.take(bins.astype(np.intp), mode="clip")
    place += share >= KNOTS.take(place + 1)
    below: Places = np.minimum(place, len(KNOTS) - 2)
    return below


@dataclass(frozen=True, slots=True)
class Ladders:
    """Rising values of several rows, all searched together by halves.

    A call for each row would cost more than its search.
    """

    padded: Array
    """The rows one after another, each filled up with infinity to `width` values."""
    rows: int
    width: int

    @staticmethod
    def of(values: Array) -> Ladders:
        """Prepare *values*, (rows, count), for searches."""
        rows, count = values.shape
        width = 1 << count.bit_length()
        padded = np.full((rows, width), np.inf)
        padded[:, :count] = values
        return Ladders(padded.ravel(), rows, width)

    def count(self, wanted: Array) -> Places:
        """Return how many values of its row are not above each of *wanted*, (rows, m)."""
        first = (np.arange(self.rows) * self.width - 1)[:, None]
        found = np.broadcast_to(first, wanted.shape).copy()
        step = self.width // 2
        while step:
            found += step * (self.padded.take(found + step) <= wanted)
            step //= 2
        return found - first
