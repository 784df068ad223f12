"""The fleet's frozen picture: what is true now, and how well it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controlplane.config import Config, Instance
from controlplane.model import Reading, Signal


class Phase(StrEnum):
    """Where an instance stands between unknown and trusted."""

    UNKNOWN = "unknown"
    """Never reported: only its configured prior is known."""
    STARTING = "starting"
    """Reports since less than the slow start."""
    LIVE = "live"
    STALE = "stale"
    """Silent for a while: what is known of it decays to its prior."""
    EXPIRED = "expired"
    """Silent beyond ``steering.expiry``: drained while others live."""
    NOT_READY = "not_ready"
    """Says itself that it must get nothing."""
    QUARANTINED = "quarantined"
    """Its reports cannot be believed."""


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance as it is known now."""

    instance: Instance
    phase: Phase
    confidence: float
    """1 when fresh, falls to 0 at ``steering.expiry``: the weight of what was measured against
    the prior."""
    ramp: float
    """0 to 1: the part of its full share that a starting instance may get."""
    trust: float = 1.0
    """0 to 1: how well its claims fit what Envoys observe."""
    readings: Mapping[Signal, Reading] = field(default_factory=dict)
    """Gauges as last reported; counters as last reported, too."""
    rates: Mapping[Signal, Reading] = field(default_factory=dict)
    """Counters only: growth a second over the last *interval*, unsmoothed.
    Intervals of successive views are the same one or follow each other without gap or overlap
    (a restart apart), so that a learner counts each once: by ``at``, which is its end."""
    interval: float = 0.0
    """Seconds that *rates* cover; 0 when there are none."""
    missing: tuple[Signal, ...] = ()
    """Signals that its engine should give and does not."""
    reason: str = ""
    """Why the phase is what it is, for people."""
    changed_at: float = 0.0
    """When the phase last changed."""

    @property
    def name(self) -> str:
        """Give the instance's name."""
        return self.instance.name

    def latency(self) -> float | None:
        """Give the mean latency of the requests completed between the last two reports, seconds."""
        total = self.rates.get(Signal.LATENCY_SUM)
        count = self.rates.get(Signal.LATENCY_COUNT)
        if total is None or count is None or count.value <= 0:
            return None
        return total.value / count.value


@dataclass(frozen=True, slots=True)
class PathView:
    """The network from one site to another as it is known now."""

    rtt: Reading
    """Seconds."""
    bandwidth: Reading | None
    """Bytes a second; none when nobody ever said."""


@dataclass(frozen=True, slots=True)
class TrafficView:
    """What Envoys of one client site see of one service at one instance."""

    rate: Reading
    """Requests issued a second."""
    failures: float
    """Share of the answers that were failures, 0 to 1."""
    latency: Reading | None
    """Mean seconds as seen by the Envoys, network included."""
    ttft: Reading | None
    in_progress: float = 0.0


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything that steering may know, at one instant."""

    at: float
    config: Config
    instances: Mapping[str, InstanceView]
    """Every configured or discovered instance by name, in name order."""
    paths: Mapping[tuple[str, str], PathView]
    """Every ordered pair of sites, (client site, instance's site)."""
    demand: Mapping[tuple[str, str], Reading]
    """(client site, service) -> requests a second, smoothed; pairs never seen are absent."""
    traffic: Mapping[tuple[str, str, str], TrafficView]
    """(client site, service, instance) -> what Envoys observe."""
    power: Mapping[str, Reading] = field(default_factory=dict)
    """Site -> draw in watts."""
    battery: Mapping[str, Reading] = field(default_factory=dict)
    """Site -> charge, 0 to 1; absent on mains."""
    counted: Mapping[tuple[str, str], Reading] = field(default_factory=dict)
    """The same as *demand* without smoothing, where Envoys report: what they counted in their last
    intervals, with all its noise, for whoever filters by himself. Two filters in a row are slower
    to see a step than either and no calmer."""
    clients: Mapping[str, int] = field(default_factory=dict)
    """Site -> Envoys that are connected."""
    frozen: bool = False
    """True when every instance that ever reported is silent: keep the last plan."""
