"""One instance between unknown and trusted: what it said, how fresh that is, what to make of it.

Every source keeps its own last report, so that a better source wins while it is fresh and a worse
one takes over when it falls silent. What Envoys see is a source as well: an instance that answers
requests stays in service whatever its metrics do, and how it is known then is what Envoys observe.

Every phase has a way back that is bounded in time; docs/phases.md lists them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlplane.config import Config, Instance, SiteKind
from controlplane.config.serving import served_name
from controlplane.errors import ReportError
from controlplane.fleet import plausibility, trust
from controlplane.fleet.cold_starts import ColdStarts, describe
from controlplane.fleet.devices import Devices
from controlplane.fleet.rates import CounterWindow, smoothed
from controlplane.fleet.sources import LOAD, MAX_REASON, SourceState
from controlplane.fleet.trials import Trials
from controlplane.fleet.view import (
    OUT_OF_SERVICE,
    ColdStart,
    InstanceView,
    Outcomes,
    Phase,
)
from controlplane.model import (
    InstanceReport,
    Reading,
    ScrapeFailure,
    Signal,
    Source,
    WakeReport,
)

WINDOW_SHARE = 0.8
"""Fraction of the steering period that an interval of rates covers at least: reports once a period
that jitter by a fifth give one interval each."""
MIN_RAMP = 0.1
"""Fraction of its full share at which an instance starts."""
MAX_SOURCES = 8
"""Sources of one instance that are remembered; the one that was silent longest goes first."""
VANISHED_CONFIDENCE = 0.5
"""Factor on the confidence of an instance that gives less than it gave: its prior counts more,
its weight stays defined."""
ANSWERS_FRESH = 3 * trust.WINDOW
"""Seconds that an answer to an Envoy says that the instance is well; half the expiry at most."""
ASLEEP_AFTER = 3.0
"""Seconds without a first report after which an instance that can be started counts as asleep; a
failed scrape says so at once."""
BY_ENVOYS = "what Envoys see counts"
_CONTRADICTED = 60.0
"""Seconds that signals are not believed after Envoys have refuted them."""

_CLAIMED = frozenset(
    {Signal.RUNNING, Signal.COMPLETED, Signal.FAILED, Signal.LATENCY_SUM, Signal.LATENCY_COUNT}
)
"""Signals that make up an instance's claims."""

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


@dataclass(frozen=True, slots=True)
class Seen:
    """What Envoys say of an instance."""

    answered_at: float = -math.inf
    """When it last answered well."""
    observation: trust.Observation | None = None
    """None when Envoys have been silent about it for long."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an instance is worth now."""

    phase: Phase
    confidence: float
    ramp: float
    reason: str
    silent: bool
    """It once reported and no longer does."""
    dropped: frozenset[Signal] = frozenset()
    """Signals that are not believed."""
    awaited: str = ""
    """What ends a phase other than `Phase.LIVE`, in words."""
    trial: bool = False
    cold_start: ColdStart | None = None


