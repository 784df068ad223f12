"""How an engine's metric names are written down: rules, aliases and what is expected of them.

A rename in an engine must never turn steering off in silence: every signal has all the names it
ever had, newest first, and a signal that an engine should give and does not is named in the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from controlplane.model import COUNTERS, Signal


class Merge(StrEnum):
    """How several series of one instance become one value."""

    SUM = "sum"
    """Requests of data parallel engines."""
    MAX = "max"
    """Fractions: the fullest engine refuses first."""
    MODEL = "model"
    """Sums per label ``model``, of which the largest: in an ensemble every step counts the same
    request again."""
    DEVICE = "device"
    """The largest of each accelerator, added up: pods that share one, and slices of one, each
    repeat what the whole draws."""


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
    labels: tuple[str, ...] = ()
    """Labels that the next two ask for; of several names for one label, the first present."""
    values: frozenset[str] = frozenset()
    """Only series in which the label has one of these count; empty takes all."""
    but: frozenset[str] = frozenset()
    """Only series in which the label has none of these count."""
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Labels with patterns (``*``), of which one must match."""
    unless: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Labels with patterns of which none may match."""
    scale: float = 1.0
    """Factor to SI units."""
    also: tuple[str, ...] = ()
    """Further metrics that are added where present."""
    less: str = ""
    """A metric that is subtracted where present: a part that another signal counts."""
    times: str = ""
    """A metric that the value is multiplied by: a pool's average to its total."""
    free: str = ""
    """A metric of what is left: the value is the used fraction of the fullest slice of a device."""
    merge: Merge | None = None
    """Where it differs from the rule's."""


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
class Loaded:
    """A metric whose labels say which models an engine holds; its value is when that was so."""

    name: str
    holds: tuple[str, ...]
    """Labels with names, commas between."""
    most: str
    """Label with how many it holds at most."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Everything that is known of one engine's metrics."""

    rules: tuple[Rule, ...]
    readiness: tuple[Readiness, ...] = ()
    names: frozenset[str] = frozenset()
    """Every name that the rules read."""
    distinct: bool = True
    """Whether the names say this engine from all others."""
    marks: tuple[str, ...] = ()
    """Beginnings of names that only this engine has."""
    loaded: Loaded | None = None
    """Where it says which models it holds."""


def rule(
    signal: Signal,
    *aliases: Alias | str,
    merge: Merge = Merge.SUM,
    expected: Expected = Expected.NEVER,
) -> Rule:
    """Return a rule, with the names that collectors make of its aliases."""
    named = tuple(Alias(alias) if isinstance(alias, str) else alias for alias in aliases)
    relayed = tuple(
        other for alias in named for other in _relayed(alias, counter=signal in COUNTERS)
    )
    return Rule(signal, named + relayed, merge, expected)


def _relayed(alias: Alias, *, counter: bool) -> Iterator[Alias]:
    """Yield the names under which collectors pass a name with a colon on.

    OpenTelemetry turns the colon into an underscore; Ray does so too and writes its own prefix,
    and its older versions leave out a counter's ``_total``.
    """
    if ":" not in alias.name:
        return
    yield _renamed(alias, "", "relayed by a collector")
    yield _renamed(alias, "ray_", "")
    if counter and alias.name.endswith("_total"):
        bare = replace(alias, name=alias.name.removesuffix("_total"))
        yield _renamed(bare, "ray_", "")


def _renamed(alias: Alias, prefix: str, was: str) -> Alias:
    def rename(name: str) -> str:
        return f"{prefix}{name.replace(':', '_')}" if name else ""

    return replace(
        alias,
        name=rename(alias.name),
        was=alias.was or was,
        also=tuple(rename(name) for name in alias.also),
        less=rename(alias.less),
        times=rename(alias.times),
    )


def mean(
    total: Signal,
    count: Signal,
    *names: Alias | str,
    scale: float = 1.0,
    expected: Expected = Expected.NEVER,
) -> tuple[Rule, Rule]:
    """Return the rules for the sum and the count of a histogram or summary."""
    named = [Alias(name) if isinstance(name, str) else name for name in names]
    return (
        rule(
            total,
            *(replace(alias, name=f"{alias.name}_sum", scale=scale) for alias in named),
            expected=expected,
        ),
        rule(
            count,
            *(replace(alias, name=f"{alias.name}_count") for alias in named),
            expected=expected,
        ),
    )


def read_names(rules: Iterable[Rule], readiness: Iterable[Readiness]) -> frozenset[str]:
    """Return every metric that *rules* and *readiness* read."""
    names: set[str] = {ready.name for ready in readiness}
    for each in rules:
        for alias in each.aliases:
            names |= {alias.name, *alias.also, alias.less, alias.times, alias.free}
    return frozenset(names - {""})
