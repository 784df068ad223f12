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
from controlplane.model import NO_FAILURES, FailureClass, TrafficReport
from controlplane.telemetry.failure_classes import CUT_BY_ENVOY, failure_class

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
CLIENT_REQUESTS = "cats.client_requests"
"""Counter by service, instance, code, flags and attempts: clients' requests that ended after
several attempts, that Envoy cut, or for which there was no instance; the log of attempts knows none
of them."""

MAX_ATTEMPTS = 64
"""Attempts of one request that count; Envoy's own limits are far lower."""

MAX_PAIRS = 20_000
"""Most pairs of service and instance of one Envoy; each is some 500 bytes in every message."""
MAX_LABEL = 128
"""Longest name of a service or an instance, with room above the 63 that a name may have."""
_DRIFT = 0.01
"""Part of the time by which the least lag of a stream rises, beyond what clocks drift apart."""

LONGEST_INTERVAL = 60.0
"""Seconds; a longer gap between two messages was a pause of the stream, not of the Envoy's
flushes, and what the next message adds was added since the flush before it."""

ABSENT = "-"
"""Value of a tag whose source is absent, such as the instance when none was chosen."""


@dataclass(slots=True)
class _Tally:
    """What one message says of one service at one instance."""

    ended: float = 0.0
    failures: dict[FailureClass, float] = field(default_factory=dict)
    cut: float = 0.0
    """Attempts with a good status whose answer Envoy cut for taking too long."""
    retries: float = 0.0
    answers: float = 0.0
    latency: float = 0.0
    ttft: float = 0.0
    in_progress: float = 0.0

    @property
    def silent(self) -> bool:
        return not (self.ended or self.answers or self.in_progress or self.cut)

    def fail(self, kind: FailureClass, count: float) -> None:
        self.failures[kind] = self.failures.get(kind, 0.0) + count


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
    _least_lag: float = math.inf
    """Least seconds between a flush by the Envoy's clock and its arrival by ours."""
    _standing: dict[tuple[str, str], float] = field(default_factory=dict)
    """In progress at the last flush."""
    _services: set[str] = field(default_factory=set)
    _retries: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Service -> retries that are known and not yet taken from what was issued: a request's
    attempts are known when it ends, which may be flushes after its retries began."""

    def receive(self, families: Iterable[Any], *, now: float) -> list[TrafficReport]:
        """Return the reports of one message.

        Pairs of service and instance that did nothing are left out; a service at which nothing
        happens gets one report of zero requests, without an instance, so that silence of the
        clients is distinguished from silence of the Envoy.

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
        late = self._lateness(flushed_at, now, interval)
        reports = []
        busy = set()
        for (service, instance), tally in tallies.items():
            self._services.add(service)
            self._retries[service] += tally.retries
            standing = self._standing.get((service, instance), tally.in_progress if first else 0.0)
            self._standing[service, instance] = tally.in_progress
            if tally.silent and not standing:
                continue
            busy.add(service)
            reports.append(
                self._report(
                    service, instance, tally, standing, at=now, interval=interval, late=late
                )
            )
        reports += [
            TrafficReport(self.envoy, self.site, service, "", now, interval, issued=0.0)
            for service in sorted(self._services - busy)
        ]
        return reports

    def _report(
        self,
        service: str,
        instance: str,
        tally: _Tally,
        standing: float,
        *,
        at: float,
        interval: float,
        late: float,
    ) -> TrafficReport:
        issued = max(0.0, tally.ended + tally.in_progress - standing)
        retries = min(issued, self._retries[service])
        self._retries[service] -= retries
        tally.fail(FailureClass.UNANSWERED, tally.cut)
        failures = {kind: count for kind, count in tally.failures.items() if count}
        failed = sum(failures.values())
        client_errors = failures.get(FailureClass.CLIENT_ERROR, 0.0)
        return TrafficReport(
            envoy=self.envoy,
            site=self.site,
            service=service,
            instance=instance,
            at=at,
            interval=interval,
            issued=issued,
            succeeded=tally.answers,
            failed=failed - client_errors,
            in_progress=tally.in_progress,
            latency_sum=tally.latency * 1e-6,
            latency_count=tally.answers,
            ttft_sum=tally.ttft * 1e-6,
            failures=failures or NO_FAILURES,
            retries=retries,
            abandoned=max(0.0, tally.ended - tally.answers - failed),
            late=late,
        )

    def _lateness(self, flushed_at: float | None, now: float, interval: float) -> float:
        """Return how much longer than others the message took, by clocks that need not agree."""
        if flushed_at is None:
            return 0.0
        lag = now - flushed_at
        # Rising, so that a clock that was set back makes messages late for a while only.
        self._least_lag = min(self._least_lag + _DRIFT * interval, lag)
        return lag - self._least_lag

    def _advance(self, flushed_at: float | None) -> float:
        """Return the seconds that the message covers."""
        if flushed_at is None:
            return self._interval or self.period
        last, self._flushed_at = self._flushed_at, flushed_at
        passed = 0.0 if last is None else flushed_at - last
        if passed == 0.0 and last is not None and self._interval:
            return self._interval  # a flush in several messages
        self._interval = passed if 0.0 < passed <= LONGEST_INTERVAL else self.period
        return self._interval


