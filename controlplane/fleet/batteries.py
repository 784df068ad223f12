"""The batteries of a class of devices: how many run on one, and which are below the floor.

A device's agent has the id of its Envoy, so that what is said of its battery is known of its
clients. Devices come and go: one that falls silent is counted no longer, but one that was below the
floor stays there for a while, since a link that is away charges nothing.
"""

from __future__ import annotations

from controlplane.fleet.view import BatteryView
from controlplane.model import SiteReport

MAX_DEVICES = 100_000
"""Devices of one class that are remembered; the one that was silent longest goes first."""

RECOVERED = 0.05
"""Charge above the floor at which a device counts as charged again, so that it does not waver."""

REMEMBERED = 600.0
"""Seconds for which a silent device stays below its floor."""


class Batteries:
    """The last word of each device of one class."""

    __slots__ = ("_charge", "_low", "_on_battery", "_said", "_shown")

    def __init__(self) -> None:
        # Both are ordered by the instant of the last word.
        self._said: dict[str, SiteReport] = {}
        self._low: dict[str, float] = {}
        self._on_battery = 0
        self._charge = 0.0
        self._shown: frozenset[str] = frozenset()

    def apply(self, report: SiteReport, *, floor: float) -> None:
        """Apply the *report* of one device; one without a charge is on mains."""
        device, charge = report.reporter, report.battery
        known = self._said.get(device)
        if known is not None and known.at >= report.at:
            return
        was_low = self._low.pop(device, None) is not None
        if charge is not None and charge < floor + RECOVERED * was_low:
            self._low[device] = report.at
        self._forget(device)
        self._said[device] = report
        self._count(report, 1)
        if len(self._said) > MAX_DEVICES:
            first = next(iter(self._said))
            self._forget(first)
            self._low.pop(first, None)

    def view(self, *, now: float, expiry: float) -> BatteryView:
        """Return what is known at *now*; what is older than *expiry* seconds is not counted."""
        while self._said and next(iter(self._said.values())).at < now - expiry:
            self._forget(next(iter(self._said)))
        while self._low and next(iter(self._low.values())) < now - REMEMBERED:
            del self._low[next(iter(self._low))]
        if self._shown != self._low.keys():
            self._shown = frozenset(self._low)
        mean = self._charge / self._on_battery if self._on_battery else None
        return BatteryView(len(self._said), self._on_battery, mean, self._shown)

    def _forget(self, device: str) -> None:
        said = self._said.pop(device, None)
        if said is not None:
            self._count(said, -1)

    def _count(self, report: SiteReport, sign: int) -> None:
        if report.battery is not None:
            self._on_battery += sign
            self._charge = self._charge + sign * report.battery if self._on_battery else 0.0
