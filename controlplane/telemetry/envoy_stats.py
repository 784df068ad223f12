"""What one Envoy observed on real requests, from the statistics it streams to us.

Envoys count every attempt by service, instance, status and response flags (access logger
``envoy.access_loggers.stats``) and send what was added since their last flush
(``envoy.stat_sinks.metrics_service`` with ``report_counters_as_deltas``); gauges are sent as they
stand. Measured on Envoy 1.40: every series that ever counted is in every message, zero or not,
each in a family of its own; one message holds one flush; an Envoy that ends flushes once more.

The names below are those of `controlplane.resources.names`, which builds what is read here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from controlplane.errors import ReportError
from controlplane.model import TrafficReport

PREFIX = "cats."
REQUESTS = "cats.requests"
"""Counter by service, instance, code and flags: attempts that ended."""
ANSWERS = "cats.answers"
"""Counter by service and instance: attempts with a whole answer and a status below 400."""
LATENCY = "cats.latency_us"
"""Counter: microseconds to the last byte, over the answers."""
TTFT = "cats.ttft_us"
"""Counter: microseconds to the first byte, over the answers."""
IN_PROGRESS = "cats.in_progress"
"""Gauge: attempts that have not ended."""

MAX_PAIRS = 20_000
"""Most pairs of service and instance of one Envoy; each is some 500 bytes in every message."""
MAX_LABEL = 128
"""Longest name of a service or an instance, with room above the 63 that a name may have."""
LONGEST_INTERVAL = 60.0
"""Seconds; a longer gap between two messages was a pause of the stream, not of the Envoy's
flushes, and what the next message adds was added since the flush before it."""

NOBODY = "-"
"""Value of a tag whose source is absent, such as the instance when none was chosen."""

_FAILED_FLAGS = frozenset({"UF", "UC", "UT", "LR", "UR", "UPE", "UMSDR", "UH", "UO", "SI", "DT"})
"""Response flags that say the attempt failed through the instance, its network or its queue, even
when a good status had been sent already
(https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage)."""


@dataclass(slots=True)
class _Tally:
    """What one message says of one service at one instance."""

    ended: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    """Answered with a status of 400 to 499: the client's fault, so the instance did its work."""
    answers: float = 0.0
    latency: float = 0.0
    ttft: float = 0.0
    in_progress: float = 0.0

    @property
    def silent(self) -> bool:
        return not (self.ended or self.answers or self.in_progress)


@dataclass(slots=True)
class EnvoyStats:
    """The statistics stream of one Envoy; a new stream needs a new one.

    Feed it every message in order; it remembers what stands in gauges, so that requests count as
    issued when they begin, which matters where an answer takes longer than an interval.
    """

    envoy: str
    """Node id."""
    site: str
    """Client site."""
    period: float
    """Seconds between two flushes as configured, for the interval of the first message."""
    _begun: bool = False
    _flushed_at: float | None = None
    """Time of the last flush, seconds by the Envoy's clock."""
    _interval: float = 0.0
    _standing: dict[tuple[str, str], float] = field(default_factory=dict)
    """In progress at the last flush."""
    _services: set[str] = field(default_factory=set)

    def receive(self, families: Iterable[Any], *, now: float) -> list[TrafficReport]:
        """Give the reports of one message.

        Pairs of service and instance that did nothing are left out; a service at which nothing
        happens gets one report of zero requests, without an instance, so that silence of the
        clients is told from silence of the Envoy.

        Args:
            families: ``MetricFamily`` of ``cats.envoy.v1``.
            now: when the message came; the end of its interval.

        Raises:
            ReportError: nothing an Envoy could have counted.
        """
        tallies, flushed_at = _tally(families)
        # What stands in the first message began before it; what a later one adds began since.
        first, self._begun = not self._begun, True
        interval = self._advance(flushed_at)
        reports = []
        busy = set()
        for (service, instance), tally in tallies.items():
            self._services.add(service)
            standing = self._standing.get((service, instance), tally.in_progress if first else 0.0)
            self._standing[service, instance] = tally.in_progress
            if tally.silent and not standing:
                continue
            busy.add(service)
            reports.append(
                TrafficReport(
                    envoy=self.envoy,
                    site=self.site,
                    service=service,
                    instance=instance,
                    at=now,
                    interval=interval,
                    issued=max(0.0, tally.ended + tally.in_progress - standing),
                    succeeded=tally.answers + tally.refused,
                    failed=tally.failed,
                    in_progress=tally.in_progress,
                    latency_sum=tally.latency * 1e-6,
                    latency_count=tally.answers,
                    ttft_sum=tally.ttft * 1e-6,
                )
            )
        reports += [
            TrafficReport(self.envoy, self.site, service, "", now, interval, issued=0.0)
            for service in sorted(self._services - busy)
        ]
        return reports

    def _advance(self, flushed_at: float | None) -> float:
        """Give the seconds that the message covers."""
        if flushed_at is None:
            return self._interval or self.period
        last, self._flushed_at = self._flushed_at, flushed_at
        passed = 0.0 if last is None else flushed_at - last
        if passed == 0.0 and last is not None and self._interval:
            return self._interval  # a flush in several messages
        self._interval = passed if 0.0 < passed <= LONGEST_INTERVAL else self.period
        return self._interval


