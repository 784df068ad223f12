"""How far one instance's account of itself is believed, judged by what Envoys see of it."""

from __future__ import annotations

from controlplane.fleet import trust
from controlplane.fleet.sources import LOAD, SourceState
from controlplane.model import InstanceReport, Signal

_CONTRADICTED = 60.0
"""Seconds that signals are not believed after Envoys have refuted them."""

_CLAIMED = frozenset(
    {Signal.RUNNING, Signal.COMPLETED, Signal.FAILED, Signal.LATENCY_SUM, Signal.LATENCY_COUNT}
)
"""Signals that make up an instance's claims."""


class Credibility:
    """The credit of one instance.

    Attributes:
        trust: `trust.FLOOR` to 1.
        distrust: what speaks against it, in words; empty if nothing does.
    """

    def __init__(self, *, now: float) -> None:
        self.trust = 1.0
        self.distrust = ""
        self._judged_at = now
        self._claims = trust.ClaimWindow()
        self._refuted: dict[frozenset[Signal], tuple[float, str]] = {}
        """Signals that Envoys have refuted -> until when they do not count, and why."""

    def judge(
        self,
        report: InstanceReport,
        source: SourceState,
        observed: trust.Observation | None,
        *,
        now: float,
        one_machine: bool,
    ) -> None:
        """Compare what *source* has just said with what Envoys see; of devices, nothing is.

        Args:
            report: as it was accepted.
            source: whose last it is.
            observed: None when Envoys have been silent about the instance for long.
            now: the instant.
            one_machine: the instance is no class of devices.
        """
        elapsed = max(0.0, now - self._judged_at)
        self._claims.add(report.signals, elapsed=elapsed)
        if source.window.at == report.at:
            self._claims.count(source.window.rates, interval=source.window.interval)
        absent = _CLAIMED - report.signals.keys()
        if Signal.LATENCY_COUNT in report.signals:
            absent -= {Signal.COMPLETED}
        claims = trust.without(self._claims.claims(), absent)
        if observed is not None and one_machine:
            for each in trust.refute(claims, observed):
                self._refuted[each.signals] = (now + _CONTRADICTED, each.reason)
        dropped, _ = source.disbelieved(observed)
        refuted, _ = self.refutations(now)
        claims = trust.without(claims, LOAD if source.quarantine else dropped | refuted)
        self._weigh(claims, observed if one_machine else None, now)

    def watch(self, observed: trust.Observation | None, *, now: float, one_machine: bool) -> None:
        """Judge by what Envoys see alone, where nothing else speaks for the instance."""
        if self.due(now):
            self._weigh(trust.NO_CLAIMS, observed if one_machine else None, now)

    def due(self, now: float) -> bool:
        """Return whether the last judgement is some time ago."""
        return now - self._judged_at >= trust.WATCH_PERIOD

    def refutations(self, now: float) -> tuple[frozenset[Signal], list[str]]:
        """Return the signals that Envoys have refuted lately, and why."""
        if not self._refuted:
            return frozenset(), []
        lately = [(key, why) for key, (until, why) in self._refuted.items() if now < until]
        return frozenset[Signal]().union(*(key for key, _ in lately)), [why for _, why in lately]

    def _weigh(self, claims: trust.Claims, observed: trust.Observation | None, now: float) -> None:
        elapsed = max(0.0, now - self._judged_at)
        self._judged_at = now
        if observed is None:
            deserved, self.distrust = 1.0, ""
        else:
            deserved, self.distrust = trust.judge(claims, observed)
        # After a silence, one report must not make or break it.
        self.trust = trust.moved(self.trust, deserved, elapsed=min(elapsed, trust.WINDOW))
