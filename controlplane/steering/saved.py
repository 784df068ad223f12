"""Numbers of a document that another process wrote, or another version, or a broken disk."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from controlplane.steering.latency import Array

MOST = 1e12
"""Beyond any number of requests, tokens or seconds that is learned."""


def read_number(value: Any, *, least: float = 0.0) -> float:
    """Return a saved number.

    Raises:
        ValueError, TypeError: it is none, is not finite, is less than *least* or beyond `MOST`.
    """
    number = float(value)
    if not (math.isfinite(number) and least <= number <= MOST):
        raise ValueError(f"{number} is not from {least:g} to {MOST:g}")
    return number


def read_array(value: Any, *, like: Array, least: float = 0.0) -> Array:
    """Return a saved array.

    Args:
        value: numbers; none where there is no number.
        like: an array of its shape; only where it is not a number may *value* be none.
        least: of all numbers.

    Raises:
        ValueError, TypeError: it is none.
    """
    found = np.array(value, dtype=float)  # none becomes not a number
    missing = np.isnan(found)
    if found.shape != like.shape or (missing & ~np.isnan(like)).any():
        raise ValueError(f"an array of {found.shape} where one of {like.shape} is expected")
    known = found[~missing]
    if ((known < least) | (known > MOST)).any():
        raise ValueError(f"numbers that are not from {least:g} to {MOST:g}")
    return found
