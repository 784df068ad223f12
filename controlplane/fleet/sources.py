"""One source of an instance's reports: what it said last, and how far it is believed.

Faults of a source are its own: nonsense of one agent costs that agent's word, and neither what a
scrape says nor the instance's traffic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from controlplane.errors import ReportError
from controlplane.fleet import plausibility
from controlplane.fleet.rates import CounterWindow
from controlplane.fleet.trust import MIN_ANSWERS, Observation
from controlplane.model import COUNTERS, InstanceReport, Signal

FRESH_PERIODS = 3.0
"""Own reporting periods up to which a report counts in full: two may be lost or late."""
MIN_FRESH = 1.0
"""Seconds that count as fresh however often an instance reports."""
GUESSED_PERIOD = 5.0
"""Seconds between reports of a source that has reported only once."""
STRIKES = 3.0
"""Refused reports, each forgiven by four good ones, that put a source in quarantine."""
FORGIVEN = 0.25
PROBATION = 5
"""Good reports in a row that end a quarantine."""
MAX_REASON = 200
APART_BY, APART_LEAST = 0.5, 8.0
"""Fraction of the larger one, and requests, by which two sources' numbers inside are apart; less is
the second between their looks."""
APART_REPORTS = 2
"""Looks in a row at which it is too high, or too low, after which an agent's word no longer counts:
few, since what is learned from it meanwhile lasts."""
STUCK_AFTER, STUCK_REPORTS = 10.0, 5
"""Seconds and reports without any change, counters included, after which values are frozen."""
SETTLED = 3
"""Reports without change after which answers that Envoys report are of the time since."""
ANSWERED_AFTER = 5.0
"""The same while Envoys get answers, which counters would show."""
TURNS = 3.0
"""Runs backwards, each forgiven within `TURN_FORGIVEN` reports, that no restart explains."""
TURN_FORGIVEN = 20.0
UNEXPLAINED = 2.0
"""Runs backwards that one counts for where no restart explains it: a single one is a page that was
overtaken by a later one, as when two replicas read the instance while the lead changes hands."""
TURNS_OVER = 60.0
"""Seconds of counters that only grow after which they are believed again."""
RESTARTED = 0.1
"""Fraction of its former value below which a counter that ran backwards has begun again; another
process behind the same address has counted about as much."""

FEW_REQUESTS = 30.0
"""Requests, or seconds, that an engine may have counted since it restarted."""
_REQUESTS = frozenset(
    {
        *(Signal.COMPLETED, Signal.FAILED, Signal.LATENCY_COUNT),
        *(Signal.TTFT_COUNT, Signal.QUEUE_COUNT),
    }
)
_INSIDE = frozenset({Signal.RUNNING, Signal.WAITING})
GAUGES = frozenset({Signal.RUNNING, Signal.WAITING, Signal.KV_USE})
LOAD = GAUGES | {Signal.SLOTS, Signal.THROUGHPUT} | COUNTERS
"""What a page says of requests, which Envoys see as well."""
RELIED_ON = frozenset(
    {
        *(Signal.RUNNING, Signal.WAITING, Signal.KV_USE),
        *(Signal.COMPLETED, Signal.LATENCY_SUM, Signal.LATENCY_COUNT),
    }
)
"""Signals whose disappearance changes what can be known of an instance."""
_NOTHING: frozenset[Signal] = frozenset()
_READINESS = {True: "is ready", False: "is not ready"}


class SourceState:
    """What one source says of one instance.

    Args:
        report: its first.
        period: seconds between its reports where that is known.
    """

    def __init__(self, report: InstanceReport, *, period: float | None) -> None:
        self.report = report
        self.period = GUESSED_PERIOD if period is None else period
        self.window = CounterWindow()
        self.quarantine = ""
        """Why it is not believed at all; empty if it is."""
        self.doubt = ""
        """Why its account of requests is not believed; empty if it is."""
        self.contradicted = ""
        """Why what the instance itself says counts instead; empty if it does not."""
        self.vanished: tuple[Signal, ...] = ()
        """Signals that steering relies on, which it gave and gives no longer."""
        self.spoke_at = -math.inf
        """When a report of it was last taken."""
        self.struck_at = -math.inf
        """When one was last refused."""
        self._gave: frozenset[Signal] = _NOTHING
        self._strikes = 0.0
        self._good = 0
        self._apart = 0
        """Reports in a row above what the instance itself says; below it if negative."""
        self._compared_at = -math.inf
        self._turns = 0.0
        self._turned_at = -math.inf
        self._account: dict[Signal, float] = {}
        self._same_since = report.at
        self._same_count = 0
        self._answered = math.inf
        """Answers that Envoys had when the values had stood still for some reports."""

    def fresh_for(self, expiry: float) -> float:
        """Return the seconds that its last report counts in full."""
        return max(min(FRESH_PERIODS * self.period, expiry / 2), min(MIN_FRESH, expiry / 2))

    def strike(self, reason: str, *, now: float) -> None:
        """Count a report that cannot be."""
        self.struck_at = now
        self._strikes = min(self._strikes + 1, STRIKES)
        self._good = 0
        if self._strikes >= STRIKES:
            self.quarantine = reason[:MAX_REASON]

    def forgive(self) -> bool:
        """Count a good report; return whether it ends a quarantine."""
        self._strikes = max(0.0, self._strikes - FORGIVEN)
        self._good += 1
        if not self.quarantine or self._good < PROBATION:
            return False
        self.quarantine = ""
        self._strikes = 0.0
        return True

    def compare(self, own: InstanceReport) -> None:
        """Hold the last report against *own*, what the instance itself says at about that time."""
        if self.report.ready != own.ready:
            self.contradicted = (
                f"an agent says that it {_READINESS[self.report.ready]}, its own metrics that it"
                f" {_READINESS[own.ready]}; its own metrics count"
            )
            return
        if not self._apart:
            self.contradicted = ""
        both = _INSIDE & self.report.signals.keys() & own.signals.keys()
        if not both or own.at <= self._compared_at:
            return  # each look at the instance is one witness, however often an agent reports
        self._compared_at = own.at
        said = math.fsum(self.report.signals[signal] for signal in both)
        true = math.fsum(own.signals[signal] for signal in both)
        if abs(said - true) <= max(APART_LEAST, APART_BY * max(said, true)):
            self._apart, self.contradicted = 0, ""
            return
        step = 1 if said > true else -1
        # One that swings about the truth is late, not wrong.
        self._apart = self._apart + step if self._apart * step >= 0 else step
        if abs(self._apart) >= APART_REPORTS:
            self.contradicted = (
                f"an agent says that {said:.0f} requests are inside, its own metrics {true:.0f};"
                " its own metrics count"
            )

    def count(self, report: InstanceReport, *, shortest: float) -> bool:
        """Add the counters; return whether the engine restarted.

        Raises:
            ReportError: they grew faster than anything can.
        """
        window = self.window
        growth = window.growth(report.signals)
        self._turns = max(0.0, self._turns - TURNS / TURN_FORGIVEN)
        if self.doubt and report.at - self._turned_at > TURNS_OVER:
            self.doubt = ""
        if growth and min(growth.values()) < 0:
            return self._turn(report, growth)
        if window.vanished(report.signals):
            window.restart(report.signals, at=report.at)
            self._gave = _NOTHING
            return True
        try:
            plausibility.require_growth(growth, elapsed=window.elapsed(report.at))
        except ReportError:
            # If the jump was real after all, the next report continues from here.
            window.restart(report.signals, at=report.at)
            raise
        late = plausibility.late_growth(
            window.appeared(report.signals), elapsed=window.elapsed(report.at)
        )
        window.add(report.signals, at=report.at, shortest=shortest, growth={**growth, **late})
        return False

    def _turn(self, report: InstanceReport, growth: Mapping[Signal, float]) -> bool:
        """Judge counters that ran backwards: a restart, or several processes in turn."""
        behind = [signal for signal, gain in growth.items() if gain < 0]
        # Tokens and seconds may soon be many again; requests say best.
        reporting = [signal for signal in behind if signal in _REQUESTS] or behind
        restarted = all(
            report.signals[signal]
            <= max(RESTARTED * (report.signals[signal] - growth[signal]), FEW_REQUESTS)
            for signal in reporting
        )
        self._turns += 1.0 if restarted else UNEXPLAINED
        self._turned_at = report.at
        self.window.restart(report.signals, at=report.at)
        if self._turns >= TURNS:
            self.doubt = (
                "its counters run backwards: several processes answer behind one address; "
                "set PROMETHEUS_MULTIPROC_DIR, or scrape each by itself"
            )
        return restarted and not self.doubt

    def accept(self, report: InstanceReport, *, first: bool, observed: Observation | None) -> None:
        """Remember *report* as the last."""
        before = self.report
        if not first:
            # An outage is no period: one gap counts for at most a few.
            gap = min(report.at - before.at, 4 * self.period) - self.period
            self.period += 0.3 * gap
        given = RELIED_ON.intersection(report.signals)
        if given != self._gave:
            self._gave |= given
            # A counter may create its series when it first counts: its absence is no sign, unless
            # the engine's table says that it should be there.
            self.vanished = tuple(
                signal
                for signal in sorted(self._gave - given)
                if not report.empty and (signal not in COUNTERS or signal in report.missing)
            )
        elif self.vanished:
            self.vanished = ()
        before_account, self._account = self._account, _account(report)
        if first or before_account != self._account:
            self._same_since, self._same_count = report.at, 0
            self._answered = math.inf
        else:
            self._same_count += 1
            if self._same_count == SETTLED:
                # Envoys report later than the page: what ended before is reported by now.
                self._answered = observed.answered if observed is not None else 0.0
        self.report = report

    def disbelieved(self, observed: Observation | None) -> tuple[frozenset[Signal], str]:
        """Return the signals that Envoys' observations or the source itself refute, and why."""
        if self.doubt:
            return LOAD, self.doubt
        still = self.report.at - self._same_since
        signals = self.report.signals
        if (
            self._same_count < STUCK_REPORTS
            or still < ANSWERED_AFTER
            or COUNTERS.isdisjoint(signals)
        ):
            return _NOTHING, ""
        if observed is not None and observed.answered - self._answered >= MIN_ANSWERS:
            return LOAD, f"its values have stood still for {still:.0f} s, Envoys get answers"
        if still < STUCK_AFTER:
            return _NOTHING, ""
        inside = signals.get(Signal.RUNNING, 0.0) + signals.get(Signal.WAITING, 0.0)
        if inside > 0 and (observed is None or observed.in_progress < 0.5):
            return GAUGES, (
                f"claims {inside:.0f} requests inside that have stood still for {still:.0f} s, "
                "no Envoy waits for one"
            )
        return _NOTHING, ""


def _account(report: InstanceReport) -> dict[Signal, float]:
    """Return what moves with requests; power and temperature move without any."""
    return {signal: value for signal, value in report.signals.items() if signal in LOAD}
