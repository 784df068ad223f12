"""Attempts that hang: begun, perhaps with headers, and open for longer than any answer explains.

An attempt that has not ended is in no count of answers or failures, and its age is not reported.
But of all that are open, at most those begun since an instant are younger than it: the others are
older, whichever they are. Those older than ten mean answers, and than three of the slowest second
of answers of the last minutes, hang. A queue that only grew long shows in its answers' latencies
and counts for nothing, whatever its length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from controlplane.model import FailureClass, TrafficReport

LEAST_AGE = 1.0
"""Seconds below which no attempt hangs, however fast answers are."""

_MEANS, _PEAKS = 10.0, 3.0
"""Mean answers, and means of the slowest interval, that an attempt may take."""

_MEMORY = 300.0
"""Seconds after which a latency counts for a third, and so does what hung and shows no longer."""

_SPARE = 3.0
"""Attempts that may be older still where answers come, as a few answers are of any heavy tail."""

_STEPS = 8.0
"""Instants that are remembered per age looked for, at most."""

_INTERVALS_TO_LIVE = 1.5
"""Own intervals after which it is not known what an Envoy still waits for."""

_CUT = (FailureClass.UNANSWERED, FailureClass.LATE)


@dataclass(slots=True)
class Latencies:
    """How long answers took in the last minutes."""

    _at: float = -math.inf
    _sum: float = 0.0
    _count: float = 0.0
    _peak: float = 0.0

    def add(self, report: TrafficReport) -> None:
        """Add the answers of a report."""
        if report.latency_count <= 0:
            return
        decay = 1.0
        if report.at > self._at:
            decay = math.exp((self._at - report.at) / _MEMORY)
            self._at = report.at
        self._sum = self._sum * decay + report.latency_sum
        self._count = self._count * decay + report.latency_count
        self._peak = max(self._peak * decay, report.latency_sum / report.latency_count)

    @property
    def longest(self) -> float | None:
        """Return the seconds that an answer may take; None while there was none."""
        if self._count <= 0:
            return None
        return max(_MEANS * self._sum / self._count, _PEAKS * self._peak)


@dataclass(slots=True)
class _Gauge:
    """What one Envoy waits for."""

    at: float
    interval: float
    open: float


@dataclass(slots=True)
class HungAttempts:
    """The attempts of one service that hang at one instance."""

    hung: float = 0.0
    """Now, at least."""
    _at: float = -math.inf
    _hangs: bool = False
    _latencies: Latencies = field(default_factory=Latencies)
    _gauges: dict[str, _Gauge] = field(default_factory=dict)
    """Of the Envoys that wait for anything, in the order of their reports."""
    _open: float = 0.0
    _begun: float = 0.0
    """Attempts begun since the first report."""
    _history: list[tuple[float, float]] = field(default_factory=list)
    """Instants and what had been begun by then."""

    def add(self, report: TrafficReport, service: Latencies) -> tuple[float, float]:
        """Count a report of any Envoy.

        Args:
            report: of this service and instance.
            service: latencies of the service at all instances, this report's among them.

        Returns:
            The attempts that were found to hang by it, and those of the attempts which it counts
            as cut or late that had been found before.
        """
        self._latencies.add(report)
        self._count(report)
        before, self.hung = self.hung, min(self.hung, self._open)
        ended = before - self.hung
        known = [each for each in (self._latencies.longest, service.longest) if each is not None]
        found = 0.0
        if known:
            age = max(LEAST_AGE, report.interval, *known)
            if len(self._gauges) > (report.envoy in self._gauges):
                age += report.interval  # what others wait for is known as of their last reports
            older = self._older(report.at, age)
            if older <= 0:
                # All that is open may have begun just now: nothing speaks for the former count.
                self.hung *= math.exp(-max(report.at - self._at, 0.0) / _MEMORY)
            elif older > (self.hung if self._hangs else max(self.hung, _SPARE)):
                found = older - self.hung
            self.hung += found
        # Of what hung and has answered nothing since, a single one is enough: a probe is alone.
        self._hangs = (self._hangs or found > 0) and report.latency_count <= 0
        self._at = max(self._at, report.at)
        cut = sum(report.failures.get(kind, 0.0) for kind in _CUT)
        return found, min(ended, cut)

    def part(self, report: TrafficReport) -> float:
        """Return how many of the attempts that are open by *report* hang."""
        return self.hung * report.in_progress / self._open if self._open > 0 else 0.0

    def _count(self, report: TrafficReport) -> None:
        """Follow what is open and what was begun."""
        self._prune(report.at)
        last = self._gauges.pop(report.envoy, None)
        old = 0.0 if last is None else last.open
        if report.in_progress > 0:
            self._gauges[report.envoy] = _Gauge(report.at, report.interval, report.in_progress)
        # From 0 once nothing is open, so that no rounding is left.
        self._open = self._open + report.in_progress - old if self._gauges else 0.0
        # An Envoy that is new to us may wait for what began before: its age is not known.
        unknown = report.in_progress - old if last is None else 0.0
        self._begun += max(report.issued, unknown)

    def _prune(self, now: float) -> None:
        """Forget what Envoys wait for that are late, or gone."""
        while self._gauges:
            envoy, gauge = next(iter(self._gauges.items()))
            if now - gauge.at <= _INTERVALS_TO_LIVE * gauge.interval:
                return
            self._open -= gauge.open
            del self._gauges[envoy]

    def _older(self, now: float, age: float) -> float:
        """Return how many of the open attempts are at least *age* seconds old, at the least."""
        history = self._history
        if not history or now - history[-1][0] >= age / _STEPS:
            history.append((now, self._begun))
        while len(history) > 1 and history[1][0] <= now - age:
            del history[0]
        at, begun = history[0]
        return self._open - (self._begun - begun) if at <= now - age else 0.0
