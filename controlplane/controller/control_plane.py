"""One control plane: its parts and what connects them.

Everything here runs on one event loop but for the deciding itself, which has a thread of its own.
A new configuration takes effect between two cycles, never inside one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from controlplane.bus.local import OTHER_OVERRIDES, Bus, LocalBus
from controlplane.config import Config, DiscoveredInstance, DiscoveredMatch
from controlplane.controller.config_changes import ConfigChange
from controlplane.controller.configuration import Configuration
from controlplane.controller.cycle import Cycle
from controlplane.controller.cycle_metrics import CycleMeter
from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.decider import Decider
from controlplane.controller.events import EventHub
from controlplane.controller.history import History, Sample, make_sample, pack_sample
from controlplane.controller.metrics import Metrics
from controlplane.controller.metrics.snapshot import EnvoyCount, MetricsSnapshot
from controlplane.controller.notifier import Notifier
from controlplane.controller.overrides import OverrideStore
from controlplane.controller.persistence import Persistence
from controlplane.controller.publication import Publication
from controlplane.controller.replicated_overrides import ReplicatedOverrides
from controlplane.controller.reports import ReportIntake
from controlplane.controller.xds_observer import XdsObserver
from controlplane.fleet import FleetState
from controlplane.fleet.view import FleetView
from controlplane.grpc_services.agent_registry import AgentRegistry
from controlplane.grpc_services.envoys import EnvoyRegistry, XdsEvent, XdsEventKind
from controlplane.grpc_services.sites import SiteResolver
from controlplane.grpc_services.views import ViewStore
from controlplane.model import Report
from controlplane.runtime.log import Logger, get_logger
from controlplane.steering.plan import Plan

_BUS_REMEDIES = {
    "lost": "none needed; see why NATS lost its store, and whether it is on a lasting volume",
    "unreadable": "run replicas of one version; the leader replaces the plan if it can",
}
"""Part of a change of the bus -> what to do about it."""


class ControlPlane:
    """The parts between the sockets and the deciding code.

    Attributes:
        configuration: from file, discovery and overrides to what is in force.
        reports: the way of every report into `fleet`.
        cycle: decides and has published.
        publication: builds what Envoys get, and publishes it.
        bus: the other replicas; replaced before anything runs where there are some.
        agents: the connected agents.
        history: what the fleet was like over the last day.
        meter: measures cycles and acknowledgements.
        notifier: reports each change once, in log, metrics and events.
        overrides: of operators, here and at all other replicas.
    """

    def __init__(
        self,
        config: Config,
        *,
        file: Path,
        state_dir: Path | None = None,
        settle: float | None = None,
        found: Iterable[DiscoveredInstance] = (),
        matches: Iterable[DiscoveredMatch] = (),
        addresses: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        log: Logger | None = None,
    ) -> None:
        """Make and connect the parts; long, since each part is one statement."""
        self.bus: Bus = LocalBus()
        self.clock = clock
        self.log = log or get_logger()
        self.metrics = Metrics(self._snapshot)
        self.events = EventHub()
        self.views = ViewStore()
        self.registry = EnvoyRegistry(XdsObserver(self.metrics, self.log, self._on_xds))
        self.configuration = Configuration(
            config,
            file=file,
            overrides=OverrideStore(state_dir),
            found=found,
            matches=matches,
            addresses=addresses,
            clock=clock,
            unix_time=self.unix_time,
            log=self.log,
        )
        config = self.configuration.effective
        self.sites = SiteResolver(config)
        self.fleet = FleetState(config, now=clock())
        self.decider = Decider(config)
        self.publication = Publication(config, self.views)
        self.persistence = Persistence(
            state_dir,
            decider=self.decider,
            metrics=self.metrics,
            clock=clock,
            unix_time=self.unix_time,
            log=self.log,
        )
        self.reports = ReportIntake(
            self.fleet, bus=lambda: self.bus, metrics=self.metrics, clock=clock, log=self.log
        )
        self.cycle = Cycle(
            self.configuration,
            fleet=self.fleet,
            decider=self.decider,
            publication=self.publication,
            persistence=self.persistence,
            registry=self.registry,
            bus=lambda: self.bus,
            clock=clock,
            unix_time=self.unix_time,
            settle=min(1.0, config.steering.period) if settle is None else settle,
            log=self.log,
        )
        self.overrides = ReplicatedOverrides(
            self.configuration, bus=lambda: self.bus, unix_time=self.unix_time
        )
        self.notifier = Notifier(
            log=self.log, events=self.events, metrics=self.metrics, unix_time=self.unix_time
        )
        self.meter = CycleMeter(self.metrics, self.registry, self.views)
        self.agents = AgentRegistry()
        self.history = History()
        self._sampling: set[asyncio.Task[None]] = set()
        self.envoys_touched = asyncio.Event()
        self._connect()

    def _connect(self) -> None:
        """Connect the parts; no connection relies on the order of another one."""
        self.configuration.cycle_wanted.subscribe(self.cycle.request)
        self.configuration.withdrawn.subscribe(self.cycle.withdraw)
        self.reports.cycle_wanted.subscribe(self.cycle.request)
        self.reports.became_unready.subscribe(self.cycle.withdraw_unready)
        self.configuration.changed.subscribe(self._on_config)
        self.reports.accepted.subscribe(self.cycle.receive_report)
        self.reports.accepted.subscribe(lambda _: self.meter.receive_report(now=self.clock()))
        self.cycle.began.subscribe(lambda _: self.meter.begin_cycle())
        self.cycle.completed.subscribe(
            lambda result: self.meter.observe_cycle(result, now=self.clock())
        )
        self.cycle.completed.subscribe(self._keep_sample)
        self.notifier.subscribe(self.configuration, self.cycle)

    def _keep_sample(self, result: CycleResult) -> None:
        """Have a sample made in another thread, where one is due: it takes a while to make."""
        view, plan, epoch = result.view, self.plan, self.epoch
        if plan is None or not self.history.due(view.at + epoch) or self._sampling:
            return
        make = partial(make_sample, view, plan, epoch=epoch)
        task = asyncio.create_task(self._add_sample(make), name="history sample")
        self._sampling.add(task)
        task.add_done_callback(self._sampling.discard)

    async def _add_sample(self, make: Callable[[], Sample]) -> None:
        self.history.add(*await asyncio.to_thread(lambda: pack_sample(make())))

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self.configuration.effective

    @property
    def view(self) -> FleetView | None:
        """Return the fleet as the last cycle saw it; None before the first."""
        return self.cycle.view

    @property
    def plan(self) -> Plan | None:
        """Return the plan being served; None before the first."""
        return self.cycle.plan

    @property
    def epoch(self) -> float:
        """Return the Unix time of the clock's zero, as the system sees it now."""
        return time.time() - self.clock()

    def unix_time(self) -> float:
        """Return the Unix time now."""
        return self.epoch + self.clock()

    def close(self) -> None:
        """End the threads."""
        self.decider.close()
        self.publication.close()

    def receive(self, report: Report) -> None:
        """Apply a report from any source; see `ReportIntake.receive`.

        Raises:
            ReportError: it is rejected, and counted as such.
        """
        self.reports.receive(report)

    def receive_bus_change(self, what: str) -> None:
        """React to another state of the bus, another leader or another plan."""
        if what == OTHER_OVERRIDES:
            self.configuration.adopt_overrides(self.bus.overrides or ())
            return
        self.cycle.request(what)
        remedy = next((text for part, text in _BUS_REMEDIES.items() if part in what), None)
        if remedy is not None:
            self.log.warning(what, bus=self.config.server.bus, remedy=remedy)
        elif what != "another plan":
            self.log.info(what, bus=self.config.server.bus)

    async def load_state(self) -> None:
        """Restore estimates, overrides and the plan of other replicas or from before a restart."""
        await self.persistence.restore_estimates(self.bus.memory)
        await self.persistence.load_overrides(self.configuration.overrides)
        if self.bus.overrides is None:
            self.bus.overrides = self.configuration.overrides.encode()
        else:  # what a replica removed meanwhile is over, whatever was saved here
            self.configuration.adopt_overrides(self.bus.overrides)
        self.configuration.restore_overrides()
        await self.cycle.restore()

    def _on_config(self, change: ConfigChange) -> None:
        self.sites.reconfigure(change.config)
        self.reports.forget_others(instance.name for instance in change.config.instances)

    def _on_xds(self, event: XdsEvent) -> None:
        if event.what is XdsEventKind.NACKED:
            self.notifier.report_nack(event)
        elif event.what is XdsEventKind.CONNECTED and event.role:
            self.cycle.serve_role(event.site, event.role)
        if event.what in (XdsEventKind.CONNECTED, XdsEventKind.DISCONNECTED):
            self.cycle.wake("a client came or went")
        self.meter.observe_xds(event, now=self.clock())
        self.envoys_touched.set()

    def _snapshot(self) -> MetricsSnapshot:
        counts: dict[tuple[str, str], int] = {}
        for envoy in self.registry.envoys:
            if envoy.connected:
                # A site that an Envoy invents gets no series of its own.
                key = (envoy.site if envoy.known_site else "", envoy.mode)
                counts[key] = counts.get(key, 0) + 1
        return MetricsSnapshot(
            view=self.view,
            levels=self.cycle.levels.levels,
            plan=self.plan,
            envoys=tuple(EnvoyCount(*key, count) for key, count in sorted(counts.items())),
            views=len(self.views.views),
            ready=self.views.ready,
            config_ok=not self.configuration.status.faults,
            leads=self.bus.leads,
            bus_connected=self.bus.connected,
            follows=self.cycle.follows,
            discovery=self.configuration.discovery_status(),
        )
