"""All sources of one instance: which are kept, which counts most, and what they say together.

A better source wins while it is fresh, and a worse one takes over when it falls silent. On a device
site one entry stands for the like instance on every device, whose agents are one source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlplane.config import Instance
from controlplane.config.serving import served_name
from controlplane.errors import ReportError
from controlplane.fleet import plausibility, trust
from controlplane.fleet.devices import Devices
from controlplane.fleet.rates import smoothed
from controlplane.fleet.source_readings import NOTHING_READ, rates_of, readings_of
from controlplane.fleet.sources import SourceState
from controlplane.fleet.standing import InstanceSettings
from controlplane.model import InstanceReport, Reading, Signal, Source

WINDOW_SHARE = 0.8
"""Fraction of the steering period that an interval of rates covers at least: reports once a period
that jitter by a fifth give one interval each."""
MAX_SOURCES = 8
"""Sources of one instance that are remembered; the one that was silent longest goes first."""

RANK = {source: rank for rank, source in enumerate(Source)}
"""Smaller is better."""


@dataclass(frozen=True, slots=True)
class Received:
    """A report that was accepted, and what it means for its instance."""

    report: InstanceReport
    """Of a device: what the whole class says after it."""
    source: SourceState
    restarted: bool
    """Its counters began again."""
    woke: bool
    """It is ready, and a source last said that it was not."""


class Sources:
    """The sources of one instance.

    Attributes:
        arrivals: requests a second that the instance takes in by its own counters, smoothed; None
            while unknown.
    """

    def __init__(self, instance: Instance, settings: InstanceSettings) -> None:
        self.arrivals: float | None = None
        self._states: dict[tuple[Source, str], SourceState] = {}
        self._devices: Devices | None = None
        self.reconfigure(instance, settings)

    def reconfigure(self, instance: Instance, settings: InstanceSettings) -> None:
        """Receive changed settings of the same instance."""
        self._expiry = settings.expiry
        self._shortest = WINDOW_SHARE * settings.period
        self._scrape_period = instance.scrape.period if instance.scrape is not None else None
        self._served = {served_name(each, settings.models): each.name for each in instance.serves}
        # One entry stands for the like instance on every device: their counters are many.
        if instance.site not in settings.device_sites:
            self._devices = None
        elif self._devices is None:
            self._devices = Devices()

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[SourceState]:
        return iter(self._states.values())

    @property
    def one_machine(self) -> bool:
        """Return whether they speak of one machine, not of a class of devices."""
        return self._devices is None

    @property
    def devices(self) -> int:
        """Return how many devices reported lately; 0 where the instance is one machine."""
        return 0 if self._devices is None else len(self._devices)

    def receive(
        self, report: InstanceReport, *, now: float, observed: trust.Observation | None
    ) -> Received | None:
        """Keep a report as its source's last; None if it is not newer than that.

        Raises:
            ReportError: it cannot be believed.
        """
        if self._devices is not None and report.reporter:
            report = self._of_device(report, self._devices, now)
        # Agents have bugs of their own; Envoys only pass on what an instance says.
        agent = report.source is Source.AGENT and self._devices is None
        key = (report.source, report.reporter if agent else "")
        source = self._states.get(key)
        if source is not None and report.at <= source.report.at and source.spoke_at > -math.inf:
            return None
        first = source is None or source.spoke_at == -math.inf
        if source is None:
            source = self._add(key, report)
        try:
            plausibility.require_instant(report.at, now=now, oldest=self._expiry)
            plausibility.require_instance(report)
            restarted = self._devices is None and source.count(report, shortest=self._shortest)
        except ReportError as error:
            source.strike(str(error), now=now)
            raise
        source.spoke_at = now
        self._add_up(source, report)
        woke = report.ready and any(not (each.report.ready or each.contradicted) for each in self)
        source.forgive()
        source.accept(report, first=first, observed=observed)
        if agent:
            self._hold_against_own(source, now)
        return Received(report, source, restarted, woke)

    def _hold_against_own(self, source: SourceState, now: float) -> None:
        """Compare what an agent says with what is read of the instance itself."""
        for key, own in self._states.items():
            is_fresh = now - own.report.at <= own.fresh_for(self._expiry)
            if key[0] is Source.SCRAPE and is_fresh and not (own.quarantine or own.doubt):
                source.compare(own.report)
                return
        # Without the instance's own word, or with one that is late, the agent's is the best.
        source.contradicted = ""

    def contradictions(self) -> list[str]:
        """Return why the word of some source counts less than it would."""
        return [each.contradicted for each in self if each.contradicted]

    def _add(self, key: tuple[Source, str], report: InstanceReport) -> SourceState:
        if len(self._states) >= MAX_SOURCES:
            oldest = min(self._states, key=lambda each: self._states[each].spoke_at)
            del self._states[oldest]
        period = self._scrape_period if report.source is Source.SCRAPE else None
        return self._states.setdefault(key, SourceState(report, period=period))

    def _of_device(self, report: InstanceReport, devices: Devices, now: float) -> InstanceReport:
        """Return what the whole class says after *report*; a device's lies are its own."""
        plausibility.require_instant(report.at, now=now, oldest=self._expiry)
        plausibility.require_instance(report)
        source = self._states.get((report.source, ""))
        merged = devices.merge(report, oldest=now - self._expiry)
        if source is not None and report.at <= source.report.at:
            # Clocks of different devices need no order among themselves.
            merged = replace(merged, at=math.nextafter(source.report.at, math.inf))
        return merged

    def _add_up(self, source: SourceState, report: InstanceReport) -> None:
        """Add up what the counters of a source gained, if an interval has just closed."""
        window = source.window
        if window.at != report.at or source.doubt or source.quarantine:
            return
        if window.arrivals is not None:
            self.arrivals = smoothed(
                self.arrivals, window.arrivals, elapsed=window.interval, interval=window.interval
            )

    def any_fresh(self, now: float) -> bool:
        """Return whether the last report of any source still counts in full."""
        return any(now - each.report.at <= each.fresh_for(self._expiry) for each in self)

    def rejected_lately(self, now: float) -> bool:
        """Return whether a source in quarantine has sent what could not be believed lately."""
        return any(each.quarantine and now - each.struck_at < self._expiry for each in self)

    def ordered(self, now: float) -> list[SourceState]:
        """Return the sources, best last: believed, fresh before stale, by kind, the newest."""
        spoken = [each for each in self if each.spoke_at > -math.inf]
        if len(spoken) < 2:
            return spoken
        return sorted(
            spoken,
            key=lambda each: (
                not each.quarantine,
                fresh := now - each.report.at <= each.fresh_for(self._expiry),
                not (each.doubt or each.contradicted) if fresh else True,
                -RANK[each.report.source] if fresh else each.report.at,
                each.report.at,
            ),
        )

    def best(self, now: float) -> SourceState:
        """Return the one that counts most; there must be one."""
        if len(self._states) == 1:
            return next(iter(self))
        return self.ordered(now)[-1]

    def vanished(self, best: SourceState) -> tuple[Signal, ...]:
        """Return what *best* gives no longer and no other source gives instead."""
        given = {signal for each in self for signal in each.report.signals}
        return tuple(signal for signal in best.vanished if signal not in given)

    def fields(self, dropped: frozenset[Signal], *, now: float) -> dict[str, Any]:
        """Return the fields of an `InstanceView` that the sources decide, without *dropped*."""
        ordered = [each for each in self.ordered(now) if not each.quarantine]
        if not ordered:
            return {"readings": NOTHING_READ, "rates": NOTHING_READ, "interval": 0.0, "missing": ()}
        best = ordered[-1]
        readings: Mapping[Signal, Reading] = (
            readings_of(best)
            if len(ordered) == 1
            else {key: value for each in ordered for key, value in readings_of(each).items()}
        )
        rates, interval = NOTHING_READ, 0.0
        counting = [each for each in ordered if each.window.rates]
        if counting:
            # Of one source only: rates over different intervals do not go together.
            rates, interval = rates_of(counting[-1]), counting[-1].window.interval
        missing = tuple(
            signal
            for signal in dict.fromkeys((*best.report.missing, *best.vanished))
            if len(ordered) == 1 or signal not in readings
        )
        if dropped:
            readings = {key: readings[key] for key in readings if key not in dropped}
            rates = {key: rates[key] for key in rates if key not in dropped}
            interval = interval if rates else 0.0
        return {
            "readings": readings,
            "rates": rates,
            "interval": interval,
            "missing": missing,
            **self._loaded(ordered),
        }

    def _loaded(self, ordered: list[SourceState]) -> dict[str, Any]:
        """Return which models it says it holds, by their names in the configuration."""
        reports = (each.report for each in reversed(ordered))
        report = next((each for each in reports if each.max_loaded or each.loaded), None)
        if report is None:
            return {}
        held = (self._served.get(name) for name in report.loaded)
        return {
            "loaded": tuple(name for name in held if name is not None),
            "max_loaded": round(report.max_loaded or 0) or None,
        }
