"""Values as documents of the API write them."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
"""A mapping that JSON can hold."""


def seconds(value: float | None) -> float | None:
    """Return *value*, seconds, to the microsecond."""
    return None if value is None else round(value, 6)


def instant(at: float | None, epoch: float) -> float | None:
    """Return *at*, an instant of the clock, in seconds since 1970."""
    return None if at is None else round(at + epoch, 6)
