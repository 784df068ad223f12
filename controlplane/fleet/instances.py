"""One instance between unknown and trusted: what it said, how fresh that is, what to make of it.

Every source keeps its own last report, so that a better source wins while it is fresh and a worse
one takes over when it falls silent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from controlplane.config import Config, Instance, SiteKind
from controlplane.errors import ReportError
from controlplane.fleet import plausibility, trust
from controlplane.fleet.devices import Devices
from controlplane.fleet.rates import CounterWindow, smoothed
from controlplane.fleet.view import InstanceView, Outcomes, Phase
from controlplane.model import COUNTERS, InstanceReport, Reading, ScrapeFailure, Signal, Source

FRESH_PERIODS = 3.0
"""Own reporting periods up to which a report counts in full: two may be lost or late."""
MIN_FRESH = 1.0
"""Seconds that count as fresh however often an instance reports."""
GUESSED_PERIOD = 5.0
"""Seconds between reports of a source that has reported only once."""
WINDOW_SHARE = 0.8
"""Part of the steering period that an interval of rates covers at least: reports once a period
that jitter by a fifth give one interval each."""
MIN_RAMP = 0.1
"""Part of its full share at which an instance starts."""
STRIKES = 3.0
"""Refused reports, each forgiven by four good ones, that put an instance in quarantine."""
FORGIVEN = 0.25
PROBATION = 5
"""Good reports in a row that end a quarantine."""
MAX_REASON = 200
RELIED_ON = frozenset(
    {
        Signal.RUNNING, Signal.WAITING, Signal.KV_USE, Signal.COMPLETED, Signal.LATENCY_SUM,
        Signal.LATENCY_COUNT,
    }
)  # fmt: skip
"""Signals whose disappearance changes what can be known of an instance."""
VANISHED_CONFIDENCE = 0.5
"""Factor on the confidence of an instance that gives less than it gave: its prior counts more,
its weight stays defined."""
STUCK_AFTER, STUCK_REPORTS = 10.0, 5
"""Seconds and reports without any change, counters included, after which values are frozen."""
STUCK_TRUST = 0.3
"""What frozen values deserve of the trust that they would deserve otherwise."""

RANK = {source: rank for rank, source in enumerate(Source)}
"""Smaller is better."""


class SourceReadings(Mapping[Signal, Reading]):
    """Values of one source at one instant as readings, each made when it is asked for."""

    __slots__ = ("_at", "_source", "_values")

    def __init__(self, values: Mapping[Signal, float], source: Source, at: float) -> None:
        self._values = values
        self._source = source
        self._at = at

    def __getitem__(self, signal: Signal) -> Reading:
        return Reading(self._values[signal], self._source, self._at)

    def __iter__(self) -> Iterator[Signal]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, signal: object) -> bool:
        return signal in self._values

    def __repr__(self) -> str:
        return f"SourceReadings({dict(self)!r})"


@dataclass(slots=True)
class _Said:
    """The last report of one source."""

    report: InstanceReport
    period: float
    """Seconds between its reports, on average."""
    window: CounterWindow
    gave: frozenset[Signal] = frozenset()
    """Signals on which steering relies and that this source has given before."""
    vanished: tuple[Signal, ...] = ()
    """Those of them that it gives no longer."""
    same_since: float = 0.0
    """When the values last changed."""
    same_count: int = 0
    """Reports since then that repeated them all."""

    def fresh_for(self, expiry: float) -> float:
        return max(min(FRESH_PERIODS * self.period, expiry / 2), min(MIN_FRESH, expiry / 2))


@dataclass(frozen=True, slots=True)
class Standing:
    """What an instance is worth now."""

    phase: Phase
    confidence: float
    ramp: float
    reason: str
    silent: bool
    """It once reported and no longer does."""


class InstanceState:
    """What is known of one instance."""

    def __init__(self, instance: Instance, config: Config, *, now: float, ramp: bool) -> None:
        self.instance = instance
        self.trust = 1.0
        self.distrust = ""
        self.arrivals: float | None = None
        """Requests a second it takes in by its own counters, smoothed."""
        self._added_at = now
        self._ramp_from = now if ramp else None
        self._said: dict[Source, _Said] = {}
        self._ended: dict[Source, tuple[float, float]] = {}
        """Source -> requests completed and failed by its counters, across restarts."""
        self._devices: Devices | None = None
        self._heard_at: float | None = None
        self._judged_at = now
        self._claims = trust.ClaimWindow()
        self._failure: ScrapeFailure | None = None
        self._strikes = 0.0
        self._good = 0
        self._quarantine = ""
        self._spoke_at: float | None = None
        self._phase = Phase.UNKNOWN
        self._changed_at = now
        self.reconfigure(instance, config)

    def reconfigure(self, instance: Instance, config: Config) -> None:
        """Take changed settings of the same instance."""
        self.instance = instance
        self._expiry = config.steering.expiry
        self._slow_start = config.steering.slow_start
        self._shortest = WINDOW_SHARE * config.steering.period
        kinds = {site.name: site.kind for site in config.sites}
        # One entry stands for the like instance on every device: their counters are many.
        self._counts = kinds.get(instance.site) is not SiteKind.DEVICE
        if self._counts:
            self._devices = None
        elif self._devices is None:
            self._devices = Devices()

    @property
    def heard_at(self) -> float | None:
        """Give the instant of the newest report that was believed."""
        return self._heard_at

    def fail(self, failure: ScrapeFailure) -> None:
        """Note that the instance could not be read."""
        self._failure = failure

    def apply(
        self, report: InstanceReport, *, now: float, observed: trust.Observation | None
    ) -> None:
        """Take a report into account; one that is not newer than its source's last is dropped.

        Raises:
            ReportError: it cannot be believed.
        """
        if self._devices is not None and report.reporter:
            report = self._of_device(report, self._devices, now)
        said = self._said.get(report.source)
        if said is not None and report.at <= said.report.at:
            return
        self._spoke_at = now
        try:
            plausibility.require_instant(report.at, now=now, oldest=self._expiry)
            plausibility.require_instance(report)
            window = said.window if said is not None else CounterWindow()
            restarted = self._count(report, window)
        except ReportError as error:
            self._strike(str(error))
            raise
        if window.at == report.at:
            self._add_ended(report.source, window)
        self._return(report, restarted=restarted, now=now)
        self._good_report(now)
        gap = GUESSED_PERIOD
        if said is not None:
            # An outage is no period: one gap counts for at most a few.
            gap = said.period + 0.3 * (
                min(report.at - said.report.at, 4 * said.period) - said.period
            )
        elif report.source is Source.SCRAPE and self.instance.scrape is not None:
            gap = self.instance.scrape.period
        self._said[report.source] = _following(said, report, gap, window)
        if self._heard_at is None or report.at > self._heard_at:
            self._heard_at = report.at
        self._failure = None
        self._judge(report, window, observed, now)

    def _of_device(self, report: InstanceReport, devices: Devices, now: float) -> InstanceReport:
        """Give what the whole class says after *report*; a device's lies are its own."""
        plausibility.require_instant(report.at, now=now, oldest=self._expiry)
        plausibility.require_instance(report)
        said = self._said.get(report.source)
        merged = devices.merge(report, oldest=now - self._expiry)
        if said is not None and report.at <= said.report.at:
            # Clocks of different devices need no order among themselves.
            merged = replace(merged, at=math.nextafter(said.report.at, math.inf))
        return merged

    def _count(self, report: InstanceReport, window: CounterWindow) -> bool:
        """Take the counters in; say whether the engine restarted."""
        if not self._counts:
            return False
        growth = window.growth(report.signals)
        if growth and min(growth.values()) < 0:
            window.restart(report.signals, at=report.at)
            self._strike("its counters run backwards again and again")
            return True
        try:
            plausibility.require_growth(growth, elapsed=window.elapsed(report.at))
        except ReportError:
            # If the jump was real after all, the next report continues from here.
            window.restart(report.signals, at=report.at)
            raise
        if window.add(report.signals, at=report.at, shortest=self._shortest, growth=growth) and (
            window.arrivals is not None
        ):
            self.arrivals = smoothed(
                self.arrivals,
                window.arrivals,
                elapsed=window.interval,
                interval=window.interval,
            )
        return False

    def _add_ended(self, source: Source, window: CounterWindow) -> None:
        """Add up what the counters of *source* gained over the interval that just closed."""
        rates = window.rates
        completed = rates.get(Signal.COMPLETED, rates.get(Signal.LATENCY_COUNT))
        if completed is None:
            return
        answered, failed = self._ended.get(source, (0.0, 0.0))
        gained = rates.get(Signal.FAILED, 0.0) * window.interval
        self._ended[source] = (answered + completed * window.interval, failed + gained)

    def own_outcomes(self) -> Outcomes | None:
        """Return how requests ended by the instance's own counters; None if unknown."""
        if not self._ended or self.trust < trust.BELIEVED:
            return None
        answered, failed = self._ended[min(self._ended, key=RANK.__getitem__)]
        return Outcomes(answered=answered, server_error=failed)

    def _strike(self, reason: str) -> None:
        self._strikes = min(self._strikes + 1, STRIKES)
        self._good = 0
        if self._strikes >= STRIKES:
            self._quarantine = reason[:MAX_REASON]

    def _good_report(self, now: float) -> None:
        self._strikes = max(0.0, self._strikes - FORGIVEN)
        self._good += 1
        if self._quarantine and self._good >= PROBATION:
            self._quarantine = ""
            self._strikes = 0.0
            self._ramp_from = now

    def _return(self, report: InstanceReport, *, restarted: bool, now: float) -> None:
        """Start slowly what comes back: from silence, from not being ready, from a restart."""
        if self._heard_at is None:
            # What was never silent beyond the expiry has been serving on its prior all along.
            back = self._phase is Phase.EXPIRED
        else:
            back = now - self._heard_at >= self._expiry
        woke = report.ready and any(not said.report.ready for said in self._said.values())
        if back or woke or restarted:
            self._ramp_from = now

    def _judge(
        self,
        report: InstanceReport,
        window: CounterWindow,
        observed: trust.Observation | None,
        now: float,
    ) -> None:
        elapsed = max(0.0, now - self._judged_at)
        self._judged_at = now
        self._claims.add(report.signals, elapsed=elapsed)
        if window.at == report.at:
            self._claims.count(window.rates, interval=window.interval)
        if observed is None or not self._counts:
            deserved, self.distrust = 1.0, ""
        else:
            deserved, self.distrust = trust.judge(self._claims.claims(), observed)
            stuck = self._stuck(report, observed)
            if stuck:
                deserved *= STUCK_TRUST
                self.distrust = "; ".join(filter(None, (self.distrust, stuck)))
        # After a silence, one report must not make or break it.
        self.trust = trust.moved(self.trust, deserved, elapsed=min(elapsed, trust.WINDOW))

    def _stuck(self, report: InstanceReport, observed: trust.Observation) -> str:
        """Say that the values stand still while Envoys get answers; empty if they move."""
        said = self._said[report.source]
        still = report.at - said.same_since
        if (
            said.same_count < STUCK_REPORTS
            or still < STUCK_AFTER
            or not any(signal in COUNTERS for signal in report.signals)
            or observed.answers < trust.MIN_ANSWERS
        ):
            return ""
        return f"its values have stood still for {still:.0f} s, Envoys get answers"

    def standing(self, *, now: float, answers: bool) -> Standing:
        """Judge the instance at *now*.

        Args:
            now: the instant.
            answers: whether Envoys got an answer of it lately.
        """
        ramp = self._ramp(now)
        if self._heard_at is None:
            return self._unheard(ramp, now=now, answers=answers)
        age = now - self._heard_at
        if self._quarantine and self._spoke_at is not None and now - self._spoke_at < self._expiry:
            return Standing(Phase.QUARANTINED, 0.0, ramp, self._quarantine, silent=False)
        if age >= self._expiry:
            return Standing(Phase.EXPIRED, 0.0, ramp, self._silence(age), silent=True)
        fresh_for = max(said.fresh_for(self._expiry) for said in self._said.values())
        confidence = 1.0
        if age > fresh_for:
            confidence = max(0.0, (self._expiry - age) / (self._expiry - fresh_for))
        # What still speaks, if late, is not silent: a fleet on a slow line must not freeze.
        silent = age > fresh_for and (self._spoke_at is None or now - self._spoke_at > fresh_for)
        best = self._best(now)
        if not best.report.ready:
            reason = best.report.not_ready_reason or "it says that it is not ready"
            return Standing(Phase.NOT_READY, confidence, ramp, reason, silent=silent)
        if age > fresh_for:
            return Standing(Phase.STALE, confidence, ramp, self._silence(age), silent=silent)
        if not best.report.signals:
            confidence = 0.0
        vanished = self._vanished(best)
        if vanished:
            confidence *= VANISHED_CONFIDENCE
        if ramp < 1:
            return Standing(Phase.STARTING, confidence, ramp, "it starts slowly", silent=False)
        reasons = [f"it no longer gives {', '.join(vanished)}"] if vanished else []
        reason = "; ".join(filter(None, (*reasons, self.distrust)))
        return Standing(Phase.LIVE, confidence, ramp, reason, silent=False)

    def _vanished(self, best: _Said) -> tuple[Signal, ...]:
        """Give what *best* gives no longer and no other source gives instead."""
        given = {signal for said in self._said.values() for signal in said.report.signals}
        return tuple(signal for signal in best.vanished if signal not in given)

    def _unheard(self, ramp: float, *, now: float, answers: bool) -> Standing:
        if self._quarantine:
            return Standing(Phase.QUARANTINED, 0.0, ramp, self._quarantine, silent=False)
        reason = "it never reported"
        if self._failure is not None:
            reason = f"it never reported: {self._failure.reason[:MAX_REASON]}"
        promised = self.instance.scrape is not None or self._failure is not None
        if not promised or now - self._added_at < self._expiry:
            return Standing(Phase.UNKNOWN, 0.0, ramp, reason, silent=False)
        if answers:
            return Standing(Phase.UNKNOWN, 0.0, ramp, f"{reason}; it answers", silent=False)
        return Standing(Phase.EXPIRED, 0.0, ramp, reason, silent=False)

    def _ramp(self, now: float) -> float:
        if self._ramp_from is None or self._slow_start <= 0:
            return 1.0
        return max(MIN_RAMP, min(1.0, (now - self._ramp_from) / self._slow_start))

    def _silence(self, age: float) -> str:
        reason = f"silent for {age:.0f} s"
        return f"{reason}: {self._failure.reason[:MAX_REASON]}" if self._failure else reason

    def _ordered(self, now: float) -> list[_Said]:
        """Give what was said, best last: fresh before stale, then by source, then the newest."""
        return sorted(
            self._said.values(),
            key=lambda said: (
                fresh := now - said.report.at <= said.fresh_for(self._expiry),
                -RANK[said.report.source] if fresh else said.report.at,
            ),
        )

    def _best(self, now: float) -> _Said:
        if len(self._said) == 1:
            return next(iter(self._said.values()))
        return self._ordered(now)[-1]

    def view(self, standing: Standing, *, now: float) -> InstanceView:
        """Give the frozen picture that goes with *standing*."""
        if standing.phase is not self._phase:
            self._phase = standing.phase
            self._changed_at = now
        readings: Mapping[Signal, Reading] = {}
        rates: Mapping[Signal, Reading] = {}
        interval = 0.0
        missing: tuple[Signal, ...] = ()
        if len(self._said) == 1:
            (said,) = self._said.values()
            readings, rates = _readings(said), _rates(said)
            interval = said.window.interval
            missing = _joined(said.report.missing, said.vanished)
        elif self._said:
            ordered = self._ordered(now)
            readings = {key: value for said in ordered for key, value in _readings(said).items()}
            counting = [said for said in ordered if said.window.rates]
            if counting:
                # Of one source only: rates over different intervals do not go together.
                rates, interval = _rates(counting[-1]), counting[-1].window.interval
            missing = tuple(
                signal
                for signal in _joined(ordered[-1].report.missing, ordered[-1].vanished)
                if signal not in readings
            )
        return InstanceView(
            instance=self.instance,
            phase=standing.phase,
            confidence=standing.confidence,
            ramp=standing.ramp,
            trust=self.trust,
            readings=readings,
            rates=rates,
            interval=interval,
            missing=missing,
            reason=standing.reason,
            changed_at=self._changed_at,
        )


