"""One instance between unknown and trusted: what it said, how fresh that is, what to make of it.

Every source keeps its own last report, so that a better source wins while it is fresh and a worse
one takes over when it falls silent. What Envoys see is a source as well: an instance that answers
requests stays in service whatever its metrics do, and how it is known then is what Envoys observe.

Every phase has a way back that is bounded in time; docs/phases.md lists them.
"""

from __future__ import annotations

import math

from controlplane.config import Instance
from controlplane.fleet import trust
from controlplane.fleet.cold_starts import ColdStarts, describe
from controlplane.fleet.credibility import Credibility
from controlplane.fleet.instance_sources import Received, Sources
from controlplane.fleet.sources import LOAD, MAX_REASON
from controlplane.fleet.standing import InstanceSettings, Seen, Standing
from controlplane.fleet.trials import Trials
from controlplane.fleet.view import OUT_OF_SERVICE, InstanceView, Phase
from controlplane.fleet.worth import BY_ENVOYS, weigh_reports
from controlplane.model import InstanceReport, ScrapeFailure, Signal, WakeReport

MIN_RAMP = 0.1
"""Fraction of its full share at which an instance starts."""
ANSWERS_FRESH = 3 * trust.WINDOW
"""Seconds that an answer to an Envoy says that the instance is well; half the expiry at most."""
ASLEEP_AFTER = 3.0
"""Seconds without a first report after which an instance that can be started counts as asleep; a
failed scrape says so at once."""
AWAITED = f"reports, until which {BY_ENVOYS}"


