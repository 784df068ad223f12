"""The network between sites: measured while fresh, else configured, else assumed.

A round trip is the same both ways, so one measured in the other direction beats a configured one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controlplane.config import Config
from controlplane.fleet.path_view import PathTable, PathView
from controlplane.model import PathReport, Reading, Source

EXPIRY = 60.0
"""Seconds that a measurement counts at least; ``steering.expiry`` if that is longer."""
RTT_GAIN = 0.5
"""Weight of a new round trip: three probes bring seven eighths of a change, one stray probe half
of its error."""


@dataclass(slots=True)
class _Measured:
    source: Source
    rtt: float | None = None
    rtt_at: float = -math.inf
    bandwidth: float | None = None
    bandwidth_at: float = -math.inf


class Paths:
    """What is known of every ordered pair of sites."""

    def __init__(self, config: Config) -> None:
        self._measured: dict[tuple[str, str], _Measured] = {}
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Receive other sites and other configured paths; measurements of remaining sites stay."""
        network = config.network
        self._expiry = max(EXPIRY, config.steering.expiry)
        default_bandwidth = (
            None
            if network.default_bandwidth is None
            else Reading(network.default_bandwidth, Source.DEFAULT)
        )
        self._sites = frozenset(site.name for site in config.sites)
        self._default = PathView(Reading(network.default_rtt, Source.DEFAULT), default_bandwidth)
        self._local = PathView(Reading(network.local_rtt, Source.DEFAULT), None)
        self._known: dict[tuple[str, str], PathView] = {}
        # The way there as written, the way back as its mirror unless that is written too.
        for path in network.paths:
            self._configure(path.target, path.source, path.rtt, path.bandwidth)
        for path in network.paths:
            self._configure(path.source, path.target, path.rtt, path.bandwidth)
        self._measured = {
            pair: measured
            for pair, measured in self._measured.items()
            if self._sites.issuperset(pair)
        }
        self._view: PathTable | None = None
        self._changed: set[tuple[str, str]] = set()
        self._valid_until = math.inf

    def _configure(
        self, source: str, target: str, rtt: float | None, bandwidth: float | None
    ) -> None:
        if not self._sites.issuperset((source, target)):
            return
        former = self._base((source, target))
        self._known[source, target] = PathView(
            former.rtt if rtt is None else Reading(rtt, Source.CONFIG),
            former.bandwidth if bandwidth is None else Reading(bandwidth, Source.CONFIG),
        )

    def apply(self, report: PathReport) -> None:
        """Apply a measurement between two known sites; an older one is dropped."""
        measured = self._measured.setdefault(
            (report.from_site, report.to_site), _Measured(report.source)
        )
        measured.source = report.source
        if report.rtt is not None and report.at > measured.rtt_at:
            if measured.rtt is None or report.at - measured.rtt_at > self._expiry:
                measured.rtt = report.rtt
            else:
                measured.rtt += RTT_GAIN * (report.rtt - measured.rtt)
            measured.rtt_at = report.at
        if report.bandwidth is not None and report.at > measured.bandwidth_at:
            measured.bandwidth = report.bandwidth
            measured.bandwidth_at = report.at
        self._changed.add((report.from_site, report.to_site))

    def rtt(self, source: str, target: str) -> float:
        """Return the round trip as last measured, fresh or not, else as configured."""
        measured = self._measured.get((source, target))
        if measured is not None and measured.rtt is not None:
            return measured.rtt
        if not self._sites.issuperset((source, target)):
            return 0.0
        return self._base((source, target)).rtt.value

    def _base(self, pair: tuple[str, str]) -> PathView:
        """Return what the configuration says of *pair*, or its default."""
        known = self._known.get(pair)
        if known is not None:
            return known
        return self._local if pair[0] == pair[1] else self._default

    def view(self, *, now: float) -> PathTable:
        """Return every ordered pair; the same object as before while nothing changed."""
        if self._view is None or now >= self._valid_until:
            changed = {pair for one in self._measured for pair in (one, one[::-1])}
            view = dict(self._known)
            self._valid_until = math.inf
        elif self._changed:
            changed = {pair for one in self._changed for pair in (one, one[::-1])}
            view = dict(self._view.stated)
        else:
            return self._view
        for pair in changed:
            view[pair] = self._pair(pair, now - self._expiry)
        self._changed.clear()
        self._view = PathTable(self._sites, view, self._default, self._local)
        return self._view

    def _pair(self, pair: tuple[str, str], oldest: float) -> PathView:
        known = self._base(pair)
        rtt, bandwidth = known.rtt, known.bandwidth
        there, back = self._measured.get(pair), self._measured.get(pair[::-1])
        for measured in (back, there):
            if measured is not None and measured.rtt is not None and measured.rtt_at > oldest:
                rtt = Reading(measured.rtt, measured.source, measured.rtt_at)
                self._valid_until = min(self._valid_until, measured.rtt_at + self._expiry)
        if there is not None and there.bandwidth is not None and there.bandwidth_at > oldest:
            bandwidth = Reading(there.bandwidth, there.source, there.bandwidth_at)
            self._valid_until = min(self._valid_until, there.bandwidth_at + self._expiry)
        return PathView(rtt, bandwidth)
