"""Tables out of the operator's configuration (``telemetry.dialects``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from controlplane.config.dialects import Dialect as Settings
from controlplane.config.dialects import MetricSource
from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Dialect,
    Expected,
    Merge,
    Readiness,
    Rule,
    read_names,
)
from controlplane.telemetry.engines.machine import MACHINE, OUR_READINESS
from controlplane.telemetry.engines.tables import DIALECTS, TABLES
from controlplane.telemetry.limits import SHARES

_PAIRS = {
    "latency": (Signal.LATENCY_SUM, Signal.LATENCY_COUNT),
    "ttft": (Signal.TTFT_SUM, Signal.TTFT_COUNT),
    "queue": (Signal.QUEUE_SUM, Signal.QUEUE_COUNT),
}
_SINGLE = (
    *(Signal.RUNNING, Signal.WAITING, Signal.KV_USE, Signal.SLOTS, Signal.UTILISATION),
    *(Signal.MEMORY, Signal.TRAINING, Signal.POWER, Signal.THROUGHPUT, Signal.COMPLETED),
    *(Signal.FAILED, Signal.PROMPT_TOKENS, Signal.OUTPUT_TOKENS),
)


def build_dialects(settings: Mapping[str, Settings]) -> Mapping[str, Dialect]:
    """Return the table of every engine and of every dialect in *settings*."""
    return {**TABLES, **{name: build_dialect(each) for name, each in settings.items()}}


def build_dialect(settings: Settings) -> Dialect:
    """Return the table that *settings* write down.

    What they name is expected: its absence is reported, counters once the instance was used.
    """
    own = {rule.signal: rule for rule in _rules(settings)}
    base = DIALECTS[settings.like] if settings.like is not None else None
    rest = base.rules if base is not None else MACHINE
    # A signal of the base is only expected as long as the other half of a pair is its own too.
    rules = (*own.values(), *(rule for rule in rest if rule.signal not in own))
    readiness = tuple(
        Readiness(source.metric, f"{source.metric} is 0") for source in settings.ready
    ) + (base.readiness if base is not None else (OUR_READINESS,))
    marks = tuple(dict.fromkeys(alias.name for rule in own.values() for alias in rule.aliases)) + (
        base.marks if base is not None else ()
    )
    return Dialect(rules, readiness, read_names(rules, readiness), distinct=False, marks=marks)


def _rules(settings: Settings) -> Iterator[Rule]:
    for signal in _SINGLE:
        sources: tuple[MetricSource, ...] = getattr(settings, signal.value)
        if sources:
            merge = _merge(signal)
            aliases = tuple(_alias(source) for source in sources)
            yield Rule(signal, aliases, merge, _expected(signal))
    for name, (total, count) in _PAIRS.items():
        sources = getattr(settings, name)
        if sources:
            aliases = tuple(_alias(source) for source in sources)
            yield Rule(
                total,
                tuple(replace(each, name=f"{each.name}_sum") for each in aliases),
                Merge.SUM,
                Expected.USED,
            )
            yield Rule(
                count,
                tuple(replace(each, name=f"{each.name}_count", scale=1.0) for each in aliases),
                Merge.SUM,
                Expected.USED,
            )


def _merge(signal: Signal) -> Merge:
    if signal is Signal.POWER:
        return Merge.DEVICE
    return Merge.MAX if signal in SHARES else Merge.SUM


def _expected(signal: Signal) -> Expected:
    return Expected.ALWAYS if signal in _GAUGES else Expected.USED


_GAUGES = frozenset(_SINGLE[:9])


def _alias(source: MetricSource) -> Alias:
    return Alias(
        source.metric,
        scale=source.unit,
        also=source.plus,
        where=tuple(source.where.items()),
        unless=tuple(source.unless.items()),
        merge=Merge(source.merge) if source.merge is not None else None,
    )
