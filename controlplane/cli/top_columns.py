"""The columns of each view of ``cats top``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controlplane.cli.text import milliseconds, number, percent


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a view."""

    name: str
    write: Callable[[Any], str] = str
    right: bool = True


def _known(write: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "-" if value is None else write(value)


_COUNT = _known(lambda value: f"{value:.0f}")
_SHARE = _known(lambda value: f"{value:.0%}")
COLUMNS: dict[str, tuple[Column, ...]] = {
    "instances": (
        Column("instance", right=False),
        Column("site", right=False),
        Column("phase", right=False),
        Column("run", _COUNT),
        Column("wait", _COUNT),
        Column("load", _SHARE),
        Column("req/s", _known(number)),
        Column("ms", milliseconds),
        Column("fail", _known(percent)),
        Column("age", _known(lambda value: f"{value:.1f}s")),
        Column("reports", _SHARE),
        Column("why", right=False),
    ),
    "pairs": (
        Column("service", right=False),
        Column("from", right=False),
        Column("req/s", _known(number)),
        Column("predicted", milliseconds),
        Column("observed", milliseconds),
        Column("to", right=False),
    ),
    "sites": (
        Column("site", right=False),
        Column("kind", right=False),
        Column("run", _COUNT),
        Column("wait", _COUNT),
        Column("slots", _COUNT),
        Column("Envoys", _COUNT),
        Column("lagging", _COUNT),
        Column("power W", _COUNT),
        Column("phases", right=False),
    ),
}
