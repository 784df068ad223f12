"""How each instance answers each service: well, or in which way not.

Envoys report attempts by class of failure; here they are added up over client sites, once as a
total that only grows, so that a learner counts each attempt once, and once with a decay.
Whether a failure is the client's fault shows only beside the other instances of the service, so
nothing is judged here. An attempt that hangs is counted as unanswered once it is known to, and not
again when it is cut.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from operator import add

from controlplane.fleet.hung import HungAttempts, Latencies
from controlplane.fleet.steps import Steps, collect
from controlplane.fleet.traffic_view import Outcomes, OutcomeView
from controlplane.fleet.trust import WINDOW
from controlplane.model import FailureClass, TrafficReport

_CLASSES = tuple(FailureClass)
_NOTHING = (0.0,) * (2 + len(_CLASSES))

STEP = 500
"""Pairs that are looked at between two pauses: some five milliseconds."""

_Counts = tuple[float, ...]
"""In the order of the fields of `Outcomes`."""

_UNANSWERED = 1 + _CLASSES.index(FailureClass.UNANSWERED)
_LATE = 1 + _CLASSES.index(FailureClass.LATE)


def _counts(report: TrafficReport) -> _Counts:
    known = report.failures
    if not known:
        if not report.failed and not report.abandoned:
            return (report.succeeded, *_NOTHING[1:])
        known = {FailureClass.SERVER_ERROR: report.failed}
    else:
        classed = math.fsum(known.values()) - known.get(FailureClass.CLIENT_ERROR, 0.0)
        if report.failed > classed:
            errors = known.get(FailureClass.SERVER_ERROR, 0.0)
            known = {**known, FailureClass.SERVER_ERROR: errors + report.failed - classed}
    return (report.succeeded, *(known.get(each, 0.0) for each in _CLASSES), report.abandoned)


def _with_hung(counts: _Counts, found: float, cut: float) -> _Counts:
    """Return *counts* with what was *found* to hang, without what was *cut* after that."""
    if not found and not cut:
        return counts
    late, unanswered = counts[_LATE], counts[_UNANSWERED]
    again = min(cut, unanswered)
    changed = list(counts)
    changed[_UNANSWERED] = unanswered - again + found
    changed[_LATE] = max(late - (cut - again), 0.0)
    return tuple(changed)


class _Tally:
    """The outcomes of one service at one instance, over all client sites."""

    __slots__ = (
        "at", "hung", "in_progress", "interval", "issued", "recent", "since", "total",
    )  # fmt: skip

    def __init__(self, report: TrafficReport) -> None:
        self.since = report.at - report.interval
        self.at = report.at
        self.interval = report.interval
        self.total = _NOTHING
        self.recent = _NOTHING
        self.issued = 0.0
        self.in_progress = 0.0
        self.hung = HungAttempts()

    def add(self, report: TrafficReport, service: Latencies) -> float:
        """Count a report; return how many of its failures had been counted as hung before."""
        found, cut = self.hung.add(report, service)
        counts = _with_hung(_counts(report), found, cut)
        self.total = tuple(map(add, self.total, counts))
        weight = 1.0
        if report.at > self.at:
            decay = math.exp((self.at - report.at) / WINDOW)
            self.recent = tuple(each * decay for each in self.recent)
            self.issued *= decay
            self.in_progress *= decay
            self.at = report.at
        elif report.at < self.at:
            weight = math.exp((report.at - self.at) / WINDOW)
        self.interval = report.interval
        self.recent = tuple(
            old + weight * new for old, new in zip(self.recent, counts, strict=True)
        )
        self.issued += weight * report.issued
        # Averaged over the window like the rate, so that the two go together by Little's law.
        self.in_progress += weight * report.in_progress * report.interval
        return cut

    def view(self, now: float) -> OutcomeView:
        silence = max(0.0, now - self.at - self.interval)
        faded = math.exp(-silence / WINDOW)
        # An interval's counts are as old as its end: the sum of a geometric series of them.
        step = max(min(self.interval, self.at - self.since), 1e-3)
        covered = step * math.expm1(-(self.at - self.since) / WINDOW) / math.expm1(-step / WINDOW)
        per_second = faded / max(covered, 1e-3)
        return OutcomeView(
            recent=Outcomes(*(each * faded for each in self.recent)),
            total=Outcomes(*self.total),
            rate=self.issued * per_second,
            in_progress=self.in_progress * per_second,
            at=self.at,
            hung=self.hung.hung,
        )


class OutcomeBook:
    """The outcomes of all services at all instances."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._latencies: dict[str, Latencies] = {}
        """Service -> how long its answers took, whichever instance gave them."""

    def apply(self, report: TrafficReport) -> tuple[float, float]:
        """Count a plausible report of an instance.

        Returns:
            How many of the attempts that are in progress hang, and how many of those that failed
            were known to before.
        """
        latencies = self._latencies.setdefault(report.service, Latencies())
        latencies.add(report)
        key = (report.instance, report.service)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally(report)
        cut = tally.add(report, latencies)
        return tally.hung.part(report), cut

    def retain(self, *, services: Collection[str], instances: Collection[str]) -> None:
        """Forget what is no longer configured."""
        self._tallies = {
            key: tally
            for key, tally in self._tallies.items()
            if key[0] in instances and key[1] in services
        }
        self._latencies = {k: each for k, each in self._latencies.items() if k in services}

    def forget(self, instances: Collection[str]) -> None:
        """Forget instances that are new ones under old names."""
        self._tallies = {k: tally for k, tally in self._tallies.items() if k[0] not in instances}

    def view_in_steps(self, *, now: float) -> Steps[dict[tuple[str, str], OutcomeView]]:
        """Return (instance, service) -> outcomes at *now*."""
        tallies = self._tallies.copy().items()
        return collect(((key, tally.view(now)) for key, tally in tallies), size=STEP)
