"""What Envoys see, added up: demand per client site and service, and how each instance answers.

Demand is the sum over the Envoys of a site of what each last counted, smoothed by
`controlplane.fleet.rates.smoothed`; an Envoy that vanishes is left out after three intervals.
How instances answer is kept in windows that decay, without memory of single Envoys.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from controlplane.errors import ReportError
from controlplane.fleet.outcomes import OutcomeBook
from controlplane.fleet.rates import smoothed
from controlplane.fleet.steps import Steps, collect
from controlplane.fleet.traffic_view import Served
from controlplane.fleet.traffic_window import TrafficWindow, WindowViews
from controlplane.fleet.trust import WINDOW, Observation
from controlplane.model import NO_FAILURES, Reading, Source, TrafficReport

INTERVALS_TO_LIVE = 3.0
"""Own intervals after which a silent Envoy no longer counts."""
MAX_ENVOYS = 20_000
"""Envoys of one site that send one service's requests."""


class _Flow:
    """The requests of one service from one client site."""

    __slots__ = ("envoys", "estimate", "interval", "last_at", "round_at")

    def __init__(self, at: float) -> None:
        self.envoys: dict[str, tuple[float, float, float]] = {}
        """Envoy -> (end of its last interval, its length, requests without retries)."""
        self.estimate: float | None = None
        self.round_at = at
        self.last_at = at
        self.interval = 1.0

    def add(self, report: TrafficReport, *, shortest: float) -> None:
        last = self.envoys.get(report.envoy)
        if last is not None and report.at < last[0]:
            return
        asked = report.issued - report.retries
        if last is not None and report.at == last[0]:
            # Another instance's part of the same interval.
            self.envoys[report.envoy] = (last[0], last[1], last[2] + asked)
            return
        if last is None and len(self.envoys) >= MAX_ENVOYS:
            self._forget(report.at)
            if len(self.envoys) >= MAX_ENVOYS:
                raise ReportError(f"more than {MAX_ENVOYS} Envoys at one site")
        # A round ends where a new interval starts: every Envoy then stands with a whole one.
        if self.envoys and report.at - self.round_at >= shortest:
            self._forget(report.at)
            self.estimate = self.rate(report.at)
            self.round_at = report.at
        self.envoys[report.envoy] = (report.at, report.interval, asked)
        self.last_at = max(self.last_at, report.at)
        self.interval = report.interval

    def _forget(self, at: float) -> None:
        self.envoys = {
            name: entry
            for name, entry in self.envoys.items()
            if at - entry[0] <= INTERVALS_TO_LIVE * entry[1]
        }

    def silent(self, now: float) -> bool:
        return now - self.last_at > INTERVALS_TO_LIVE * self.interval

    def counted(self, now: float) -> float:
        """Return the requests a second that the Envoys counted in their last intervals."""
        return max(
            0.0,
            math.fsum(
                asked / interval
                for at, interval, asked in self.envoys.values()
                if now - at <= INTERVALS_TO_LIVE * interval
            ),
        )

    def rate(self, now: float) -> float:
        """Return requests a second; while all Envoys are silent, what it was when they spoke."""
        counted = self.counted(now)
        if self.estimate is not None and self.silent(now):
            return self.estimate
        elapsed = max(0.0, now - self.round_at)
        return smoothed(self.estimate, counted, elapsed=elapsed, interval=self.interval)


STEP = 10_000
"""Triples that are looked at between two pauses: some five milliseconds."""


