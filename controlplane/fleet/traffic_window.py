"""How one instance answered lately: sums over what Envoys counted, which decay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from controlplane.fleet.traffic_view import TrafficView
from controlplane.fleet.trust import WINDOW, Observation
from controlplane.model import Reading, Source, TrafficReport


class TrafficWindow(NamedTuple):
    """Sums that decay over `WINDOW`; a value, so that views may keep it."""

    since: float
    at: float
    interval: float
    answered_at: float = -math.inf
    issued: float = 0.0
    succeeded: float = 0.0
    failed: float = 0.0
    in_progress: float = 0.0
    latency_sum: float = 0.0
    latency_count: float = 0.0
    ttft_sum: float = 0.0
    rtt_sum: float = 0.0
    answered: float = 0.0
    """Without decay."""

    def plus(self, report: TrafficReport, rtt: float) -> TrafficWindow:
        """Return the window with *report* in it, and all older parts decayed."""
        decay = weight = 1.0
        if report.at > self.at:
            decay = math.exp((self.at - report.at) / WINDOW)
        elif report.at < self.at:
            weight = math.exp((report.at - self.at) / WINDOW)
        # Events of an interval are as old as its middle, on average over the decay.
        weight *= -math.expm1(-report.interval / WINDOW) * WINDOW / report.interval
        return TrafficWindow(
            self.since,
            max(self.at, report.at),
            report.interval,
            max(self.answered_at, report.at) if report.succeeded > 0 else self.answered_at,
            self.issued * decay + weight * report.issued,
            self.succeeded * decay + weight * report.succeeded,
            self.failed * decay + weight * report.failed,
            self.in_progress * decay + weight * report.in_progress * report.interval,
            self.latency_sum * decay + weight * report.latency_sum,
            self.latency_count * decay + weight * report.latency_count,
            self.ttft_sum * decay + weight * report.ttft_sum,
            self.rtt_sum * decay + weight * report.issued * rtt,
            self.answered + report.succeeded,
        )

    def per_second(self, now: float) -> float:
        """Return the factor from a decayed sum to a rate at *now*."""
        # The interval that is still open at the Envoy is no silence.
        silence = max(0.0, now - self.at - self.interval)
        covered = -math.expm1(-(self.at - self.since + silence) / WINDOW) * WINDOW
        return math.exp(-silence / WINDOW) / max(covered, 1e-3)

    @property
    def failures(self) -> float:
        """Return the failed share of the answers."""
        answers = self.succeeded + self.failed
        return self.failed / answers if answers > 0 else 0.0

    def view(self, now: float) -> TrafficView:
        """Return the picture of one client site, service and instance."""
        per_second = self.per_second(now)
        latency = ttft = None
        if self.latency_count > 1e-6:
            latency = Reading(self.latency_sum / self.latency_count, Source.ENVOY, self.at)
            if self.ttft_sum > 0:
                ttft = Reading(self.ttft_sum / self.latency_count, Source.ENVOY, self.at)
        return TrafficView(
            rate=Reading(self.issued * per_second, Source.ENVOY, self.at),
            failures=self.failures,
            latency=latency,
            ttft=ttft,
            in_progress=self.in_progress * per_second,
            answered=self.succeeded * per_second,
        )

    def observation(self, now: float) -> Observation:
        """Return what is held against an instance's claims."""
        per_second = self.per_second(now)
        rtt = self.rtt_sum / self.issued if self.issued > 1e-6 else 0.0
        latency = None
        if self.latency_count > 1e-6:
            latency = max(0.0, self.latency_sum / self.latency_count - rtt)
        return Observation(
            rate=self.issued * per_second,
            in_progress=self.in_progress * per_second,
            answers=self.succeeded + self.failed,
            answer_rate=self.succeeded * per_second,
            failures=self.failures,
            latency=latency,
            rtt=rtt,
            answered=self.answered,
        )


class WindowViews(Mapping[tuple[str, str, str], TrafficView]):
    """Windows as they were at one instant, each turned into its view when it is asked for."""

    __slots__ = ("_now", "_views", "_windows")

    def __init__(self, windows: Mapping[tuple[str, str, str], TrafficWindow], now: float) -> None:
        self._windows = windows
        self._now = now
        self._views: dict[tuple[str, str, str], TrafficView] = {}

    def __getitem__(self, key: tuple[str, str, str]) -> TrafficView:
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self._windows[key].view(self._now)
        return view

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        return iter(self._windows)

    def __len__(self) -> int:
        return len(self._windows)

    def __contains__(self, key: object) -> bool:
        return key in self._windows

    def __repr__(self) -> str:
        return f"WindowViews({dict(self)!r})"
