"""The fleet's frozen picture: what is true now, and how well it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controlplane.config import Config, Instance, Wake
from controlplane.fleet.path_view import PathView
from controlplane.fleet.traffic_view import (
    LatencyCounts,
    OutcomeView,
    PromiseView,
    Served,
    TrafficView,
)
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
    ASLEEP = "asleep"
    """Scaled to zero: nothing answers, and it can be started."""


OUT_OF_SERVICE = frozenset({Phase.EXPIRED, Phase.NOT_READY, Phase.ASLEEP})
"""Phases in which an instance gets no requests while others can be sent them, and in which its last
figures say nothing."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """An instance that is asleep, and what became of its last start."""

    wake: Wake
    requested_at: float | None = None
    """When a start was last asked for; None if none was since it last served."""
    pending: bool = False
    """Whether that start was taken, and may still come about."""
    retry_at: float = -math.inf
    """When it may be asked for again."""
    error: str = ""
    """Why the last call came to nothing."""


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
    copies: int = 1
    """Like instances that this one stands for: the devices of its class, each with its own, without
    those whose battery is low. What is read here is that of one of them; what Envoys count is the
    sum."""
    low_battery: float = 0.0
    """Part of the devices of its class whose battery is below the floor: their clients use it only
    where nothing else answers."""
    on_battery: float = 0.0
    """Part of the other devices that run on battery."""
    trial: bool = False
    """Out of service, and asked a little for some seconds to see whether it answers again."""
    awaited: str = ""
    """What ends a phase other than `Phase.LIVE`, for people."""
    disbelieved: tuple[Signal, ...] = ()
    """Signals that are reported and do not count, since Envoys or the source refute them; they are
    in neither *readings* nor *rates*."""
    cold_start: ColdStart | None = None
    """How it can be started; only while it is asleep."""
    loaded: tuple[str, ...] = ()
    """Models that it says it holds, by their names in the configuration."""
    max_loaded: int | None = None
    """Models that it says it holds at most; None if it does not."""

    @property
    def name(self) -> str:
        """Return the instance's name."""
        return self.instance.name

    @property
    def measured_at(self) -> float | None:
        """Return when the newest of its readings was measured; None before the first."""
        return max((r.at for r in self.readings.values() if r.at is not None), default=None)

    def latency(self) -> float | None:
        """Return the mean latency in seconds of requests completed between the last two reports."""
        total = self.rates.get(Signal.LATENCY_SUM)
        count = self.rates.get(Signal.LATENCY_COUNT)
        if total is None or count is None or count.value <= 0:
            return None
        return total.value / count.value


@dataclass(frozen=True, slots=True)
class TariffView:
    """What a kilowatt-hour costs at a site, as far as a feed says; else the configuration does."""

    price: Reading | None
    """In the operator's currency."""
    carbon: Reading | None
    """Grams of CO2."""

    @property
    def readings(self) -> tuple[tuple[str, Reading], ...]:
        """Return what is known, by name."""
        both = (("energy price", self.price), ("carbon", self.carbon))
        return tuple((name, reading) for name, reading in both if reading is not None)


@dataclass(frozen=True, slots=True)
class BatteryView:
    """What the agents of a class of devices say of its batteries."""

    reporting: int
    """Devices that said lately what they run on."""
    on_battery: int
    """Those of them that are not on mains."""
    charge: float | None
    """Mean charge of these, 0 to 1; None if there are none."""
    low: frozenset[str]
    """Ids of the devices on battery that are below ``sites[].battery.floor``."""


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
    """Site -> charge, 0 to 1, of a class of devices its mean; absent on mains."""
    batteries: Mapping[str, BatteryView] = field(default_factory=dict)
    """Device site -> what its devices run on; absent where no agent says."""
    latencies: Mapping[str, LatencyCounts] = field(default_factory=dict)
    """Service -> how long its answers took, for services that promise something."""
    promises: Mapping[tuple[str, str], PromiseView] = field(default_factory=dict)
    """(service, ``ttft`` or ``latency``) -> what became of the promise."""
    tariffs: Mapping[str, TariffView] = field(default_factory=dict)
    """Site -> what its energy costs; absent where no feed says."""
    counted: Mapping[tuple[str, str], Reading] = field(default_factory=dict)
    """The same as *demand* without smoothing, where Envoys report: what they counted in their last
    intervals, with all its noise, for readers that filter by themselves. Two filters are slower
    to see a step than either and no calmer."""
    outcomes: Mapping[tuple[str, str], OutcomeView] = field(default_factory=dict)
    """(instance, service) -> how Envoys saw its attempts end; pairs never sent to are absent."""
    served: Mapping[tuple[str, str], Served] = field(default_factory=dict)
    """(service, instance) -> what Envoys saw of it in all."""
    clients: Mapping[str, int] = field(default_factory=dict)
    """Site -> Envoys that are connected."""
    frozen: bool = False
    """True when every instance that ever reported is silent: keep the last plan."""