class Traffic:
    """All that Envoys report, by what steering asks for."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str, str], _Flow] = {}
        self._windows: dict[tuple[str, str, str], TrafficWindow] = {}
        self._instances: dict[str, TrafficWindow] = {}
        self.outcomes = OutcomeBook()
        self._served: dict[tuple[str, str], Served] = {}

    def apply(
        self, report: TrafficReport, *, rtt: float, shortest: float, cut_off: bool = False
    ) -> None:
        """Apply a plausible report of known names.

        Args:
            report: of one Envoy, service and instance; those of one interval share its end.
            rtt: seconds between the Envoy's site and the instance's.
            shortest: seconds after which demand is estimated again.
            cut_off: whether the Envoy was cut off meanwhile, so that what failed on the way to
                the instance says nothing of it.

        Raises:
            ReportError: more Envoys than can be kept.
        """
        pair = (report.site, report.service)
        flow = self._flows.get(pair)
        if flow is None:
            flow = self._flows[pair] = _Flow(report.at)
        flow.add(report, shortest=shortest)
        if not report.instance:
            return
        if cut_off:
            report = _without_failures(report)
        hung, cut = self.outcomes.apply(report)
        if hung > 0 or cut > 0:
            # It fails, and says nothing of how fast what is answered is; cut at last, it is old.
            report = replace(
                report,
                in_progress=max(report.in_progress - hung, 0.0),
                failed=max(report.failed - cut, 0.0),
            )
        key = (report.site, report.service, report.instance)
        fresh = TrafficWindow(report.at - report.interval, report.at, report.interval)
        self._windows[key] = self._windows.get(key, fresh).plus(report, rtt)
        place = report.service, report.instance
        self._served[place] = _serve(self._served.get(place, Served()), report, rtt)
        total = self._instances.get(report.instance, fresh)
        self._instances[report.instance] = total.plus(report, rtt)

    def retain(
        self, *, sites: Collection[str], services: Collection[str], instances: Collection[str]
    ) -> None:
        """Forget what is no longer configured."""
        self._flows = {
            key: flow for key, flow in self._flows.items() if key[0] in sites and key[1] in services
        }
        self._windows = {
            key: window
            for key, window in self._windows.items()
            if key[0] in sites and key[1] in services and key[2] in instances
        }
        self._instances = {
            name: window for name, window in self._instances.items() if name in instances
        }
        self._served = {
            key: served
            for key, served in self._served.items()
            if key[0] in services and key[1] in instances
        }
        self.outcomes.retain(services=services, instances=instances)

    def forget(self, instances: Collection[str]) -> None:
        """Forget what was seen of instances that are new ones under old names."""
        if not instances:
            return
        self._instances = {k: each for k, each in self._instances.items() if k not in instances}
        self.outcomes.forget(instances)
        self._served = {k: each for k, each in self._served.items() if k[1] not in instances}
        self._windows = {k: each for k, each in self._windows.items() if k[2] not in instances}

    def demand(
        self, *, now: float, expiry: float, clients: Mapping[str, int] | None
    ) -> dict[tuple[str, str], Reading]:
        """Return (client site, service) -> requests a second, where Envoys report.

        A site whose Envoys fall silent keeps its last demand until *expiry*, unless *clients*
        says that none is connected.
        """
        demand: dict[tuple[str, str], Reading] = {}
        for (site, service), flow in self._flows.items():
            if now - flow.last_at > expiry:
                continue
            if clients is not None and flow.silent(now) and not clients.get(site):
                continue
            demand[site, service] = Reading(flow.rate(now), Source.ENVOY, flow.last_at)
        return demand

    def counted(self, *, now: float) -> dict[tuple[str, str], Reading]:
        """Return (client site, service) -> requests a second as counted, where Envoys speak."""
        return {
            pair: Reading(flow.counted(now), Source.ENVOY, flow.last_at)
            for pair, flow in self._flows.items()
            if not flow.silent(now)
        }

    def view_in_steps(self, *, now: float, expiry: float) -> Steps[WindowViews]:
        """Return (client site, service, instance) -> what Envoys saw within *expiry*."""
        oldest = now - expiry
        recent = (each for each in self._windows.copy().items() if each[1].at >= oldest)
        return WindowViews((yield from collect(recent, size=STEP)), now)

    def served(self) -> Mapping[tuple[str, str], Served]:
        """Return (service, instance) -> what Envoys saw of it in all."""
        return dict(self._served)

    def observe(self, instance: str, *, now: float) -> Observation | None:
        """Return what all Envoys see of an instance; None when they have been silent for long."""
        window = self._instances.get(instance)
        if window is None or now - window.at > 2 * WINDOW:
            return None
        return window.observation(now)

    def answered_at(self, instance: str) -> float:
        """Return when an Envoy last reported a good answer of the instance; -inf if never."""
        window = self._instances.get(instance)
        return -math.inf if window is None else window.answered_at


def _without_failures(report: TrafficReport) -> TrafficReport:
    """Return *report* without the attempts that did not reach their instance."""
    return replace(
        report,
        issued=max(0.0, report.issued - report.failed),
        failed=0.0,
        failures=NO_FAILURES,
        retries=0.0,
    )


def _serve(served: Served, report: TrafficReport, rtt: float) -> Served:
    """Return *served* with *report* added."""
    away = rtt * report.latency_count
    return Served(
        served.answers + report.latency_count,
        served.inside + max(report.latency_sum - away, 0.0),
        served.under_way + max(report.in_progress * report.interval - rtt * report.issued, 0.0),
    )
