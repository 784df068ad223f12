"""What operators learn of changes, in log, metrics and events: each once, however long it lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controlplane.controller.config_changes import ConfigChange, OverrideChange
from controlplane.controller.configuration import Configuration
from controlplane.controller.cycle import Cycle
from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.discovery_events import DiscoveryEvents
from controlplane.controller.events import EventHub
from controlplane.controller.instance_events import InstanceEvents
from controlplane.controller.leader_plan import UnfollowedPlan
from controlplane.controller.metrics import Metrics
from controlplane.controller.moves import Move
from controlplane.controller.override_requests import describe
from controlplane.controller.reporter import FAULTS_LOGGED, Reporter, some
from controlplane.errors import Fault as ConfigFault
from controlplane.grpc_services.envoys import XdsEvent
from controlplane.resources.views import Fault as ResourceFault
from controlplane.runtime.log import Logger
from controlplane.steering.assignment_sums import notes_of
from controlplane.steering.plan import Plan
from controlplane.xds.types import short_type


class Notifier:
    """Compares each state with the one before and reports what is new.

    Attributes:
        reporter: for what others have to report.
    """

    def __init__(
        self, *, log: Logger, events: EventHub, metrics: Metrics, unix_time: Callable[[], float]
    ) -> None:
        self.reporter = Reporter(log=log, events=events, unix_time=unix_time)
        self._metrics = metrics
        self._instances = InstanceEvents(self.reporter)
        self._discovery = DiscoveryEvents(self.reporter, metrics)
        self._notes: Mapping[tuple[str, str], str] = {}
        self._resource_faults: frozenset[ResourceFault] = frozenset()
        self._frozen = False

    def subscribe(self, configuration: Configuration, cycle: Cycle) -> None:
        """Report what *configuration* and *cycle* publish."""
        configuration.file_changed.subscribe(
            lambda _: self._metrics.config_reloads.labels("accepted").inc()
        )
        configuration.rejected.subscribe(self.report_config_faults)
        configuration.changed.subscribe(
            lambda change: self.report_config(change, file=configuration.status.file)
        )
        configuration.discovery_changed.subscribe(self._discovery.report)
        configuration.overrides_changed.subscribe(self.report_override)
        cycle.completed.subscribe(self.report_cycle)
        cycle.unfollowed.subscribe(self.report_unfollowed)

    def report_cycle(self, result: CycleResult) -> None:
        """Report phases, fallbacks and resources that changed since the last cycle."""
        if result.decision is None:
            return
        view, plan = result.view, result.decision.plan
        self.reporter.begin_cycle()
        self._instances.report(view)
        if not result.followed:
            self._instances.report_failing(plan)
        self.reporter.end_cycle()
        if view.frozen and not self._frozen:
            self.reporter.report_fault(
                "all instances silent; plan frozen",
                remedy="check whether their metrics can be reached from here",
            )
        self._frozen = view.frozen
        self._report_notes(plan)
        self._report_resources(frozenset(result.faults))
        if result.plan_changed:
            self.reporter.log.info(
                "leader's plan published" if result.followed else "plan published",
                version=plan.version,
                reason=result.reason,
                duration_ms=round(result.elapsed * 1000, 1),
            )

    def report_config_faults(self, faults: tuple[ConfigFault, ...]) -> None:
        """Report why a new configuration is rejected."""
        self._metrics.config_reloads.labels("refused").inc()
        for fault in faults[:FAULTS_LOGGED]:
            self.reporter.log.error(
                "configuration rejected",
                fault=str(fault),
                remedy="fix the file; the last good configuration keeps serving",
            )
        if len(faults) > FAULTS_LOGGED:
            self.reporter.log.error(
                "configuration rejected", more_faults=len(faults) - FAULTS_LOGGED
            )
        self.reporter.publish(
            "configuration rejected", {"faults": [str(fault) for fault in faults]}
        )

    def report_config(self, change: ConfigChange, *, file: str) -> None:
        """Report that a new configuration is in force, unless discovery has reported it."""
        if change.quiet:
            return
        fields = {
            "file": file,
            "version": change.version,
            "sites": len(change.config.sites),
            "services": len(change.config.services),
            "instances": len(change.config.instances),
        }
        self.reporter.report("configuration reloaded", **fields)

    def report_override(self, change: OverrideChange) -> None:
        """Report that an operator's override was added, removed or has expired."""
        active = change.override
        fields = {
            "override": active.id,
            "what": describe(active.override),
            "reason": active.override.reason,
            "by": active.by,
        }
        if change.removed_by:
            fields["removed_by"] = change.removed_by
        self.reporter.report(change.event, **fields)

    def report_unfollowed(self, unfollowed: UnfollowedPlan) -> None:
        """Report that the leader's plan names what this replica does not have."""
        self.reporter.report_fault(
            "leader's plan not served",
            version=unfollowed.plan.version,
            unknown=some(unfollowed.unknown),
            serving=unfollowed.served or "nothing",
            remedy="use the same configuration and the same access to clusters on every replica;"
            " see cats_discovery_ok and cats_discovery_cluster_ok here and at the leader",
        )

    def report_nack(self, event: XdsEvent) -> None:
        """Publish an Envoy's rejection; the stream has logged it."""
        self.reporter.publish(
            "resources rejected",
            {
                "envoy": event.envoy,
                "site": event.site,
                "type": short_type(event.type_url),
                "version": event.version,
                "text": event.text,
            },
        )

    def report_move(self, move: Move) -> None:
        """Publish a share that changed, and why; the log has the plan's line."""
        self.reporter.publish(
            "shares moved",
            {
                "text": str(move),
                "service": move.service,
                "from": move.client_site,
                "instance": move.instance,
                "previous": round(move.before, 4),
                "share": round(move.after, 4),
                "reason": move.reason,
            },
            level="info",
        )

    def _report_notes(self, plan: Plan) -> None:
        notes = notes_of(plan.assignments)
        fresh: dict[tuple[str, str], list[str]] = {}
        for (service, site), note in notes.items():
            if self._notes.get((service, site)) != note:
                fresh.setdefault((service, note), []).append(site)
        for (service, note), sites in fresh.items():
            self._metrics.fallbacks.labels(service).inc(len(sites))
            self.reporter.report_fault(
                "fallback in use",
                service=service,
                reason=note,
                sites=sites,
                remedy=f"see 'cats explain {service} --from {sites[0]}'",
            )
        self._notes = notes

    def _report_resources(self, faults: frozenset[ResourceFault]) -> None:
        for fault in sorted(faults - self._resource_faults, key=str)[:FAULTS_LOGGED]:
            self._metrics.resource_faults.labels(short_type(fault.type_url)).inc()
            self.reporter.report_fault(
                "invalid resource withheld",
                fault=str(fault),
                remedy="the last good one keeps serving; see the configuration of that service",
            )
        self._resource_faults = faults