def _tally(families: Iterable[Any]) -> tuple[dict[tuple[str, str], _Tally], float | None]:
    """Add up a message's series; return them by service and instance, and the time of the flush."""
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    flushed_at: float | None = None
    for name, metric in _series(families):
        if flushed_at is None:
            flushed_at = metric.timestamp_ms / 1000.0
        value = _value(name, metric)
        if not value and name != IN_PROGRESS:
            continue  # most series of most flushes; a pair is known by its gauge
        labels = {label.name: label.value for label in metric.label}
        service, instance = labels.get("service", ABSENT), labels.get("instance", ABSENT)
        if service == ABSENT:
            continue
        if len(service) > MAX_LABEL or len(instance) > MAX_LABEL:
            raise ReportError(f"a name of more than {MAX_LABEL} characters in {name}")
        tally = tallies[service, "" if instance == ABSENT else instance]
        if len(tallies) > MAX_PAIRS:
            raise ReportError(f"more than {MAX_PAIRS} pairs of service and instance")
        _count(tally, name, labels, value)
    return tallies, flushed_at


def _series(families: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for family in families:
        if family.name in _READ:
            for metric in family.metric:
                yield family.name, metric


_READ = frozenset({REQUESTS, ANSWERS, LATENCY, TTFT, IN_PROGRESS, CLIENT_REQUESTS})


def _value(name: str, metric: Any) -> float:
    value: float = metric.gauge.value if name == IN_PROGRESS else metric.counter.value
    if not (math.isfinite(value) and value >= 0):
        raise ReportError(f"{name} is {value:g}")
    return value


def _count(tally: _Tally, name: str, labels: dict[str, str], value: float) -> None:
    if name == REQUESTS:
        tally.ended += value
        kind = failure_class(labels.get("code", ""), labels.get("flags", ABSENT))
        if kind is not None:
            tally.fail(kind, value)
    elif name == CLIENT_REQUESTS:
        _count_request(tally, labels, value)
        if _is_unsent(labels):
            tally.ended += value
            tally.fail(FailureClass.REFUSED, value)
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


def _count_request(tally: _Tally, labels: dict[str, str], value: float) -> None:
    attempts = labels.get("attempts", "")
    # Not str.isdigit, which takes digits of all scripts.
    if attempts.isascii() and attempts.isdigit():
        tally.retries += max(0, min(int(attempts[:4]), MAX_ATTEMPTS) - 1) * value
    code, flags = labels.get("code", ""), labels.get("flags", ABSENT).split(",")
    if code[:1] in {"2", "3"} and not CUT_BY_ENVOY.isdisjoint(flags):
        tally.cut += value


def _is_unsent(labels: dict[str, str]) -> bool:
    """Return whether no instance was there for a request: it is demand, and no one's attempt."""
    instance, flags = labels.get("instance", ABSENT), labels.get("flags", ABSENT)
    return instance in {"", ABSENT} and "UH" in flags.split(",")
