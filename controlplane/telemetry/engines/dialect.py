"""How an engine's metric names are written down: rules, aliases and what is expected of them.

A rename in an engine must never turn steering off in silence: every signal has all the names it
ever had, newest first, and a signal that an engine should give and does not is named in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controlplane.model import Signal


class Merge(StrEnum):
    """How several series of one instance become one value."""

    SUM = "sum"
    """Requests of data parallel engines."""
    MAX = "max"
    """Shares: the fullest engine refuses first."""
    MODEL = "model"
    """Sums per label ``model``, of which the largest: in an ensemble every step counts the same
    request again."""


class Expected(StrEnum):
    """When the absence of a signal is a fault."""

    ALWAYS = "always"
    USED = "used"
    """Once the instance has answered anything: engines that create a series at its first use."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Alias:
    """One name under which a signal may come."""

    name: str
    was: str = ""
    """When it was the name, in words; empty for today's."""
    label: str = ""
    """Only series in which this label has one of *values* count; empty takes all."""
    values: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()
    """Only series in which *label* has none of these count."""
    scale: float = 1.0
    """Factor to SI units."""
    also: tuple[str, ...] = ()
    """Further metrics that are added where present."""
    times: str = ""
    """A metric that the value is multiplied by: a pool's average to its total."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one signal is read; the first alias that is present decides."""

    signal: Signal
    aliases: tuple[Alias, ...]
    merge: Merge = Merge.SUM
    expected: Expected = Expected.NEVER


@dataclass(frozen=True, slots=True)
class Readiness:
    """A metric by which an engine says that it must get nothing, by the value 0."""

    name: str
    reason: str
    label: str = ""
    value: str = ""
    every: bool = False
    """True when all series must be 0, false when one is enough."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Everything that is known of one engine's metrics."""

    rules: tuple[Rule, ...]
    readiness: tuple[Readiness, ...] = ()
    rank_labels: tuple[str, ...] = ()
    """Labels of workers that all report the same requests: only rank 0 counts."""
    names: frozenset[str] = frozenset()
    """Every name that the rules read."""
    distinct: bool = True
    """Whether the names tell this engine from all others."""


def rule(
    signal: Signal,
    *aliases: Alias | str,
    merge: Merge = Merge.SUM,
    expected: Expected = Expected.NEVER,
) -> Rule:
    """Return a rule, with the names that collectors make of its aliases."""
    named = tuple(Alias(alias) if isinstance(alias, str) else alias for alias in aliases)
    # Collectors that speak OpenTelemetry or Ray turn the colon into an underscore.
    relayed = tuple(
        Alias(
            alias.name.replace(":", "_"),
            was=alias.was or "relayed by a collector",
            label=alias.label,
            values=alias.values,
            but=alias.but,
            scale=alias.scale,
            also=tuple(name.replace(":", "_") for name in alias.also),
        )
        for alias in named
        if ":" in alias.name
    )
    return Rule(signal, named + relayed, merge, expected)


def mean(
    total: Signal,
    count: Signal,
    *names: Alias | str,
    scale: float = 1.0,
    expected: Expected = Expected.NEVER,
) -> tuple[Rule, Rule]:
    """Read the sum and the count of a histogram or summary."""
    named = [Alias(name) if isinstance(name, str) else name for name in names]
    return (
        rule(
            total,
            *(Alias(f"{alias.name}_sum", alias.was, scale=scale) for alias in named),
            expected=expected,
        ),
        rule(
            count,
            *(Alias(f"{alias.name}_count", alias.was) for alias in named),
            expected=expected,
        ),
    )
