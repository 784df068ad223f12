"""Which versions of Envoy are supported, and which of them take the same resources."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

OLDEST_SUPPORTED: Final = "1.37"
"""Minor release; the tests run each from this one on."""


class StatsLog(Enum):
    """How an Envoy names the scope of the access log's statistics, and what that log can do."""

    SCOPE = auto()
    PREFIX = auto()
    PREFIX_WITHOUT_GAUGES = auto()
    NONE = auto()
    """It has no such log."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Versions of Envoy that take the same resources."""

    since: tuple[int, int]
    """First version, major and minor."""
    role: str
    """Of the Envoys' node, and in the keys of their views; empty for the current generation."""
    log: StatsLog


CURRENT: Final = Generation((1, 39), "", StatsLog.SCOPE)
UNSUPPORTED: Final = Generation((0, 0), "envoy-unsupported", StatsLog.NONE)
"""Served without observation, as far as these Envoys accept the rest."""
GENERATIONS: Final = (
    CURRENT,
    Generation((1, 38), "envoy-1.38", StatsLog.PREFIX),
    Generation((1, 37), "envoy-1.37", StatsLog.PREFIX_WITHOUT_GAUGES),
    UNSUPPORTED,
)
"""Newest first."""
BY_ROLE: Final = {each.role: each for each in GENERATIONS if each.role}
"""Those of older Envoys, by the role in their views' keys."""


def generation_of(major: int, minor: int) -> Generation:
    """Return the generation of an Envoy's version."""
    return next(each for each in GENERATIONS if each.since <= (major, minor))