def _tally(families: Iterable[Any]) -> tuple[dict[tuple[str, str], _Tally], float | None]:
    """Add up a message's series; give them by service and instance, and the time of the flush."""
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    flushed_at: float | None = None
    for name, metric in _series(families):
        if flushed_at is None:
            flushed_at = metric.timestamp_ms / 1000.0
        value = _value(name, metric)
        if not value and name != IN_PROGRESS:
            continue  # most series of most flushes; a pair is known by its gauge
        labels = {label.name: label.value for label in metric.label}
        service, instance = labels.get("service", NOBODY), labels.get("instance", NOBODY)
        if service == NOBODY:
            continue
        if len(service) > MAX_LABEL or len(instance) > MAX_LABEL:
            raise ReportError(f"a name of more than {MAX_LABEL} characters in {name}")
        tally = tallies[service, "" if instance == NOBODY else instance]
        if len(tallies) > MAX_PAIRS:
            raise ReportError(f"more than {MAX_PAIRS} pairs of service and instance")
        _count(tally, name, labels, value)
    return tallies, flushed_at


def _series(families: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for family in families:
        if family.name in _READ:
            for metric in family.metric:
                yield family.name, metric


_READ = frozenset({REQUESTS, ANSWERS, LATENCY, TTFT, IN_PROGRESS})


def _value(name: str, metric: Any) -> float:
    value: float = metric.gauge.value if name == IN_PROGRESS else metric.counter.value
    if not (math.isfinite(value) and value >= 0):
        raise ReportError(f"{name} is {value:g}")
    return value


def _count(tally: _Tally, name: str, labels: dict[str, str], value: float) -> None:
    if name == REQUESTS:
        tally.ended += value
        if _failed(labels):
            tally.failed += value
        elif labels.get("code", "").startswith("4"):
            tally.refused += value
    elif name == ANSWERS:
        tally.answers += value
    elif name == LATENCY:
        tally.latency += value
    elif name == TTFT:
        tally.ttft += value
    elif value < _WRAPPED:
        tally.in_progress += value


_WRAPPED = 2.0**62
"""A gauge above this has been subtracted from once too often; it stands for nothing."""


def _failed(labels: dict[str, str]) -> bool:
    """Whether the attempts of a series failed.

    A status of 500 or more, 429 (the instance is full), or a flag of `_FAILED_FLAGS`. A client
    that leaves is nobody's failure: such an attempt has neither, and no answer.
    """
    code, flags = labels.get("code", ""), labels.get("flags", NOBODY)
    return code == "429" or code.startswith("5") or not _FAILED_FLAGS.isdisjoint(flags.split(","))