NOTHING_READ: Mapping[Signal, Reading] = {}
"""One for all that never reported: thousands in each view."""
AWAITED = f"reports, until which {BY_ENVOYS}"


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
        self._sources: dict[tuple[Source, str], SourceState] = {}
        self._ended: dict[tuple[Source, str], tuple[float, float]] = {}
        """Source -> requests completed and failed by its counters, across restarts."""
        self._devices: Devices | None = None
        self._heard_at: float | None = None
        self._judged_at = now
        self._claims = trust.ClaimWindow()
        self._refuted: dict[frozenset[Signal], tuple[float, str]] = {}
        """Signals that Envoys have refuted -> until when they do not count, and why."""
        self._failure: ScrapeFailure | None = None
        self._trials = Trials()
        self._starts = ColdStarts()
        self._phase = Phase.UNKNOWN
        self._changed_at = now
        self.came_at = now
        """When it was added, or last came back from being out of service."""
        self.reconfigure(instance, config)

    def reconfigure(self, instance: Instance, config: Config) -> None:
        """Receive changed settings of the same instance."""
        self.instance = instance
        self._expiry = config.steering.expiry
        self._answers_fresh = min(ANSWERS_FRESH, self._expiry / 2)
        self._slow_start = config.steering.slow_start
        self._shortest = WINDOW_SHARE * config.steering.period
        models = {model.name: model for model in config.models}
        self._served = {served_name(each, models): each.name for each in instance.serves}
        kinds = {site.name: site.kind for site in config.sites}
        # One entry stands for the like instance on every device: their counters are many.
        self._counts = kinds.get(instance.site) is not SiteKind.DEVICE
        if self._counts:
            self._devices = None
        elif self._devices is None:
            self._devices = Devices()

    @property
    def devices(self) -> int:
        """Return how many devices reported lately; 0 where the instance is one machine."""
        return 0 if self._devices is None else len(self._devices)

    @property
    def heard_at(self) -> float | None:
        """Return the instant of the newest report that was believed; None if there is none."""
        return self._heard_at

    def fail(self, failure: ScrapeFailure) -> None:
        """Note that the instance could not be read."""
        self._failure = failure

    def wake(self, report: WakeReport) -> None:
        """Note that it was asked to start."""
        self._starts.apply(report)

    def end_start(self, *, at: float) -> None:
        """Note that a start that was asked for before *at* has brought up a replica of it."""
        self._starts.end(at=at)

    def apply(
        self, report: InstanceReport, *, now: float, observed: trust.Observation | None
    ) -> None:
        """Receive a report into account; one that is not newer than its source's last is dropped.

        Raises:
            ReportError: it cannot be believed.
        """
        if self._devices is not None and report.reporter:
            report = self._of_device(report, self._devices, now)
        # Agents have bugs of their own; Envoys only pass on what an instance says.
        key = (report.source, report.reporter if report.source is Source.AGENT else "")
        if self._devices is not None:
            key = (report.source, "")
        source = self._sources.get(key)
        if source is not None and report.at <= source.report.at and source.spoke_at > -math.inf:
            return
        first = source is None or source.spoke_at == -math.inf
        if source is None:
            source = self._add_source(key, report)
        try:
            plausibility.require_instant(report.at, now=now, oldest=self._expiry)
            plausibility.require_instance(report)
            restarted = self._counts and source.count(report, shortest=self._shortest)
        except ReportError as error:
            source.strike(str(error), now=now)
            raise
        source.spoke_at = now
        self._take(key, source, report)
        self._return(report, source, observed, restarted=restarted, now=now)
        source.forgive()
        source.accept(report, first=first, observed=observed)
        if not source.quarantine and (self._heard_at is None or report.at > self._heard_at):
            self._heard_at = report.at
        self._failure = None
        self._judge(report, source, observed, now)

    def _add_source(self, key: tuple[Source, str], report: InstanceReport) -> SourceState:
        if len(self._sources) >= MAX_SOURCES:
            oldest = min(self._sources, key=lambda each: self._sources[each].spoke_at)
            del self._sources[oldest]
            self._ended.pop(oldest, None)
        period = None
        if report.source is Source.SCRAPE and self.instance.scrape is not None:
            period = self.instance.scrape.period
        return self._sources.setdefault(key, SourceState(report, period=period))

    def _of_device(self, report: InstanceReport, devices: Devices, now: float) -> InstanceReport:
        """Return what the whole class says after *report*; a device's lies are its own."""
        plausibility.require_instant(report.at, now=now, oldest=self._expiry)
        plausibility.require_instance(report)
        source = self._sources.get((report.source, ""))
        merged = devices.merge(report, oldest=now - self._expiry)
        if source is not None and report.at <= source.report.at:
            # Clocks of different devices need no order among themselves.
            merged = replace(merged, at=math.nextafter(source.report.at, math.inf))
        return merged

    def _take(self, key: tuple[Source, str], source: SourceState, report: InstanceReport) -> None:
        """Add up what the counters of a source gained, if an interval has just closed."""
        window = source.window
        if window.at != report.at or source.doubt or source.quarantine:
            return
        if window.arrivals is not None:
            self.arrivals = smoothed(
                self.arrivals, window.arrivals, elapsed=window.interval, interval=window.interval
            )
        rates = window.rates
        completed = rates.get(Signal.COMPLETED, rates.get(Signal.LATENCY_COUNT))
        if completed is not None:
            answered, failed = self._ended.get(key, (0.0, 0.0))
            gained = rates.get(Signal.FAILED, 0.0) * window.interval
            self._ended[key] = (answered + completed * window.interval, failed + gained)

    def own_outcomes(self) -> Outcomes | None:
        """Return how requests ended by the instance's own counters; None if unknown."""
        known = [key for key in self._ended if self._believed(key)]
        if not known or self.trust < trust.BELIEVED:
            return None
        answered, failed = self._ended[min(known, key=lambda key: (RANK[key[0]], key[1]))]
        return Outcomes(answered=answered, server_error=failed)

    def _believed(self, key: tuple[Source, str]) -> bool:
        source = self._sources.get(key)
        return source is not None and not source.doubt and not source.quarantine

    def _return(
        self,
        report: InstanceReport,
        source: SourceState,
        observed: trust.Observation | None,
        *,
        restarted: bool,
        now: float,
    ) -> None:
        """Start slowly what comes back: from silence, from not being ready, from a restart."""
        if self._heard_at is None:
            # What was never silent beyond the expiry has been serving on its prior all along.
            back = self._phase in OUT_OF_SERVICE
        else:
            # What went on to answer requests was never away.
            answers = observed is not None and observed.answer_rate > 0
            back = now - self._heard_at >= self._expiry and not answers
        woke = report.ready and any(not each.report.ready for each in self._sources.values())
        if back or woke or restarted:
            self._ramp_from = now
        elif source.doubt and self._phase is Phase.STARTING:
            # What looked like a restart was another process's turn.
            self._ramp_from = None

    def _judge(
        self,
        report: InstanceReport,
        source: SourceState,
        observed: trust.Observation | None,
        now: float,
    ) -> None:
        elapsed = max(0.0, now - self._judged_at)
        self._claims.add(report.signals, elapsed=elapsed)
        if source.window.at == report.at:
            self._claims.count(source.window.rates, interval=source.window.interval)
        absent = _CLAIMED - report.signals.keys()
        if Signal.LATENCY_COUNT in report.signals:
            absent -= {Signal.COMPLETED}
        claims = trust.without(self._claims.claims(), absent)
        if observed is not None and self._counts:
            for each in trust.refute(claims, observed):
                self._refuted[each.signals] = (now + _CONTRADICTED, each.reason)
        dropped, _ = source.disbelieved(observed)
        refuted, _ = self._refutations(now)
        claims = trust.without(claims, LOAD if source.quarantine else dropped | refuted)
        self._weigh(claims, observed, now)

    def _refutations(self, now: float) -> tuple[frozenset[Signal], list[str]]:
        """Return the signals that Envoys have refuted lately, and why."""
        if not self._refuted:
            return frozenset(), []
        lately = [(key, why) for key, (until, why) in self._refuted.items() if now < until]
        return frozenset[Signal]().union(*(key for key, _ in lately)), [why for _, why in lately]

    def watch(self, observed: trust.Observation | None, *, now: float) -> None:
        """Judge the instance by what Envoys see, where nothing else speaks for it.

        Args:
            observed: None when Envoys have been silent about it for long.
            now: the instant.
        """
        if now - self._judged_at >= trust.WATCH_PERIOD and not any(
            now - each.report.at <= each.fresh_for(self._expiry) for each in self._sources.values()
        ):
            self._weigh(trust.NO_CLAIMS, observed, now)

    def _weigh(self, claims: trust.Claims, observed: trust.Observation | None, now: float) -> None:
        elapsed = max(0.0, now - self._judged_at)
        self._judged_at = now
        if observed is None or not self._counts:
            deserved, self.distrust = 1.0, ""
        else:
            deserved, self.distrust = trust.judge(claims, observed)
        # After a silence, one report must not make or break it.
        self.trust = trust.moved(self.trust, deserved, elapsed=min(elapsed, trust.WINDOW))

    def standing(self, *, now: float, seen: Seen) -> Standing:
        """Judge the instance at *now*.

        Args:
            now: the instant.
            seen: what Envoys say of it.
        """
        ramp = self._ramp(now)
        believed = [each for each in self._sources.values() if not each.quarantine]
        spoken = [each for each in believed if each.spoke_at > -math.inf]
        age = now - max((each.report.at for each in spoken), default=-math.inf)
        if age >= self._expiry:
            return self._unknown(ramp, age, now=now, seen=seen)
        self._trials.end()
        self._starts.end()
        by_envoys = self._by_envoys(now, seen)
        fresh_for = max(each.fresh_for(self._expiry) for each in spoken)
        best = self._best(now)
        confidence, dropped, why = self._worth(
            best, by_envoys, age=age, fresh_for=fresh_for, now=now, seen=seen
        )
        # What still speaks, if late, is not silent: a fleet on a slow line must not freeze.
        spoke_at = max(each.spoke_at for each in self._sources.values())
        silent = age > fresh_for and now - spoke_at > fresh_for
        if not best.report.ready:
            reason = best.report.not_ready_reason or "it says that it is not ready"
            awaited = f"a report that it is ready, or its silence for {self._expiry:.0f} s"
            return Standing(
                Phase.NOT_READY, confidence, ramp, reason, silent=silent, awaited=awaited
            )
        if age > fresh_for:
            reason = "; ".join(filter(None, (self._silence(age), why)))
            awaited = "its next report"
            return Standing(
                Phase.STALE, confidence, ramp, reason, silent=silent, dropped=dropped,
                awaited=awaited,
            )  # fmt: skip
        if ramp < 1:
            reason = "; ".join(filter(None, ("it starts slowly", why)))
            awaited = f"the end of its slow start within {self._slow_start:.0f} s"
            return Standing(
                Phase.STARTING, confidence, ramp, reason, silent=False, dropped=dropped,
                awaited=awaited,
            )  # fmt: skip
        reason = "; ".join(filter(None, (why, self.distrust)))
        return Standing(Phase.LIVE, confidence, ramp, reason, silent=False, dropped=dropped)

    def _worth(
        self,
        best: SourceState,
        by_envoys: float,
        *,
        age: float,
        fresh_for: float,
        now: float,
        seen: Seen,
    ) -> tuple[float, frozenset[Signal], str]:
        """Return the confidence in what is known, the signals that do not count, and why."""
        own = 1.0
        if age > fresh_for:
            own = max(0.0, (self._expiry - age) / (self._expiry - fresh_for))
        reasons: list[str] = []
        vanished = self._vanished(best)
        if vanished:
            own *= VANISHED_CONFIDENCE
            reasons.append(f"it no longer gives {', '.join(vanished)}")
        dropped, doubt = best.disbelieved(seen.observation)
        refuted, whys = self._refutations(now)
        dropped |= refuted
        doubt = "; ".join(filter(None, (doubt, *whys)))
        if doubt:
            reasons.append(f"{doubt}; {BY_ENVOYS}")
        if not LOAD.isdisjoint(best.report.signals) and age > fresh_for and by_envoys > own:
            # What Envoys see now is better than what the instance said some time ago.
            dropped |= LOAD
            reasons.append(BY_ENVOYS)
        if not best.report.signals:
            own = 0.0
            reasons.append("its reports say nothing of its load")
            if by_envoys:
                reasons.append(BY_ENVOYS)
        elif dropped >= LOAD:
            own = 0.0
        if LOAD.isdisjoint(best.report.signals) or dropped >= LOAD:
            own = max(own, by_envoys)
        return own, dropped, "; ".join(reasons)

    def _by_envoys(self, now: float, seen: Seen) -> float:
        """Return the confidence that Envoys' observations deserve."""
        age = now - seen.answered_at
        if not self._counts or seen.observation is None or age >= self._expiry:
            return 0.0
        if age <= self._answers_fresh:
            return 1.0
        return (self._expiry - age) / (self._expiry - self._answers_fresh)

    def _vanished(self, best: SourceState) -> tuple[Signal, ...]:
        """Return what *best* gives no longer and no other source gives instead."""
        given = {signal for each in self._sources.values() for signal in each.report.signals}
        return tuple(signal for signal in best.vanished if signal not in given)

    def _unknown(self, ramp: float, age: float, *, now: float, seen: Seen) -> Standing:
        """Judge an instance of which no report can be believed."""
        everything = LOAD if self._sources else frozenset[Signal]()
        quarantine = next((each.quarantine for each in self._sources.values()), "")
        heard = self._heard_at is not None
        silent = heard and not quarantine
        if quarantine:
            reason = quarantine
        elif heard:
            reason = self._silence(age)
        elif self._failure is not None:
            reason = f"it never reported: {self._failure.reason[:MAX_REASON]}"
        else:
            reason = "it never reported"
        by_envoys = self._by_envoys(now, seen)
        answers = now - seen.answered_at <= self._answers_fresh
        if self._sleeps(now, answers=answers):
            return self._asleep(ramp, reason, silent=silent, now=now)
        promised = self.instance.scrape is not None or self._failure is not None or heard
        young = not heard and now - self._added_at < self._expiry
        if answers and (heard or quarantine or (promised and not young)):
            reason = f"{reason}; it answers, so {BY_ENVOYS}"
        if self.distrust:
            reason = f"{reason}; {self.distrust}"
        if answers or not promised or young:
            self._trials.end()
            return Standing(
                Phase.QUARANTINED if quarantine else Phase.UNKNOWN,
                by_envoys, ramp, reason, silent=silent, dropped=everything,
                awaited=AWAITED,
            )  # fmt: skip
        if quarantine and self._spoke_lately(now):
            return Standing(
                Phase.QUARANTINED, by_envoys, ramp, reason, silent=False, dropped=everything,
                awaited="five good reports in a row, or answers to Envoys",
            )  # fmt: skip
        if self._trials.under_way(now):
            return Standing(
                Phase.UNKNOWN, by_envoys, MIN_RAMP, f"{reason}; it is tried again",
                silent=silent, dropped=everything, awaited="answers to Envoys, or reports",
                trial=True,
            )  # fmt: skip
        return Standing(
            Phase.EXPIRED, 0.0, ramp, reason, silent=silent, dropped=everything,
            awaited=f"a report, or a trial within {self._trials.next_in(now):.0f} s",
        )  # fmt: skip

    def _sleeps(self, now: float, *, answers: bool) -> bool:
        """Return whether an instance of which nothing is known is asleep."""
        if self.instance.wake is None or answers or self._spoke_lately(now):
            return False
        young = self._heard_at is None and now - self._added_at < ASLEEP_AFTER
        return self._failure is not None or not young

    def _asleep(self, ramp: float, reason: str, *, silent: bool, now: float) -> Standing:
        assert self.instance.wake is not None  # noqa: S101 -- else it is not asleep
        self._trials.end()
        start = self._starts.view(self.instance.wake, now=now)
        reason = "; ".join(filter(None, (f"asleep: {reason}", describe(start, now=now))))
        return Standing(
            Phase.ASLEEP, 0.0, ramp, reason, silent=silent,
            dropped=LOAD if self._sources else frozenset(),
            awaited="its first report after a start", cold_start=start,
        )  # fmt: skip

    def _spoke_lately(self, now: float) -> bool:
        return any(
            each.quarantine and now - each.struck_at < self._expiry
            for each in self._sources.values()
        )

    def _ramp(self, now: float) -> float:
        if self._ramp_from is None or self._slow_start <= 0:
            return 1.0
        return max(MIN_RAMP, min(1.0, (now - self._ramp_from) / self._slow_start))

    def _silence(self, age: float) -> str:
        reason = f"silent for {age:.0f} s"
        return f"{reason}: {self._failure.reason[:MAX_REASON]}" if self._failure else reason

    def _ordered(self, now: float) -> list[SourceState]:
        """Return the sources, best last: believed, fresh before stale, by kind, the newest."""
        spoken = [each for each in self._sources.values() if each.spoke_at > -math.inf]
        if len(spoken) < 2:
            return spoken
        return sorted(
            spoken,
            key=lambda each: (
                not each.quarantine,
                fresh := now - each.report.at <= each.fresh_for(self._expiry),
                not each.doubt if fresh else True,
                -RANK[each.report.source] if fresh else each.report.at,
                each.report.at,
            ),
        )

    def _best(self, now: float) -> SourceState:
        if len(self._sources) == 1:
            return next(iter(self._sources.values()))
        return self._ordered(now)[-1]

    def view(self, standing: Standing, *, now: float) -> InstanceView:
        """Return the frozen picture that goes with *standing*."""
        if standing.phase is not self._phase:
            if self._phase in OUT_OF_SERVICE and standing.phase not in OUT_OF_SERVICE:
                self.came_at = now
            self._phase = standing.phase
            self._changed_at = now
        ordered = [each for each in self._ordered(now) if not each.quarantine]
        readings = rates = NOTHING_READ
        interval = 0.0
        missing: tuple[Signal, ...] = ()
        if ordered:
            best = ordered[-1]
            readings = (
                _readings(best)
                if len(ordered) == 1
                else {key: value for each in ordered for key, value in _readings(each).items()}
            )
            counting = [each for each in ordered if each.window.rates]
            if counting:
                # Of one source only: rates over different intervals do not go together.
                rates, interval = _rates(counting[-1]), counting[-1].window.interval
            missing = tuple(
                signal
                for signal in dict.fromkeys((*best.report.missing, *best.vanished))
                if len(ordered) == 1 or signal not in readings
            )
        if standing.dropped and ordered:
            readings = {key: readings[key] for key in readings if key not in standing.dropped}
            rates = {key: rates[key] for key in rates if key not in standing.dropped}
            interval = interval if rates else 0.0
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
            awaited=standing.awaited,
            trial=standing.trial,
            cold_start=standing.cold_start,
            disbelieved=tuple(sorted(standing.dropped)),
            **self._loaded(ordered),
        )

    def _loaded(self, ordered: list[SourceState]) -> dict[str, Any]:
        """Return which models it says it holds, by their names in the configuration."""
        said = (each.report for each in reversed(ordered))
        report = next((each for each in said if each.max_loaded or each.loaded), None)
        if report is None:
            return {}
        held = (self._served.get(name) for name in report.loaded)
        return {
            "loaded": tuple(name for name in held if name is not None),
            "max_loaded": round(report.max_loaded or 0) or None,
        }


def _readings(source: SourceState) -> SourceReadings:
    return SourceReadings(source.report.signals, source.report.source, source.report.at)


def _rates(source: SourceState) -> SourceReadings:
    window: CounterWindow = source.window
    return SourceReadings(window.rates, source.report.source, window.at)
