"""How the series of a page become the signals of an instance.

Knows nothing of HTTP, nor how any engine spells a metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from controlplane.config.engine import Engine
from controlplane.model import COUNTERS, InstanceReport, Signal, Source
from controlplane.telemetry.engines.dialect import Alias, Dialect, Expected, Merge, Readiness, Rule
from controlplane.telemetry.engines.tables import DIALECTS
from controlplane.telemetry.exposition import Sample, parse_exposition
from controlplane.telemetry.limits import LIMITS, SENTINEL, SHARES

MAX_REFUSED = 16


def parse_metrics(
    text: str, *, engine: Engine, instance: str, at: float, source: Source = Source.SCRAPE
) -> InstanceReport:
    """Read what *engine* says in *text*.

    Args:
        text: Prometheus exposition, 0.0.4 or OpenMetrics.
        engine: whose names are expected.
        instance: name in the configuration.
        at: when it was read.
        source: who read it.

    Returns:
        The signals found; ``missing`` names those that the engine should have given, ``aliases``
        the outdated names that matched, ``refused`` the values that cannot be.

    Raises:
        ReportError: the text is no exposition, or a wanted line of it is faulty.
    """
    dialect = DIALECTS[engine]
    samples = parse_exposition(text, dialect.names)
    signals: dict[Signal, float] = {}
    refused: list[str] = []
    aliases: list[str] = []
    for rule in dialect.rules:
        alias, value = _read(rule, samples, dialect.rank_labels)
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
    used = any(value > 0 for signal, value in signals.items() if signal in COUNTERS)
    missing = tuple(
        rule.signal
        for rule in dialect.rules
        if rule.signal not in signals
        and (rule.expected is Expected.ALWAYS or (used and rule.expected is Expected.USED))
    )
    if not samples:
        others = [other.value for other, its in DIALECTS.items() if _speaks(text, its)]
        if others:
            refused.append(f"these are metrics of {others[0]}, not of {engine.value}")
    not_ready = _not_ready(dialect.readiness, samples)
    return InstanceReport(
        instance=instance,
        source=source,
        at=at,
        signals=signals,
        ready=not not_ready,
        missing=missing,
        refused=tuple(refused),
        aliases=tuple(aliases),
        not_ready_reason=not_ready,
    )


def _read(
    rule: Rule, samples: Mapping[str, list[Sample]], rank_labels: tuple[str, ...]
) -> tuple[Alias | None, float]:
    for alias in rule.aliases:
        series = samples.get(alias.name)
        if series is None:
            continue
        chosen = _select(series, alias, rank_labels)
        if not chosen:
            # A counter creates its labelled series when it first counts: no series means none yet.
            if rule.signal in COUNTERS:
                return alias, 0.0
            continue
        for name in alias.also:
            chosen = chosen + _select(samples.get(name, []), alias, rank_labels)
        value = _merge(chosen, rule.merge)
        if alias.times:
            factor = samples.get(alias.times)
            if not factor:
                continue
            value *= _merge(factor, Merge.SUM)
        return alias, value * alias.scale if value < SENTINEL else value
    return None, math.nan


def _select(series: list[Sample], alias: Alias, rank_labels: tuple[str, ...]) -> list[Sample]:
    if alias.label:
        series = [
            sample
            for sample in series
            if (not alias.values or sample.labels.get(alias.label) in alias.values)
            and sample.labels.get(alias.label) not in alias.but
        ]
    if rank_labels:
        series = [
            sample
            for sample in series
            if all(sample.labels.get(label, "0") == "0" for label in rank_labels)
        ]
    return series


def _merge(series: list[Sample], merge: Merge) -> float:
    values = [sample.value for sample in series]
    # One unreadable part makes the whole unreadable: a sum without it would be a lie.
    for value in values:
        if not 0 <= value < SENTINEL:
            return value
    if len(values) == 1:
        return values[0]
    if merge is Merge.MAX:
        return max(values)
    if merge is Merge.SUM:
        return math.fsum(values)
    totals: dict[str, float] = {}
    for sample in series:
        model = sample.labels.get("model", "")
        totals[model] = totals.get(model, 0.0) + sample.value
    return max(totals.values())


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


def recognise_engine(text: str) -> Engine | None:
    """Give the engine whose metrics *text* holds; none if nobody's here, or only generic ones."""
    for engine, dialect in DIALECTS.items():
        if dialect.distinct and _speaks(text, dialect):
            return engine
    return None


def _speaks(text: str, dialect: Dialect) -> bool:
    return any(
        f"\n{rule.aliases[0].name}" in text or text.startswith(rule.aliases[0].name)
        for rule in dialect.rules
        if rule.expected is Expected.ALWAYS
    )