def _following(
    before: _Said | None, report: InstanceReport, gap: float, window: CounterWindow
) -> _Said:
    """Give what a source said, with what follows from what it said before."""
    if before is None:
        gave = RELIED_ON.intersection(report.signals)
        return _Said(report, gap, window, gave, (), report.at, 0)
    gave = before.gave
    vanished: tuple[Signal, ...] = ()
    given = RELIED_ON.intersection(report.signals)
    if given != gave:
        gave = gave | given
        # A counter creates its series when it first counts: after a restart its absence is no
        # sign, unless the engine's table says that it should be there.
        vanished = tuple(
            signal
            for signal in sorted(gave - given)
            if signal not in COUNTERS or signal in report.missing
        )
    same = before.report.signals == report.signals
    return _Said(
        report,
        gap,
        window,
        gave,
        vanished,
        before.same_since if same else report.at,
        before.same_count + 1 if same else 0,
    )


def _joined(first: tuple[Signal, ...], second: tuple[Signal, ...]) -> tuple[Signal, ...]:
    return first if not second else tuple(dict.fromkeys((*first, *second)))


def _readings(said: _Said) -> SourceReadings:
    return SourceReadings(said.report.signals, said.report.source, said.report.at)


def _rates(said: _Said) -> SourceReadings:
    return SourceReadings(said.window.rates, said.report.source, said.window.at)
