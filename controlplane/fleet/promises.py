"""What became of promises, counted from the histograms that Envoys send.

A request keeps a promise if its answer was good and in time. What failed for its client keeps
none; an attempt that failed and was made good by a retry is one answer. Minutes are kept for an
hour, so that the burn rate is known over a short and a long window (Beyer et al., The Site
Reliability Workbook, chapter 5).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.errors import ReportError
from controlplane.fleet.traffic_view import LatencyCounts, PromiseView
from controlplane.model import LatencyReport, TrafficReport

SHORT, LONG = 300.0, 3600.0
"""Seconds of the two windows."""
ALLOWED = 0.01
"""Part of the requests that may miss a promise: promises are 99th percentiles."""
_MINUTE = 60.0


@dataclass(slots=True)
class _Minute:
    """What ended in one minute."""

    at: float
    total: float = 0.0
    failed: float = 0.0
    kept: dict[str, float] = field(default_factory=dict)


class PromiseBook:
    """Counts of all services; bounded by the names of services and an hour of minutes."""

    def __init__(self) -> None:
        self._limits: dict[str, Mapping[str, float]] = {}
        self._counts: dict[str, LatencyCounts] = {}
        self._minutes: dict[str, deque[_Minute]] = {}
        self._totals: dict[str, _Minute] = {}

    def reconfigure(self, limits: Mapping[str, Mapping[str, float]]) -> None:
        """Receive what is promised: service -> kind -> seconds; the rest is forgotten."""
        self._limits = dict(limits)
        for kept in (self._counts, self._minutes, self._totals):
            for name in [name for name in kept if name not in limits]:
                del kept[name]

    def count_latencies(self, report: LatencyReport) -> None:
        """Count the answers of *report*.

        Raises:
            ReportError: its buckets are none.
        """
        require_buckets(report)
        limits = self._limits.get(report.service)
        if limits is None:
            return
        last = self._counts.get(report.service)
        if last is None or last.bounds != report.bounds:
            empty = (0.0,) * len(report.latency)
            last = LatencyCounts(report.bounds, empty, empty)
        self._counts[report.service] = LatencyCounts(
            report.bounds, _add(last.latency, report.latency), _add(last.ttft, report.ttft)
        )
        answers = sum(report.latency)
        for minute in self._current(report.service, report.at):
            minute.total += answers
            for kind, limit in limits.items():
                counts = report.ttft if kind == "ttft" else report.latency
                kept = within(report.bounds, counts, limit)
                minute.kept[kind] = minute.kept.get(kind, 0.0) + kept

    def count_failures(self, report: TrafficReport) -> None:
        """Count what failed for clients: failed attempts that no retry repeats."""
        if report.service not in self._limits:
            return
        failed = report.failed - report.retries
        if failed:
            for minute in self._current(report.service, report.at):
                minute.failed += failed

    def counts(self) -> Mapping[str, LatencyCounts]:
        """Return service -> answers by time since the beginning."""
        return dict(self._counts)

    def view(self, *, now: float) -> dict[tuple[str, str], PromiseView]:
        """Return what became of each promise, by service and kind."""
        found = {}
        for service, limits in self._limits.items():
            minutes = self._minutes.get(service, ())
            total = self._totals.get(service)
            for kind in limits:
                kept = 0.0 if total is None else total.kept.get(kind, 0.0)
                ended = 0.0 if total is None else _ended(total)
                found[service, kind] = PromiseView(
                    attainment=_attainment(minutes, kind, now - SHORT),
                    attainment_long=_attainment(minutes, kind, now - LONG),
                    kept=kept,
                    missed=max(0.0, ended - kept),
                )
        return found

    def _current(self, service: str, at: float) -> tuple[_Minute, _Minute]:
        minutes = self._minutes.setdefault(service, deque())
        if not minutes or at - minutes[-1].at >= _MINUTE:
            minutes.append(_Minute(at))
            while minutes[0].at < at - LONG - _MINUTE:
                minutes.popleft()
        return minutes[-1], self._totals.setdefault(service, _Minute(at))


def promised_limits(
    services: Collection[tuple[str, float | None, float | None]],
) -> dict[str, dict[str, float]]:
    """Return what is promised of (service, ttft, latency): service -> kind -> seconds."""
    found: dict[str, dict[str, float]] = {}
    for name, ttft, latency in services:
        limits = {k: v for k, v in (("ttft", ttft), ("latency", latency)) if v is not None}
        if limits:
            found[name] = limits
    return found


def require_buckets(report: LatencyReport) -> None:
    """Refuse what no histogram can be.

    Raises:
        ReportError: with what is wrong.
    """
    bounds = report.bounds
    if not 1 <= len(bounds) <= MOST_BUCKETS:
        raise ReportError(f"{len(bounds)} buckets; at most {MOST_BUCKETS} count")
    below = (1e-9, *bounds[:-1])
    if any(not 0 < low < high <= 1e7 for low, high in zip(below, bounds, strict=True)):
        raise ReportError("bounds of buckets that do not rise")
    for counts in (report.latency, report.ttft):
        if len(counts) != len(bounds) + 1 or not all(0 <= each <= 1e9 for each in counts):
            raise ReportError("counts that do not fit their buckets")


MOST_BUCKETS = 100


def within(bounds: Sequence[float], counts: Sequence[float], limit: float) -> float:
    """Return how many of *counts* are at most *limit*; inside a bucket they are spread evenly."""
    place = bisect_left(bounds, limit)
    kept = sum(counts[:place])
    if place == len(bounds):
        return kept
    low, high = (bounds[place - 1] if place else 0.0), bounds[place]
    return kept + counts[place] * (limit - low) / (high - low)


def _ended(minute: _Minute) -> float:
    return minute.total + max(0.0, minute.failed)


def _attainment(minutes: Collection[_Minute], kind: str, since: float) -> float | None:
    """Return the part of the requests since then that kept the promise; None without any."""
    recent = [minute for minute in minutes if minute.at > since]
    ended = sum(_ended(minute) for minute in recent)
    if ended <= 0:
        return None
    return min(1.0, sum(minute.kept.get(kind, 0.0) for minute in recent) / ended)


def _add(some: Sequence[float], more: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(some, more, strict=True))
