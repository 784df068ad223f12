"""Many devices behind one entry of the configuration: what they say on average.

A device site is a class: its one instance stands for the like instance on every device, and each
device's clients use their own. Devices come and go; one that falls silent leaves the average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from controlplane.model import COUNTERS, InstanceReport, Signal

MAX_DEVICES = 100_000
"""Devices of one class that are remembered; the one that was silent longest goes first."""


class Devices:
    """The last word of each device of one class."""

    __slots__ = ("_ready", "_said", "_totals")

    def __init__(self) -> None:
        # Ordered by the instant of their last word.
        self._said: dict[str, InstanceReport] = {}
        self._totals: dict[Signal, tuple[float, int]] = {}
        self._ready = 0

    def __len__(self) -> int:
        return len(self._said)

    def merge(self, report: InstanceReport, *, oldest: float) -> InstanceReport:
        """Add *report* and return what all devices say together.

        Args:
            report: of one device.
            oldest: instant before which a device counts as gone.

        Returns:
            The mean of every gauge over the devices that report it; ready while any device is.
            Counters of different devices do not go together and are left out.
        """
        self._forget(report.reporter)
        self._said[report.reporter] = report
        self._add(report.signals, 1)
        self._ready += report.ready
        while True:
            first = next(iter(self._said))
            if self._said[first].at >= oldest and len(self._said) <= MAX_DEVICES:
                break
            self._forget(first)
            if not self._said:
                break
        means = {signal: total / count for signal, (total, count) in self._totals.items() if count}
        return replace(
            report,
            signals=means,
            ready=self._ready > 0,
            not_ready_reason=report.not_ready_reason if not self._ready else "",
        )

    def _forget(self, device: str) -> None:
        said = self._said.pop(device, None)
        if said is not None:
            self._add(said.signals, -1)
            self._ready -= said.ready

    def _add(self, signals: Mapping[Signal, float], sign: int) -> None:
        for signal, value in signals.items():
            if signal not in COUNTERS:
                total, count = self._totals.get(signal, (0.0, 0))
                # An empty sum starts again, so that rounding never piles up.
                self._totals[signal] = (
                    (total + sign * value, count + sign) if count + sign else (0.0, 0)
                )