class InstanceState:
    """What is known of one instance."""

    def __init__(
        self, instance: Instance, settings: InstanceSettings, *, now: float, ramp: bool
    ) -> None:
        self._added_at = now
        self._ramp_from = now if ramp else None
        self.sources = Sources(instance, settings)
        self._credibility = Credibility(now=now)
        self._heard_at: float | None = None
        self._failure: ScrapeFailure | None = None
        self._trials = Trials()
        self._starts = ColdStarts()
        self._phase = Phase.UNKNOWN
        self._changed_at = now
        self.came_at = now
        """When it was added, or last came back from being out of service."""
        self._configure(instance, settings)

    def reconfigure(self, instance: Instance, settings: InstanceSettings) -> None:
        """Receive changed settings of the same instance."""
        self.sources.reconfigure(instance, settings)
        self._configure(instance, settings)

    def _configure(self, instance: Instance, settings: InstanceSettings) -> None:
        self.instance = instance
        self._expiry = settings.expiry
        self._answers_fresh = min(ANSWERS_FRESH, self._expiry / 2)
        self._slow_start = settings.slow_start

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
        """Apply a report; one that is not newer than its source's last is dropped.

        Raises:
            ReportError: it cannot be believed.
        """
        received = self.sources.receive(report, now=now, observed=observed)
        if received is None:
            return
        report, source = received.report, received.source
        self._return(received, observed, now=now)
        if not source.quarantine and (self._heard_at is None or report.at > self._heard_at):
            self._heard_at = report.at
        self._failure = None
        self._credibility.judge(
            report, source, observed, now=now, one_machine=self.sources.one_machine
        )

    def _return(
        self, received: Received, observed: trust.Observation | None, *, now: float
    ) -> None:
        """Start slowly what comes back: from silence, from not being ready, from a restart."""
        if self._heard_at is None:
            # What was never silent beyond the expiry has been serving on its prior all along.
            back = self._phase in OUT_OF_SERVICE
        else:
            # What went on to answer requests was never away.
            answers = observed is not None and observed.answer_rate > 0
            back = now - self._heard_at >= self._expiry and not answers
        if back or received.woke or received.restarted:
            self._ramp_from = now
        elif received.source.doubt and self._phase is Phase.STARTING:
            # What looked like a restart was another process's turn.
            self._ramp_from = None

    def watch(self, observed: trust.Observation | None, *, now: float) -> None:
        """Judge the instance by what Envoys see, where nothing else speaks for it.

        Args:
            observed: None when Envoys have been silent about it for long.
            now: the instant.
        """
        if self._credibility.due(now) and not self.sources.any_fresh(now):
            self._credibility.watch(observed, now=now, one_machine=self.sources.one_machine)

    def standing(self, *, now: float, seen: Seen) -> Standing:
        """Judge the instance at *now*.

        Args:
            now: the instant.
            seen: what Envoys say of it.
        """
        ramp = self._ramp(now)
        believed = [each for each in self.sources if not each.quarantine]
        spoken = [each for each in believed if each.spoke_at > -math.inf]
        age = now - max((each.report.at for each in spoken), default=-math.inf)
        if age >= self._expiry:
            return self._unknown(ramp, age, now=now, seen=seen)
        self._trials.end()
        self._starts.end()
        by_envoys = self._by_envoys(now, seen)
        fresh_for = max(each.fresh_for(self._expiry) for each in spoken)
        best = self.sources.best(now)
        fading = (self._expiry - age) / (self._expiry - fresh_for)
        confidence, dropped, why = weigh_reports(
            best,
            own=1.0 if age <= fresh_for else max(0.0, fading),
            by_envoys=by_envoys,
            contradictions=self.sources.contradictions(),
            vanished=self.sources.vanished(best),
            refuted=self._credibility.refutations(now),
            observed=seen.observation,
        )
        # What still speaks, if late, is not silent: a fleet on a slow line must not freeze.
        spoke_at = max(each.spoke_at for each in self.sources)
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
        reason = "; ".join(filter(None, (why, self._credibility.distrust)))
        return Standing(Phase.LIVE, confidence, ramp, reason, silent=False, dropped=dropped)

    def _by_envoys(self, now: float, seen: Seen) -> float:
        """Return the confidence that Envoys' observations deserve."""
        age = now - seen.answered_at
        if not self.sources.one_machine or seen.observation is None or age >= self._expiry:
            return 0.0
        if age <= self._answers_fresh:
            return 1.0
        return (self._expiry - age) / (self._expiry - self._answers_fresh)

    def _unknown(self, ramp: float, age: float, *, now: float, seen: Seen) -> Standing:
        """Judge an instance of which no report can be believed."""
        everything = LOAD if self.sources else frozenset[Signal]()
        quarantine = next((each.quarantine for each in self.sources), "")
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
        if self._credibility.distrust:
            reason = f"{reason}; {self._credibility.distrust}"
        if answers or not promised or young:
            self._trials.end()
            return Standing(
                Phase.QUARANTINED if quarantine else Phase.UNKNOWN,
                by_envoys, ramp, reason, silent=silent, dropped=everything,
                awaited=AWAITED,
            )  # fmt: skip
        if quarantine and self.sources.rejected_lately(now):
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
        if self.instance.wake is None or answers or self.sources.rejected_lately(now):
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
            dropped=LOAD if self.sources else frozenset(),
            awaited="its first report after a start", cold_start=start,
        )  # fmt: skip

    def _ramp(self, now: float) -> float:
        if self._ramp_from is None or self._slow_start <= 0:
            return 1.0
        return max(MIN_RAMP, min(1.0, (now - self._ramp_from) / self._slow_start))

    def _silence(self, age: float) -> str:
        reason = f"silent for {age:.0f} s"
        return f"{reason}: {self._failure.reason[:MAX_REASON]}" if self._failure else reason

    def view(self, standing: Standing, *, now: float) -> InstanceView:
        """Return the frozen picture that goes with *standing*."""
        if standing.phase is not self._phase:
            if self._phase in OUT_OF_SERVICE and standing.phase not in OUT_OF_SERVICE:
                self.came_at = now
            self._phase = standing.phase
            self._changed_at = now
        return InstanceView(
            instance=self.instance,
            phase=standing.phase,
            confidence=standing.confidence,
            ramp=standing.ramp,
            trust=self._credibility.trust,
            reason=standing.reason,
            changed_at=self._changed_at,
            awaited=standing.awaited,
            trial=standing.trial,
            cold_start=standing.cold_start,
            disbelieved=tuple(sorted(standing.dropped)),
            **self.sources.fields(standing.dropped, now=now),
        )
