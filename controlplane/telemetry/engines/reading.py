"""How the series of a page become the signals of an instance.

Knows nothing of HTTP, nor how any engine spells a metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.config.engine import Engine
from controlplane.model import COUNTERS, InstanceReport, Signal, Source
from controlplane.telemetry.engines.dialect import (
    Alias,
    Dialect,
    Expected,
    Loaded,
    Merge,
    Readiness,
    Rule,
)
from controlplane.telemetry.engines.freshness import of_now
from controlplane.telemetry.engines.recognition import marks, speaks
from controlplane.telemetry.engines.series import (
    Series,
    fullest,
    merge,
    select,
    without_own_requests,
)
from controlplane.telemetry.engines.tables import DIALECTS, TABLES
from controlplane.telemetry.exposition import Sample, parse_page
from controlplane.telemetry.limits import LIMITS, SENTINEL, SHARES

MAX_REFUSED = 16
MAX_IGNORED = 16
MAX_LOADED = 1000
"""Models of one engine that are read."""
_NO_LABELS: Mapping[str, str] = {}
_ANSWERED = (Signal.COMPLETED, Signal.LATENCY_COUNT, Signal.FAILED)


@dataclass(slots=True)
class _Reader:
    """One page under one dialect."""

    samples: Mapping[str, Series]
    labels: Mapping[str, str]
    ignored: list[str]
    _chosen: dict[str, Series] = field(default_factory=dict)

    def series(self, name: str) -> Series | None:
        """Return the series of a metric that stand for requests; None if it is absent."""
        known = self._chosen.get(name)
        if known is not None:
            return known
        found = self.samples.get(name)
        if found is None:
            return None
        kept, paths = without_own_requests(found)
        if paths:
            shown = ", ".join(sorted(set(paths))[:4])
            self.ignore(f"{name}: rows of {shown}, which are no requests")
        self._chosen[name] = kept
        return kept

    def select(self, name: str, alias: Alias) -> Series:
        """Return what *alias* selects of a metric."""
        series = self.series(name) or []
        chosen = select(series, alias, self.labels)
        if len(chosen) < len(series) and not (alias.values or alias.but or self.labels):
            left = len(series) - len(chosen)
            why = "repeat or are part of others" if not alias.where else "do not match"
            line = f"{name}: {left} of {len(series)} rows {why}"
            if line not in self.ignored:
                self.ignore(line)
        return chosen

    def ignore(self, line: str) -> None:
        """Note what was left out."""
        if len(self.ignored) < MAX_IGNORED:
            self.ignored.append(line[:200])


def parse_metrics(
    text: str,
    *,
    engine: Engine | str,
    instance: str,
    at: float,
    wall: float | None = None,
    labels: Mapping[str, str] = _NO_LABELS,
    dialects: Mapping[str, Dialect] = TABLES,
) -> InstanceReport:
    """Read what *engine* says in *text*.

    Args:
        text: Prometheus exposition, 0.0.4 or OpenMetrics.
        engine: whose names are expected.
        instance: name in the configuration.
        at: when it was read.
        wall: the same instant as Unix time, against which timestamps on the page are held; None
            ignores them.
        labels: label -> pattern with ``*``; other series are of other instances.
        dialects: the table of each engine.

    Returns:
        The signals found; ``missing`` names those that the engine should have given, ``aliases``
        the outdated names that matched, ``refused`` the values that cannot be, ``ignored`` what
        was left out.

    Raises:
        ReportError: the text is no exposition, a wanted line of it is faulty, or all of it is
            older than `MAX_AGE`.
    """
    dialect = dialects[engine]
    page = parse_page(text, dialect.names)
    samples, age, ignored = of_now(page.samples, wall)
    reader = _Reader(samples, labels, ignored)
    for line in page.repeated:
        reader.ignore(line)
    signals, refused, aliases = _read_signals(dialect, reader)
    loaded, most = _read_loaded(dialect.loaded, samples)
    # What it has loaded is there before its first request.
    samples = {name: rows for name, rows in samples.items() if not _says_loaded(dialect, name)}
    if not samples and not page.empty and not speaks(text, dialect):
        others = [str(other) for other, its in DIALECTS.items() if speaks(text, its)]
        if others:
            refused.append(f"these are metrics of {others[0]}, not of {engine!s}")
    not_ready = _not_ready(dialect.readiness, samples)
    return InstanceReport(
        instance=instance,
        source=Source.SCRAPE,
        at=at - age,
        signals=signals,
        ready=not not_ready,
        missing=_missing(
            dialect, signals, idle=page.empty or (not samples and _idle(text, dialect))
        ),
        refused=tuple(refused),
        aliases=tuple(aliases),
        not_ready_reason=not_ready,
        ignored=tuple(reader.ignored),
        empty=page.empty,
        loaded=loaded,
        max_loaded=most,
    )


def _says_loaded(dialect: Dialect, name: str) -> bool:
    return dialect.loaded is not None and dialect.loaded.name == name


def _read_loaded(
    rule: Loaded | None, samples: Mapping[str, Series]
) -> tuple[tuple[str, ...], float | None]:
    """Return which models the engine holds, and how many it can; the newest row counts."""
    rows = samples.get(rule.name, ()) if rule is not None else ()
    if rule is None or not rows:
        return (), None
    newest = max(rows, key=lambda row: row.value)
    names = [
        name.strip() for label in rule.holds for name in newest.labels.get(label, "").split(",")
    ]
    most = newest.labels.get(rule.most, "")
    held = tuple(dict.fromkeys(name for name in names if name))[:MAX_LOADED]
    return held, float(most) if most.isdecimal() and 0 < int(most) <= MAX_LOADED else None


def _read_signals(
    dialect: Dialect, reader: _Reader
) -> tuple[dict[Signal, float], list[str], list[str]]:
    signals: dict[Signal, float] = {}
    refused: list[str] = []
    aliases: list[str] = []
    for rule in dialect.rules:
        alias, value = _read(rule, reader)
        if alias is None:
            continue
        fault = _fault(rule.signal, value)
        if fault:
            if len(refused) < MAX_REFUSED:
                refused.append(f"{rule.signal.value} ({alias.name}) {fault}")
            continue
        signals[rule.signal] = min(value, 1.0) if rule.signal in SHARES else value
        if alias.was:
            aliases.append(f"{alias.name} ({alias.was})")
    return signals, refused, aliases


def _idle(text: str, dialect: Dialect) -> bool:
    """Return whether a page without any wanted series is of an engine before its first request.

    Such a page shows its process, and of the engine nothing that ever counted; one whose names
    have changed shows something else.
    """
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        if line.startswith(marks(dialect)):
            name, _, value = line.replace("{", " ").partition(" ")
            if name.endswith(_COUNTING) and value.rsplit(" ", 1)[-1] not in {"0", "0.0"}:
                return False
        elif not line.startswith(_RUNTIME):
            return False
    return True


_COUNTING = ("_total", "_count", "_sum", "_bucket")
_RUNTIME = ("process_", "python_", "go_", "promhttp_", "http_", "target_info", "up ", "scrape_")


def _missing(
    dialect: Dialect, signals: Mapping[Signal, float], *, idle: bool
) -> tuple[Signal, ...]:
    """Return what should be there; the rest appears with the first request, or its first answer."""
    if idle:
        return ()
    answered = [signals[each] for each in _ANSWERED if each in signals]
    counted = answered or [value for signal, value in signals.items() if signal in COUNTERS]
    used = any(value > 0 for value in counted)
    return tuple(
        rule.signal
        for rule in dialect.rules
        if rule.signal not in signals
        and (rule.expected is Expected.ALWAYS or (used and rule.expected is Expected.USED))
    )


def _read(rule: Rule, reader: _Reader) -> tuple[Alias | None, float]:
    for alias in rule.aliases:
        series = reader.series(alias.name)
        if series is None:
            continue
        how = alias.merge or rule.merge
        chosen = reader.select(alias.name, alias)
        if not chosen:
            # A counter creates its labelled series when it first counts: no series means none yet.
            if rule.signal in COUNTERS and not reader.labels:
                return alias, 0.0
            continue
        value = _value(chosen, alias, how, reader)
        if value is not None:
            return alias, value * alias.scale if value < SENTINEL else value
    return None, math.nan


def _value(chosen: Series, alias: Alias, how: Merge, reader: _Reader) -> float | None:
    """Return what *chosen* and the other metrics of *alias* amount to; None if one is absent."""
    if alias.free:
        return fullest(chosen, reader.select(alias.free, alias))
    value = merge(chosen, how)
    if alias.times:
        factor = reader.select(alias.times, alias)
        if not factor:
            return None
        value *= merge(factor, Merge.SUM)
    for name in alias.also:
        if more := reader.select(name, alias):
            value = _plus(value, merge(more, how), how)
    if alias.less and (less := reader.select(alias.less, alias)):
        value = max(0.0, value - merge(less, how))
    return value


def _plus(value: float, more: float, how: Merge) -> float:
    # One unreadable part makes the whole unreadable.
    for each in (value, more):
        if not 0 <= each < SENTINEL:
            return each
    return max(value, more) if how is Merge.MAX else value + more


def _fault(signal: Signal, value: float) -> str:
    """Say why *value* cannot be; empty if it can."""
    if math.isnan(value) or math.isinf(value):
        return f"is {value}"
    if value < 0:
        return f"is negative: {value:g}"
    if value >= SENTINEL:
        return f"is a sentinel: {value:g}"
    if value > LIMITS[signal]:
        return f"must lie between 0 and {1 if signal in SHARES else LIMITS[signal]:g}, is {value:g}"
    return ""


def _not_ready(rules: tuple[Readiness, ...], samples: Mapping[str, list[Sample]]) -> str:
    for rule in rules:
        values = [
            sample.value
            for sample in samples.get(rule.name, ())
            if not rule.label or sample.labels.get(rule.label) == rule.value
        ]
        if values and (max(values) if rule.every else min(values)) == 0:
            return rule.reason
    return ""
