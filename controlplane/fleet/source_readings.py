"""Readings of one source, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controlplane.fleet.sources import SourceState
from controlplane.model import Reading, Signal, Source


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


NOTHING_READ: Mapping[Signal, Reading] = {}
"""One for all that never reported: thousands in each view."""


def readings_of(source: SourceState) -> SourceReadings:
    """Return the gauges and counters of its last report."""
    return SourceReadings(source.report.signals, source.report.source, source.report.at)


def rates_of(source: SourceState) -> SourceReadings:
    """Return what its counters grew by over the last interval, each a second."""
    window = source.window
    return SourceReadings(window.rates, source.report.source, window.at)
