"""One control plane: reports in, a cycle every period, snapshots out.

Everything here runs on one event loop but for the deciding itself, which has a thread of its own.
A new configuration takes effect between two cycles, never inside one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from controlplane.admin_api.debug import DebugUpdates, apply_overlay
from controlplane.admin_api.discovery import RuleStatus
from controlplane.admin_api.documents import ConfigStatus
from controlplane.bus.local import Bus, LocalBus
from controlplane.config import Config, Found, Instance, Refused
from controlplane.config.merge import merge
from controlplane.controller.cycle_metrics import CycleRecord, Meter, record_cycle
from controlplane.controller.decider import Decider, covers, unknown_to
from controlplane.controller.events import EventHub
from controlplane.controller.metrics import EnvoyCount, Metrics, Present
from controlplane.controller.notifier import Teller
from controlplane.controller.overrides import OverrideError, OverrideRequest, Standing, Wheel
from controlplane.controller.persistence import StateError, StateFile
from controlplane.controller.scheduler import Pace
from controlplane.controller.xds_observer import XdsObserver
from controlplane.errors import ConfigError, ReportError
from controlplane.fleet import FleetState
from controlplane.fleet.levels import LevelBook
from controlplane.fleet.view import FleetView
from controlplane.grpc_services.envoys import EnvoyRegistry, Happening, XdsEvent
from controlplane.grpc_services.sites import SiteResolver
from controlplane.grpc_services.views import DEFAULT_VIEW, ViewStore
from controlplane.model import InstanceReport, Report, ScrapeFailure, Source, TrafficReport
from controlplane.runtime.log import Logger, get_logger
from controlplane.runtime.throttle import Told
from controlplane.steering.plan import Plan
from controlplane.xds.snapshot import Snapshot

UNFOLLOWED = 3.0
"""Seconds after which a leader's plan that cannot be served is reported; one replica hears of an
instance some moments before another."""
MEMORY_PERIOD = 10.0
"""Seconds between two times that what was learned is saved."""


class ControlPlane:
    """The state between the sockets and the deciding code.

    Attributes:
        config: the configuration in force: the file's, with the instances that were discovered and
            the overrides made while running.
        file_config: the file's alone.
        merged: the file's with the instances that were discovered.
        refused: discovered instances that do not take part.
        discovery_status: how the rules of discovery fare.
        wheel: the overrides made while running.
        view: the fleet as the last cycle saw it; none before the first.
        plan: the plan being served; none before the first.
        bus: the other replicas; replaced before anything runs where there are some.
        on_file: called when the file says something else, which has not taken effect yet.
        on_config: called with each new configuration when it has taken effect.
        on_report: called with each report that was taken.
        on_cycle: called after each cycle, with whether the plan is another one.
        on_traced: called after each cycle that decided, with its times.
        meter: measures cycles and acknowledgements.
    """

    def __init__(
        self,
        config: Config,
        *,
        file: Path,
        state_dir: Path | None = None,
        settle: float | None = None,
        found: Iterable[Found] = (),
        clock: Callable[[], float] = time.monotonic,
        log: Logger | None = None,
    ) -> None:
        self.bus: Bus = LocalBus()
        self.file_config = config
        self._found = tuple(found)
        self._not_found: tuple[Refused, ...] = ()
        self.merged = merge(config, self._found)
        self.discovery_status: Callable[[], tuple[RuleStatus, ...]] = tuple
        config = self.merged.config
        self.config = config
        self.clock = clock
        self.log = log or get_logger()
        self.metrics = Metrics(self._present)
        self.events = EventHub()
        self.views = ViewStore()
        self.sites = SiteResolver(config)
        self.registry = EnvoyRegistry(XdsObserver(self.metrics, self.log, self._on_xds))
        self.fleet = FleetState(config, now=clock())
        self.debug = DebugUpdates(self._republish)
        self.decider = Decider(config)
        self.view: FleetView | None = None
        self.levels = LevelBook()
        self.plan: Plan | None = None
        self.config_status = ConfigStatus(str(file), config_version(config), loaded_at=clock())
        self.on_file: list[Callable[[], None]] = []
        self.on_config: list[Callable[[Config], None]] = []
        self.on_report: list[Callable[[Report], None]] = []
        self.on_cycle: list[Callable[[bool], None]] = []
        self.on_traced: list[Callable[[CycleRecord], None]] = []
        self.envoys_touched = asyncio.Event()
        self.teller = Teller(
            log=self.log,
            events=self.events,
            metrics=self.metrics,
            unix_time=lambda: self.epoch + clock(),
        )
        self.meter = Meter(self.metrics, self.registry, self.views)
        self._pace = Pace()
        self._settle = min(1.0, config.steering.period) if settle is None else settle
        self._state = StateFile(state_dir) if state_dir else None
        self._saved_version = ""
        self._alone = False
        self._unfollowed_since: float | None = None
        self._told: Told[str] = Told()
        self._memorised_at = clock()
        self._built: Mapping[str, Snapshot] = {}
        self._clients: set[tuple[str, str]] = set()
        """(site, role) of gRPC clients and older Envoys so far; the unknown site is one."""
        self.wheel = Wheel(state_dir)
        self._pending: tuple[Config, str] | None = None
        self._quiet = False
        """Whether what is pending came from discovery alone, which has told it already."""
        self._readiness: dict[str, bool] = {}

    @property
    def epoch(self) -> float:
        """Give the Unix time of the clock's zero, as the system sees it now."""
        return time.time() - self.clock()

    def close(self) -> None:
        """End the deciding thread."""
        self.decider.close()

    # What comes in.

    def receive(self, report: Report) -> None:
        """Take a report from any source, and let the other replicas hear it.

        Raises:
            ReportError: it is refused, and counted as such.
        """
        self.receive_heard(report)
        self.bus.publish(report)

    def receive_heard(self, report: Report) -> None:
        """Take a report that another replica has received.

        Raises:
            ReportError: it is refused, and counted as such.
        """
        source = report_source(report)
        try:
            self.fleet.apply(report, now=self.clock())
        except ReportError:
            self.metrics.reports.labels(source, "refused").inc()
            raise
        self.metrics.reports.labels(source, "accepted").inc()
        self.meter.hear(now=self.clock())
        for take in self.on_report:
            take(report)
        if isinstance(report, ScrapeFailure):
            self.metrics.scrape_failures.labels(report.instance).inc()
        elif isinstance(report, InstanceReport):
            self._note_readiness(report.instance, ready=report.ready)

    def receive_traffic(self, reports: Sequence[TrafficReport]) -> None:
        """Take what one Envoy observed; reports that name what is not configured are counted."""
        self.receive_all(reports)

    def receive_all(self, reports: Sequence[Report]) -> None:
        """Take reports whose sender cannot be told what was wrong with them."""
        for report in reports:
            try:
                self.receive(report)
            except ReportError as error:
                self.log.debug("an envoy's report is refused", reason=str(error))

    def _note_readiness(self, instance: str, *, ready: bool) -> None:
        if self._readiness.get(instance, True) != ready:
            told = "is ready again" if ready else "is not ready"
            self._pace.urge(f"{instance} {told}", now=self.clock())
        self._readiness[instance] = ready

    def receive_bus_change(self, what: str) -> None:
        """Take that the bus, its leader or its plan are others."""
        self._pace.urge(what, now=self.clock())
        if what != "another plan":
            self.log.info(what, bus=self.config.server.bus)

    def receive_config(self, change: Config | ConfigError) -> None:
        """Take what the file says now; what is wrong is told and changes nothing."""
        if isinstance(change, ConfigError):
            self.metrics.config_reloads.labels("refused").inc()
            self.config_status = replace(
                self.config_status, faults=change.faults, refused_at=self.clock()
            )
            self.teller.tell_config_faults(change.faults)
            return
        self.metrics.config_reloads.labels("accepted").inc()
        self.config_status = replace(self.config_status, faults=(), refused_at=None)
        former, self.file_config = self.file_config, change
        self._merge(former.instances)
        self._turn_wheel("configuration changed")
        for tell in self.on_file:
            tell()

    @property
    def refused(self) -> tuple[Refused, ...]:
        """Give the discovered instances that do not take part."""
        return (*self._not_found, *self.merged.refused)

    def receive_found(self, found: Iterable[Found], refused: Iterable[Refused] = ()) -> None:
        """Take which instances there are beside the file's.

        Args:
            found: all of them.
            refused: objects that are no instances, and why.
        """
        taken = self.merged.taken
        self._found, self._not_found = tuple(found), tuple(refused)
        self._merge()
        if self.merged.taken != taken:
            quiet = self._pending is None or self._quiet
            self._turn_wheel("instances were discovered")
            self._quiet = quiet

    def _merge(self, former: Iterable[Instance] = ()) -> None:
        """Merge what the file has with what was found; *former* are those it had before."""
        before, refused = self.merged, self.refused
        self.merged = merge(
            self.file_config,
            self._found,
            before=(*before.taken, *(Found("", instance) for instance in former)),
            awaited=any(not rule.listed for rule in self.discovery_status()),
        )
        self.teller.tell_discovered(before, self.merged)
        self.teller.tell_refused_instances(refused, self.refused)

    def add_override(self, request: OverrideRequest) -> Standing:
        """Let an operator's override stand from the next cycle, which comes at once.

        Raises:
            OverrideError: it cannot stand.
        """
        if not self.decides:
            raise OverrideError(
                "another replica decides, and does not hear of this; add it there (cats_leader is"
                " 1), or to overrides in the file, which all replicas read"
            )
        made = self.wheel.add(request, unix_now=self.epoch + self.clock())
        self.teller.tell_override("override added", made)
        self._turn_wheel("an override was added")
        return made

    def remove_override(self, name: str, *, by: str) -> Standing:
        """End an override made while running.

        Raises:
            OverrideError: there is no such one.
        """
        gone = self.wheel.remove(name)
        self.teller.tell_override("override removed", gone, removed_by=by)
        self._turn_wheel("an override was removed")
        return gone

    def _expire_overrides(self) -> None:
        for over in self.wheel.expire(unix_now=self.epoch + self.clock()):
            self.teller.tell_override("override expired", over)
            self._turn_wheel("an override expired")

    def _turn_wheel(self, reason: str) -> None:
        config = self.wheel.apply(self.merged.config)
        self._pending = (config, config_version(config))
        self._quiet = False
        self._pace.urge(reason, now=self.clock())

    # Cycles.

    async def load_state(self) -> None:
        """Serve the plan of the other replicas, or that of before the restart, if one fits."""
        await self._load_memory()
        await self._load_overrides()
        shared = self.bus.plan
        if shared is not None and covers(shared, self.config):
            self._built = await self.decider.restore(shared)
            self.plan = shared
            self.views.publish(self._overlaid())
            self.log.info("serving the replicas' plan", version=shared.version)
            return
        if self._state is None:
            return
        try:
            saved = await asyncio.to_thread(self._state.load, now=self.clock())
        except StateError as error:
            self.log.warning(
                "saved plan cannot be read; starting without it",
                reason=str(error),
                remedy="none needed; look at the file if this happens again",
            )
            return
        if saved is None:
            return
        if not covers(saved.plan, self.config):
            self.log.warning(
                "saved plan is of another fleet; starting without it", version=saved.plan.version
            )
            return
        self._built = await self.decider.restore(saved.plan)
        self.plan = saved.plan
        self._saved_version = saved.plan.version
        self.views.publish(self._overlaid())
        age = max(0.0, self.epoch + self.clock() - saved.saved_at)
        self.log.info("serving the saved plan", version=saved.plan.version, age=round(age, 1))

    async def _load_overrides(self) -> None:
        try:
            await asyncio.to_thread(self.wheel.load, unix_now=self.epoch + self.clock())
        except OverrideError as error:
            self.log.warning(
                "saved overrides cannot be read; starting without them",
                reason=str(error),
                remedy="add them again with 'cats override add'",
            )
        if self.wheel.standing:
            self.log.info("overrides of before the restart stand", count=len(self.wheel.standing))
            self._turn_wheel("overrides of before the restart")

    async def _load_memory(self) -> None:
        """Let steering go on from what was learned by other replicas, or before the restart."""
        learned = self.bus.memory
        try:
            if learned is None and self._state is not None:
                learned = await asyncio.to_thread(self._state.load_memory)
            if learned is not None:
                await self.decider.remember(learned, now=self.clock())
                self.log.info("going on from what was learned", instances=len(learned["capacity"]))
        except StateError as error:
            self.log.warning("what was learned cannot be read; learning anew", reason=str(error))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = "" if self._state is None else self._state.set_memory_aside()
            self.log.warning(
                "what was learned cannot be used; learning anew", reason=repr(error), file=aside
            )

    async def _save_memory(self) -> None:
        """Keep what was learned, now and then, on disk and for replicas to come."""
        now = self.clock()
        shared = self.bus.leads and self.bus.connected
        if now - self._memorised_at < MEMORY_PERIOD or (self._state is None and not shared):
            return
        self._memorised_at = now
        learned = await self.decider.memory(now=now)
        if shared:
            await self.bus.share_memory(learned)
        if self._state is not None:
            try:
                await asyncio.to_thread(self._state.save_memory, learned)
            except OSError:
                self.metrics.state_saves.labels("failed").inc()

    async def run_cycles(self) -> None:
        """Decide and publish every period, earlier when something urgent happens."""
        if self.view is None:
            await asyncio.sleep(self._settle)  # so that the first plan knows the first reports
        while True:
            started_at = self.clock()
            await self.run_cycle()
            await self._pace.wait(
                started_at=started_at, period=self.config.steering.period, now=self.clock()
            )

    async def run_cycle(self) -> None:
        """Decide once, on what is known now."""
        began = time.perf_counter()
        self._expire_overrides()
        reason = self._pace.begin()
        await self._take_pending_config()
        self.fleet.set_clients(self.bus.clients(self.registry.clients))
        heard_at = self.meter.take_heard()
        view = self.fleet.view(now=self.clock())
        viewed = time.perf_counter()
        follow = self._plan_to_follow()
        if follow is None and not self.decides:
            self._note_unfollowed()
            self._end_idle_cycle(view)
            return
        self._unfollowed_since = None
        self._alone = follow is None and not self.bus.leads
        decision = await self.decider.decide(view, clients=frozenset(self._clients), follow=follow)
        decided = time.perf_counter()
        plan = decision.plan
        another = self.plan is None or self.plan.version != plan.version
        if another and follow is None and self.bus.leads and not await self.bus.offer(plan):
            self.log.warning("a plan could not be shared; the last one stays", version=plan.version)
            if self.plan is not None:
                await self.decider.restore(self.plan)
            self._end_idle_cycle(view)
            return
        self.levels.observe(view)
        self.view, self.plan = view, plan
        self._built = {**decision.views, **decision.derived_views}
        changed = self.views.publish(self._overlaid())
        # The streams that this woke send first; counting and telling can wait, weights cannot.
        await asyncio.sleep(0)
        published = time.perf_counter()
        elapsed = published - began
        if changed:
            self.meter.follow(
                plan.version, heard_at=heard_at if follow is None else None, now=self.clock()
            )
        outcome = self.meter.count(
            decision, changed=changed, elapsed=elapsed, followed=follow is not None
        )
        self.meter.count_ages(view)
        self.teller.tell_cycle(view, plan, decision.views.faults)
        if another:
            self.log.info(
                "plan published" if follow is None else "the leader's plan is served",
                version=plan.version,
                because=reason or "period",
                milliseconds=round(elapsed * 1000, 1),
            )
        for tell in tuple(self.on_cycle):
            tell(another)
        await self._save(plan)
        await self._save_memory()
        if self.on_traced:
            record = record_cycle(
                decision,
                reason=reason or "period",
                outcome=outcome,
                instances=len(view.instances),
                marks=(began, viewed, decided, published, time.perf_counter()),
            )
            for trace in self.on_traced:
                trace(record)

    @property
    def decides(self) -> bool:
        """Tell whether this replica decides, and so should ask instances how they are.

        The leader does; so does one that had nothing to serve when the bus was away.
        """
        if self.bus.leads:
            return True
        started_alone = self.plan is None or self._alone
        return self.bus.alone and self.bus.plan is None and started_alone

    def _plan_to_follow(self) -> Plan | None:
        """Give the plan of all replicas where it has to be taken over; none to decide."""
        shared = self.bus.plan
        if shared is None:
            return None
        served = None if self.plan is None else self.plan.version
        if self.bus.leads and shared.version == served:
            return None
        return shared if covers(shared, self.config) else None

    def _note_unfollowed(self) -> None:
        """Report, soon and then once a minute, that the leader's plan cannot be served here."""
        plan, now = self.bus.plan, self.clock()
        unknown = [] if plan is None else unknown_to(plan, self.config)
        if plan is None or not unknown:
            self._unfollowed_since = None
            return
        if self._unfollowed_since is None:
            self._unfollowed_since = now
        if now - self._unfollowed_since >= UNFOLLOWED and self._told.is_due("plan", now=now):
            served = "" if self.plan is None else self.plan.version
            self.teller.report_unfollowed(plan, unknown, served=served)

    def _end_idle_cycle(self, view: FleetView) -> None:
        """End a cycle in which nothing could be decided or taken over."""
        self.levels.observe(view)
        self.view = view
        for tell in self.on_cycle:
            tell(False)

    async def _take_pending_config(self) -> None:
        if self._pending is None:
            return
        (config, version), self._pending = self._pending, None
        quiet, self._quiet = self._quiet, False
        if version == self.config_status.version:
            if not quiet:
                self.log.info("configuration is the one in force", version=version)
            return
        fixed = {"identities", "agents"}  # the parts of it that are taken while running
        if config.server.model_dump(exclude=fixed) != self.config.server.model_dump(exclude=fixed):
            self.log.warning(
                "changes under 'server' take effect at the next start",
                remedy="restart the control plane",
            )
        await self.decider.reconfigure(config)
        # Before the first plan nobody else serves: what is discovered by then serves at once.
        self.fleet.reconfigure(config, now=self.clock(), ramp=self.view is not None)
        self.sites.reconfigure(config)
        self.config = config
        self.config_status = replace(self.config_status, version=version, loaded_at=self.clock())
        names = {instance.name for instance in config.instances}
        self._readiness = {k: ready for k, ready in self._readiness.items() if k in names}
        for take in self.on_config:
            take(config)
        if quiet:
            return
        self.teller.tell_config(
            file=self.config_status.file,
            version=version,
            sites=len(config.sites),
            services=len(config.services),
            instances=len(config.instances),
        )

    def _overlaid(self) -> Mapping[str, Snapshot]:
        overlay = self.debug.overlay
        return apply_overlay(overlay, self._built) if overlay else self._built

    def _republish(self) -> None:
        if self._built:
            self.views.publish(self._overlaid())

    async def _save(self, plan: Plan) -> None:
        if self._state is None or plan.version == self._saved_version:
            return
        self._saved_version = plan.version  # one attempt for each plan, not one for each cycle
        try:
            await asyncio.to_thread(self._state.save, plan, saved_at=self.epoch + self.clock())
        except OSError as error:
            self.metrics.state_saves.labels("failed").inc()
            self.log.warning(
                "plan not saved; serving goes on",
                file=str(self._state.path),
                reason=error.strerror or str(error),
                remedy="make room in --state-dir, and see that it can be written",
            )
        else:
            self.metrics.state_saves.labels("saved").inc()

    # What goes out beside the plans.

    def _on_xds(self, event: XdsEvent) -> None:
        if event.what is Happening.NACKED:
            self.teller.tell_refusal(event)
        elif event.what is Happening.CONNECTED and event.role:
            self._serve_role(event.site, event.role)
        self.meter.observe_xds(event, now=self.clock())
        self.envoys_touched.set()

    def _serve_role(self, site: str, role: str) -> None:
        """Have views made for the clients of *role* at *site*, soon, if there are none yet."""
        if all(site != each.name for each in self.config.sites):
            site = DEFAULT_VIEW
        if (site, role) not in self._clients:
            self._clients.add((site, role))
            self._pace.urge(f"first client of role {role} at its site", now=self.clock())

    def _present(self) -> Present:
        counts: dict[tuple[str, str], int] = {}
        for envoy in self.registry.envoys:
            if envoy.connected:
                # A site that an Envoy invents gets no series of its own.
                key = (envoy.site if envoy.known_site else "", envoy.mode)
                counts[key] = counts.get(key, 0) + 1
        return Present(
            view=self.view,
            levels=self.levels.levels,
            plan=self.plan,
            envoys=tuple(EnvoyCount(*key, count) for key, count in sorted(counts.items())),
            views=len(self.views.views),
            ready=self.views.ready,
            config_ok=not self.config_status.faults,
            leads=self.bus.leads,
            bus_connected=self.bus.connected,
            discovery=self.discovery_status(),
        )


def report_source(report: Report) -> str:
    """Give the label of where a report comes from."""
    if isinstance(report, ScrapeFailure):
        return Source.SCRAPE.value
    source = getattr(report, "source", Source.ENVOY)
    return str(source)


def config_version(config: Config) -> str:
    """Give the version of a configuration: a hash of its values, not of its text."""
    return hashlib.blake2b(config.model_dump_json().encode(), digest_size=8).hexdigest()
