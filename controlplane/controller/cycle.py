"""A cycle: see the fleet, decide or follow the leader's plan, publish, save."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from controlplane.bus.local import Bus
from controlplane.config.withdrawals import Withdrawn, drained
from controlplane.controller.configuration import Configuration
from controlplane.controller.cycle_record import CycleRecord, record_cycle
from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.decider import Decider, Decision, covers
from controlplane.controller.leader_plan import LeaderPlan, UnfollowedPlan
from controlplane.controller.persistence import Persistence
from controlplane.controller.publication import Publication, Published
from controlplane.controller.scheduler import Scheduler
from controlplane.fleet import FleetState
from controlplane.fleet.levels import LevelBook
from controlplane.fleet.steps import in_turns
from controlplane.fleet.view import OUT_OF_SERVICE, FleetView, Phase
from controlplane.grpc_services.envoys import EnvoyRegistry
from controlplane.grpc_services.views import DEFAULT_VIEW
from controlplane.model import Report
from controlplane.runtime.broadcast import Broadcast
from controlplane.runtime.log import Logger
from controlplane.runtime.memory import return_free_memory
from controlplane.runtime.throttle import LogLimit
from controlplane.steering.plan import Plan

REST = 0.25
"""Rest after a cycle that outlasted its period, as a fraction of what it took: the last plan
serves meanwhile, and streams, reports and urgent events get the processor."""

SETTLED = 30.0
"""Seconds without a report or another plan after which nothing but time can change a decision."""
SLOW_DECISION = 0.2
"""Seconds of a decision from which instances that went are taken out of the weights before it."""
BURST = 0.02
"""Seconds that instances that go together are joined."""
CALM_PERIOD = 60.0
"""Seconds between two cycles of a settled fleet, unless `steering.period` is longer: five thousand
instances that no one uses cost a processor nothing meanwhile. The first report, client or change
ends it at once."""

SUSPENDED = 5.0
"""Seconds that a wait may take too long before the process counts as suspended."""


class Cycle:
    """Runs cycles and holds what the last one came to.

    Attributes:
        view: the fleet as the last cycle saw it; None before the first.
        levels: metric levels of the fleet over the last seconds.
        began: the instant at which a cycle takes the state of the fleet.
        completed: what each cycle came to, once its resources have been sent.
        measured: the times of each cycle that decided.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        fleet: FleetState,
        decider: Decider,
        publication: Publication,
        persistence: Persistence,
        registry: EnvoyRegistry,
        bus: Callable[[], Bus],
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        settle: float,
        log: Logger,
    ) -> None:
        self._configuration = configuration
        self._fleet = fleet
        self._decider = decider
        self._publication = publication
        self._persistence = persistence
        self._registry = registry
        self._bus = bus
        self._clock = clock
        self._unix_time = unix_time
        self._settle = settle
        self._log = log
        self._scheduler = Scheduler()
        self._clients: set[tuple[str, str]] = set()
        """(site, role) of gRPC clients and older Envoys so far; the unknown site is one."""
        self._decides_alone = False
        self._leader_plan = LeaderPlan(configuration, bus=bus, clock=clock)
        self._logged: LogLimit[str] = LogLimit()
        self._decided_in = 0.0
        """Seconds that the last decision took."""
        self._deciding_since: float | None = None
        self._withdrawn = asyncio.Event()
        self._changed_at = clock()
        """When a cycle last came to another plan, or to other resources."""
        self._calm_since: float | None = None
        """Since when the next cycle waits for `CALM_PERIOD`; None if it does not."""
        self.view: FleetView | None = None
        self.levels = LevelBook()
        self.began = Broadcast[float]()
        self.completed = Broadcast[CycleResult]()
        self.measured = Broadcast[CycleRecord]()

    @property
    def plan(self) -> Plan | None:
        """Return the plan being served; None before the first."""
        return self._publication.plan

    @property
    def unfollowed(self) -> Broadcast[UnfollowedPlan]:
        """Return what is published, once a minute, when a leader's plan cannot be served here."""
        return self._leader_plan.unfollowed

    @property
    def decides(self) -> bool:
        """Return whether this replica decides, and so should read instances.

        The leader does; so does one that had nothing to serve when the bus was unreachable.
        """
        bus = self._bus()
        if bus.leads:
            return True
        started_alone = self.plan is None or self._decides_alone
        return bus.alone and bus.plan is None and started_alone

    def request(self, reason: str) -> None:
        """Ask for a cycle soon because of *reason*."""
        self._scheduler.request(reason, now=self._clock())

    def serve_role(self, site: str, role: str) -> None:
        """Have views made for the clients of *role* at *site*, soon, if there are none yet."""
        if all(site != each.name for each in self._configuration.effective.sites):
            site = DEFAULT_VIEW
        if (site, role) not in self._clients:
            self._clients.add((site, role))
            self.request(f"first client of role {role} at its site")

    def withdraw(self, pairs: Withdrawn) -> None:
        """Send no more requests to *pairs* of a service and an instance, whatever is under way.

        A cycle has to be requested as well: it decides who gets them instead.
        """
        self._publication.withdrawals.note(pairs)
        self._withdrawn.set()

    def withdraw_unready(self, instance: str) -> None:
        """Send no more requests to *instance*, which says that it is not ready, if it counts."""
        if self._fleet.is_out(instance, now=self._clock()):
            self.withdraw(self._pairs([instance]))

    def _pairs(self, instances: Iterable[str]) -> Withdrawn:
        services = [each.name for each in self._configuration.effective.services]
        return frozenset((service, name) for name in instances for service in services)

    async def restore(self) -> None:
        """Serve the plan of the other replicas, or that from before the restart, if one fits."""
        shared, config = self._bus().plan, self._configuration.effective
        if shared is not None and covers(shared, config):
            await self._serve_restored(shared)
            self._log.info("replicas' plan restored", version=shared.version)
            return
        saved = await self._persistence.load_plan()
        if saved is None:
            return
        if not covers(saved.plan, config):
            self._log.warning(
                "saved plan does not match the configuration; ignored",
                version=saved.plan.version,
                remedy="none needed: the first cycle makes a new plan",
            )
            return
        await self._serve_restored(saved.plan)
        age = max(0.0, self._unix_time() - saved.saved_at)
        self._log.info("saved plan restored", version=saved.plan.version, age=round(age, 1))

    async def run(self) -> None:
        """Run a cycle every period, earlier when something urgent happens, until cancelled."""
        if self.view is None:
            await asyncio.sleep(self._settle)  # so that the first plan knows the first reports
        try:
            while True:
                started_at = self._clock()
                await self.run_once()
                steering = self._configuration.effective.steering
                ended_at = self._clock()
                if ended_at - started_at > steering.period:
                    self._note_overrun(ended_at - started_at, steering.period, now=ended_at)
                    started_at = ended_at + REST * (ended_at - started_at) - steering.period
                period = steering.period
                if self._is_settled(now=ended_at):
                    period, self._calm_since = max(period, CALM_PERIOD), ended_at
                    self.levels.rest()
                    return_free_memory()
                await self._scheduler.wait(started_at=started_at, period=period, now=ended_at)
                self._calm_since = None
                if self._clock() - ended_at > period + SUSPENDED:
                    await self._listen_again(self._clock() - ended_at)
        finally:
            # What was published last is what a restart goes on with, however short it was served.
            if self.plan is not None:
                await self._persistence.save_plan(self.plan)

    async def run_withdrawals(self) -> None:
        """Publish what goes at once, also while a decision is under way, until cancelled."""
        while True:
            await self._withdrawn.wait()
            await asyncio.sleep(BURST)
            await self._withdraw()

    async def _withdraw(self) -> None:
        """Publish the served plan without what went, where deciding takes its time."""
        self._withdrawn.clear()
        since, now = self._deciding_since, self._clock()
        under_way = 0.0 if since is None else now - since
        if max(self._decided_in, under_way) < SLOW_DECISION:
            return
        await self._publication.withdraw(clients=frozenset(self._clients))
        await asyncio.sleep(0)  # the streams that this woke send first

    def wake(self, reason: str) -> None:
        """End the long wait of a settled fleet; does nothing while cycles follow each other."""
        if self._calm_since is not None:
            self._calm_since = None
            self.request(reason)

    def receive_report(self, _report: Report) -> None:
        """Wake if a report says something, after a time in which none did."""
        if self._calm_since is not None and self._fleet.stirred_at >= self._calm_since:
            self.wake("first report after a calm")

    def _is_settled(self, *, now: float) -> bool:
        """Return whether a cycle can only come to what the last one came to."""
        stirred_at = max(self._fleet.stirred_at, self._changed_at)
        return (
            now - stirred_at > SETTLED
            and self.view is not None
            and not self._configuration.overrides.active
            and all(each.ramp >= 1 for each in self.view.instances.values())
        )

    def _note_overrun(self, took: float, period: float, *, now: float) -> None:
        """Log, once a minute, that a cycle outlasted its period; its predecessor's plan served."""
        if self._logged.is_due("overrun", now=now):
            self._log.warning(
                "cycle outlasted its period",
                duration_ms=round(1e3 * took),
                period_ms=round(1e3 * period),
                remedy="raise steering.period, or see cats_cycle_seconds for what takes long;"
                " until then weights follow reports later, and urgent changes still come first",
            )

    async def _listen_again(self, seconds: float) -> None:
        """Let reports come in before anything is decided, after *seconds* in which none could.

        A process that was suspended finds every report older than it is worth, though what it
        says is true: it was this process that did not listen.
        """
        config = self._configuration.effective
        periods = [each.scrape.period for each in config.instances if each.scrape is not None]
        wait = min(config.steering.expiry / 2, max(1.0, 2.0 * max(periods, default=1.0)))
        self._log.warning(
            "process was suspended; plan kept until reports have come in",
            seconds=round(seconds, 1),
            wait=wait,
            remedy="find out what suspended it: SIGSTOP, a paused VM, or a lack of CPU time",
        )
        await asyncio.sleep(wait)

    async def run_once(self) -> None:
        """Decide once, on what is known now."""
        began = time.perf_counter()
        self._configuration.expire_overrides()
        reason = self._scheduler.begin() or "period"
        await self._apply_pending_config()
        bus = self._bus()
        self._fleet.set_clients(bus.clients(self._registry.clients))
        view = await in_turns(self._fleet.view_in_steps(now=self._clock()))
        self.began.publish(view.at)
        viewed = time.perf_counter()
        follow = self._leader_plan.to_follow(self.plan)
        if follow is None and not self.decides:
            self._leader_plan.note_unfollowed(self.plan)
            follow = self._leader_plan.to_fit(self.plan)
            if follow is None:
                self._end_idle(view)
                return
        else:
            self._leader_plan.note_followed()
        self._decides_alone = follow is None and not bus.leads
        await self._withdraw_failed(view)
        decision = await self._decide(view, follow=follow)
        decided = time.perf_counter()
        plan, self._decided_in = decision.plan, decided - viewed
        plan_changed = self.plan is None or self.plan.version != plan.version
        if follow is None and not await self._share(plan):
            self._end_idle(view)
            return
        self.levels.observe(view)
        published = await self._publish(plan, view, followed=follow is not None)
        if plan_changed or published.changed:
            self._changed_at = self._clock()
        # The streams that this woke send first; counting and logging can wait, weights cannot.
        await asyncio.sleep(0)
        published_at = time.perf_counter()
        result = CycleResult(
            view,
            decision,
            plan_changed=plan_changed,
            views_changed=published.changed,
            followed=follow is not None,
            reason=reason,
            faults=published.views.faults,
            build_seconds=published.build_seconds,
            elapsed=published_at - began,
        )
        self.completed.publish(result)
        await self._save(plan)
        if self.measured:
            marks = (began, viewed, decided, published_at, time.perf_counter())
            self.measured.publish(
                record_cycle(
                    decision,
                    build_seconds=published.build_seconds,
                    reason=reason,
                    outcome=result.outcome,
                    instances=len(view.instances),
                    marks=marks,
                )
            )

    async def _apply_pending_config(self) -> None:
        # Before the new configuration is put in force, which takes its time as well.
        await self._withdraw()
        pending = self._configuration.take_pending()
        # What went so far is known to what is decided from here on.
        self._publication.withdrawals.begin_decision()
        change = await self._configuration.change_to(pending)
        if change is None:
            return
        await self._decider.reconfigure(change.config)
        await self._publication.reconfigure(change.config)
        # Before the first plan nothing else serves: what is discovered by then serves at once.
        await in_turns(
            self._fleet.reconfigure_in_steps(
                change.config, now=self._clock(), ramp=self.view is not None
            )
        )
        self._configuration.put_in_force(change)

    async def _withdraw_failed(self, view: FleetView) -> None:
        """Publish the served plan without what the last cycle's view had in service."""
        before = self.view
        if before is None or view.frozen:
            return
        lost = [
            name
            for name, each in view.instances.items()
            if each.phase in OUT_OF_SERVICE
            and name in before.instances
            and before.instances[name].phase not in OUT_OF_SERVICE
        ]
        if lost:
            self._publication.withdrawals.note_known(self._pairs(lost))
            await self._withdraw()

    async def _decide(self, view: FleetView, *, follow: Plan | None) -> Decision:
        self._deciding_since = self._clock()
        try:
            return await self._decider.decide(view, follow=follow)
        finally:
            self._deciding_since = None

    async def _publish(self, plan: Plan, view: FleetView, *, followed: bool) -> Published:
        published = await self._publication.publish(
            plan,
            clients=frozenset(self._clients),
            # A leader may not have heard yet what this replica has.
            barred=self._barred(view) if followed else frozenset(),
            low_battery={site: each.low for site, each in view.batteries.items() if each.low},
        )
        self.view = view
        return published

    def _barred(self, view: FleetView) -> Withdrawn:
        """Return what no plan for *view* sends anything to."""
        unready = (e.name for e in view.instances.values() if e.phase is Phase.NOT_READY)
        return drained(view.config) | self._pairs(unready)

    @property
    def follows(self) -> bool:
        """Return whether the leader's plan can be served whole; true without another leader."""
        return self._leader_plan.follows

    async def _share(self, plan: Plan) -> bool:
        """Make *plan* the plan of all replicas, if this one leads; return whether it may serve.

        Whether this replica has served it before or not: one that leads since a moment ago served
        its own where the last leader's did not fit, and the others have the last leader's, or none.
        """
        bus = self._bus()
        is_shared = bus.plan is not None and bus.plan.version == plan.version
        if not bus.leads or is_shared or await bus.offer(plan):
            return True
        self._log.warning(
            "plan not shared; the previous one is served",
            version=plan.version,
            remedy="none needed if it ends; otherwise check NATS and its JetStream",
        )
        if self.plan is not None:
            await self._decider.restore(self.plan)
        return False

    def _end_idle(self, view: FleetView) -> None:
        """End a cycle in which nothing could be decided or taken over."""
        self.levels.observe(view)
        self.view = view
        self.completed.publish(CycleResult(view, None))

    async def _serve_restored(self, plan: Plan) -> None:
        await self._decider.restore(plan)
        await self._publication.publish(plan)

    async def _save(self, plan: Plan) -> None:
        await self._persistence.save_plan(plan)
        bus = self._bus()
        shared = bus.shares_memory
        if self._persistence.estimates_due(shared=shared):
            estimates = await self._persistence.save_estimates()
            if shared:
                await bus.share_memory(estimates)
