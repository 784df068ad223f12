"""Rates out of counts: growth of counters between reports, and a filter for noisy arrivals.

Knows numbers and instants only; no instance, no Envoy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from controlplane.fleet.trust import WINDOW
from controlplane.model import COUNTERS, Signal

SMOOTHING = 4.0
"""Seconds over which `smoothed` averages a rate that only seems to change."""
REACTION = 0.3
"""Seconds in which it follows a rate that surely changed."""
LIKELY_NOISE, SURELY_NOT = 2.0, 4.0
"""Standard deviations of a Poisson count: below the first a change is noise, beyond the second
it is real (one in 16,000 by chance), between them partly."""


def smoothed(estimate: float | None, measured: float, *, elapsed: float, interval: float) -> float:
    """Move *estimate* towards *measured*: slowly through noise, at once through a step.

    Args:
        estimate: the former result, or none.
        measured: events a second, counted over *interval*.
        elapsed: seconds since *estimate* was made.
        interval: seconds that *measured* covers, which say its noise: arrivals are taken for a
            Poisson process, whose count varies by its own square root.
    """
    if estimate is None:
        return measured
    # An interval without any event still leaves the rate uncertain by about one event.
    noise = math.sqrt(max(estimate, measured, 1.0 / interval) / interval)
    deviation = abs(measured - estimate) / noise
    real = min(1.0, max(0.0, (deviation - LIKELY_NOISE) / (SURELY_NOT - LIKELY_NOISE)))
    slow = -math.expm1(-elapsed / SMOOTHING)
    fast = -math.expm1(-elapsed / REACTION)
    return estimate + (slow + (fast - slow) * real) * (measured - estimate)


def unaccounted(arrivals: float, seen: float) -> float:
    """Return the part of a rate that another observer has not seen; 0 where chance explains it.

    Args:
        arrivals: events a second, `smoothed`.
        seen: those of them that the other saw, over `controlplane.fleet.trust.WINDOW`.
    """
    rest = arrivals - seen
    # An average that fades over some seconds has the variance of a count over twice as many.
    noise = math.sqrt(seen / (2.0 * SMOOTHING) + seen / (2.0 * WINDOW))
    return rest if rest > LIKELY_NOISE * noise else 0.0


class CounterWindow:
    """The growth of one instance's counters over adjoining intervals.

    An interval closes with the first report at least *shortest* after its start, so that two
    reports in quick succession give no wild rates and no growth is ever left out.
    A counter that runs backwards means a restart: what was counted since is unknown, and a new
    interval starts there.
    """

    __slots__ = ("_counters", "_held", "_since", "arrivals", "at", "interval", "rates")

    def __init__(self) -> None:
        self._counters: dict[Signal, float] | None = None
        self._since = 0.0
        self._held = 0.0
        self.rates: Mapping[Signal, float] = {}
        self.at = 0.0
        self.interval = 0.0
        self.arrivals: float | None = None
        """Requests a second that came in over the interval: those that left and the growth of
        those inside. Unlike completions it does not stop at the instance's capacity."""

    def elapsed(self, at: float) -> float:
        """Return the seconds from the start of the open interval to *at*."""
        return at - self._since

    def growth(self, signals: Mapping[Signal, float]) -> dict[Signal, float]:
        """Return what the counters in *signals* gained since the open interval started."""
        start = self._counters or {}
        return {
            signal: signals[signal] - before
            for signal, before in start.items()
            if signal in signals
        }

    def appeared(self, signals: Mapping[Signal, float]) -> Mapping[Signal, float]:
        """Return the counters that were not there when the open interval started: zero until then.

        Engines create a series with the first request that it counts.
        """
        if self._counters is None:
            return {}
        return {
            signal: value
            for signal, value in signals.items()
            if signal in COUNTERS and signal not in self._counters
        }

    def vanished(self, signals: Mapping[Signal, float]) -> bool:
        """Return whether all that had counted is gone: an engine that has restarted and is idle."""
        counted = [signal for signal, value in (self._counters or {}).items() if value > 0]
        return bool(counted) and not any(signals.get(signal) for signal in counted)

    def restart(self, signals: Mapping[Signal, float], *, at: float) -> None:
        """Start over: the counters in *signals* have no common past with what was seen before."""
        self._open(signals, at)
        self.rates = {}
        self.interval = 0.0
        self.arrivals = None

    def add(
        self,
        signals: Mapping[Signal, float],
        *,
        at: float,
        shortest: float,
        growth: Mapping[Signal, float] | None = None,
    ) -> bool:
        """Add a report; return whether an interval closed.

        Args:
            signals: of the report.
            at: when it was measured.
            shortest: seconds below which an interval stays open.
            growth: of *signals*, where the caller has it already.
        """
        if self._counters is None:
            self.restart(signals, at=at)
            return False
        elapsed = at - self._since
        if elapsed < shortest:
            return False
        if growth is None:
            growth = self.growth(signals)
        self.rates = {signal: gain / elapsed for signal, gain in growth.items()}
        self.at = at
        self.interval = elapsed
        left = growth.get(Signal.COMPLETED, growth.get(Signal.LATENCY_COUNT))
        self.arrivals = None
        if left is not None:
            left += growth.get(Signal.FAILED, 0.0)
            self.arrivals = max(0.0, left + _inside(signals) - self._held) / elapsed
        self._open(signals, at)
        return True

    def _open(self, signals: Mapping[Signal, float], at: float) -> None:
        self._counters = {signal: value for signal, value in signals.items() if signal in COUNTERS}
        self._held = _inside(signals)
        self._since = at


def _inside(signals: Mapping[Signal, float]) -> float:
    return signals.get(Signal.RUNNING, 0.0) + signals.get(Signal.WAITING, 0.0)
