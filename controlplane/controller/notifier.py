"""What operators learn of changes, in log, metrics and events: each once, however long it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from controlplane.config import MergedConfig, RejectedInstance
from controlplane.controller.configuration import (
    ConfigChange,
    Configuration,
    DiscoveryChange,
    OverrideChange,
)
from controlplane.controller.cycle import Cycle, CycleResult, UnfollowedPlan
from controlplane.controller.events import EventHub
from controlplane.controller.metrics import Metrics
from controlplane.controller.moves import Move
from controlplane.controller.override_requests import describe
from controlplane.errors import Fault as ConfigFault
from controlplane.fleet.view import FleetView, Phase
from controlplane.grpc_services.envoys import XdsEvent
from controlplane.model import Signal
from controlplane.resources.build import Fault as ResourceFault
from controlplane.runtime.log import Logger
from controlplane.steering.assignments import notes_of
from controlplane.steering.plan import Failing, Plan
from controlplane.xds.types import short_type

FAULTS_LOGGED = 20
"""Faults of one configuration, or of one build, that get a line of their own in the log."""

FAILING_LOGGED = 0.1
"""Part of its requests that an instance fails, beyond what others do, from which it is reported."""

NAMES_LOGGED = 10
"""Names listed in one line; more are counted."""

_SERVING = frozenset({Phase.UNKNOWN, Phase.STARTING, Phase.LIVE, Phase.STALE, Phase.QUARANTINED})


class Notifier:
    """Compares each state with the one before and reports what is new."""

    def __init__(
        self, *, log: Logger, events: EventHub, metrics: Metrics, unix_time: Callable[[], float]
    ) -> None:
        self._log = log
        self._events = events
        self._metrics = metrics
        self._unix_time = unix_time
        self._phases: Mapping[str, Phase] = {}
        self._missing: Mapping[str, tuple[Signal, ...]] = {}
        self._failing: Mapping[tuple[str, str], Failing] = {}
        self._notes: Mapping[tuple[str, str], str] = {}
        self._resource_faults: frozenset[ResourceFault] = frozenset()
        self._starts: Mapping[str, tuple[float | None, bool]] = {}
        """Instance that is asleep -> when a start was asked for, and whether it may come about."""
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
        configuration.discovery_changed.subscribe(self._report_discovery_change)
        configuration.overrides_changed.subscribe(self.report_override)
        cycle.completed.subscribe(self.report_cycle)
        cycle.unfollowed.subscribe(self.report_unfollowed)

    def report_cycle(self, result: CycleResult) -> None:
        """Report phases, fallbacks and resources that changed since the last cycle."""
        if result.decision is None:
            return
        view, plan = result.view, result.decision.plan
        self._report_phases(view)
        self._report_starts(view)
        self._report_missing(view)
        if view.frozen and not self._frozen:
            self.report_fault(
                "all instances silent; plan frozen",
                remedy="check whether their metrics can be reached from here",
            )
        self._frozen = view.frozen
        if not result.followed:
            self._report_failing(plan)
        self._report_notes(plan)
        self._report_resources(frozenset(result.faults))
        if result.plan_changed:
            self._log.info(
                "leader's plan published" if result.followed else "plan published",
                version=plan.version,
                reason=result.reason,
                duration_ms=round(result.elapsed * 1000, 1),
            )

    def report_config_faults(self, faults: tuple[ConfigFault, ...]) -> None:
        """Report why a new configuration is rejected."""
        self._metrics.config_reloads.labels("refused").inc()
        for fault in faults[:FAULTS_LOGGED]:
            self._log.error(
                "configuration rejected",
                fault=str(fault),
                remedy="fix the file; the last good configuration keeps serving",
            )
        if len(faults) > FAULTS_LOGGED:
            self._log.error("configuration rejected", more_faults=len(faults) - FAULTS_LOGGED)
        self._publish("configuration rejected", {"faults": [str(fault) for fault in faults]})

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
        self.report("configuration reloaded", **fields)

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
        self.report(change.event, **fields)

    def report_unfollowed(self, unfollowed: UnfollowedPlan) -> None:
        """Report that the leader's plan names what this replica does not have."""
        self.report_fault(
            "leader's plan not served",
            version=unfollowed.plan.version,
            unknown=_some(unfollowed.unknown),
            serving=unfollowed.served or "nothing",
            remedy="use the same configuration and the same access to clusters on every replica;"
            " see cats_discovery_ok and cats_discovery_cluster_ok here and at the leader",
        )

    def report_nack(self, event: XdsEvent) -> None:
        """Publish an Envoy's rejection; the stream has logged it."""
        self._publish(
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
        self._publish(
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

    def report_fault(self, event: str, **fields: object) -> None:
        """Log and publish what an operator may have to act on."""
        self._log.warning(event, **fields)
        self._publish(event, fields)

    def report(self, event: str, **fields: object) -> None:
        """Log and publish what changed without a fault."""
        self._log.info(event, **fields)
        self._publish(event, fields, level="info")

    def _report_discovery_change(self, change: DiscoveryChange) -> None:
        self._report_discovered(change.before, change.now)
        self._report_matches(change.before, change.now)
        self._report_refused(change.refused_before, change.refused_now)

    def _report_discovered(self, before: MergedConfig, now: MergedConfig) -> None:
        """Report which discovered instances came, went, or are kept though they are gone."""
        was = {each.instance.name: each.instance for each in before.taken}
        are = {each.instance.name: each.instance for each in now.taken}
        came = [name for name in are if name not in was]
        moved = [
            name
            for name, each in are.items()
            if name in was and was[name] is not each and was[name] != each
        ]
        went = [name for name in was if name not in are]
        if came or moved or went:
            changes = {"came": came, "changed": moved, "went": went}
            fields = {what: _some(names) for what, names in changes.items() if names}
            self.report("discovered instances changed", **fields, instances=len(are))
        held_before = {each.instance.name for each in before.held}
        held = [each.instance.name for each in now.held if each.instance.name not in held_before]
        if held:
            self.report_fault(
                "last instances of a service gone; kept until others are discovered",
                instances=_some(held),
                remedy="check their pods, and the rule's selector; to have none, remove the rule",
            )

    def _report_matches(self, before: MergedConfig, now: MergedConfig) -> None:
        """Report which HTTPRoutes say other matches, and services that have none any more."""
        if before.matches == now.matches:
            return
        changed = {each.route for each in set(before.matches) ^ set(now.matches)}
        self.report(
            "discovered matches changed", routes=_some(sorted(changed)), matches=len(now.matches)
        )
        had = {service.name for service in before.config.services if service.match}
        bare = [each.name for each in now.config.services if not each.match and each.name in had]
        if bare:
            self.report_fault(
                "service without any match; its requests are answered 404",
                services=_some(bare),
                remedy="check the HTTPRoutes that lead to its pool or Service",
            )

    def _report_refused(
        self, before: Iterable[RejectedInstance], now: Iterable[RejectedInstance]
    ) -> None:
        fresh = sorted(set(now) - set(before))
        for each in fresh:
            self._metrics.discovery_refused.labels(each.rule, each.conflict.value).inc()
        for each in fresh[:FAULTS_LOGGED]:
            self.report_fault(
                "discovered instance rejected",
                rule=each.rule, instance=each.name, clash=each.conflict.value, remedy=each.message,
            )  # fmt: skip
        if len(fresh) > FAULTS_LOGGED:
            self._log.warning(
                "discovered instance rejected",
                more_instances=len(fresh) - FAULTS_LOGGED,
                remedy="see the lines above, and discovery in /api/v1/fleet",
            )

    def _report_phases(self, view: FleetView) -> None:
        for name, item in view.instances.items():
            before = self._phases.get(name)
            if before is None or before is item.phase or item.trial:
                continue
            fields = {"instance": name, "previous": before.value, "phase": item.phase.value}
            if item.awaited:
                fields["awaited"] = item.awaited
            if item.phase in _SERVING:
                self._log.info("instance changed phase", **fields, reason=item.reason)
                if before not in _SERVING:
                    self._publish(
                        "instance returned to rotation",
                        {**fields, "reason": item.reason},
                        level="info",
                    )
            elif item.phase is Phase.ASLEEP:
                self.report("instance asleep", **fields, reason=item.reason)
            else:
                self.report_fault(
                    "instance removed from rotation",
                    **fields,
                    reason=item.reason,
                    remedy="check the instance, and what reports it; 'cats doctor' does both",
                )
        # A trial is not yet a return: what it was before holds until it has ended.
        self._phases = {
            name: self._phases.get(name, item.phase) if item.trial else item.phase
            for name, item in view.instances.items()
        }

    def _report_starts(self, view: FleetView) -> None:
        """Report each start that was asked for, that failed, and that is overdue."""
        before, self._starts = self._starts, {}
        for name, item in view.instances.items():
            start = item.cold_start
            if start is None:
                continue
            self._starts = {**self._starts, name: (start.requested_at, start.pending)}
            if start.requested_at is None or before.get(name) == self._starts[name]:
                continue
            if start.pending:
                self.report("instance start requested", instance=name, reason=item.reason)
            elif start.error:
                self.report_fault(
                    "instance start failed",
                    instance=name,
                    reason=start.error,
                    remedy="see the log of what instances[].wake.url names, and the key's files;"
                    " requests go where they can be served",
                )
            else:
                self.report_fault(
                    "instance start overdue",
                    instance=name,
                    limit=f"{start.wake.start_up:.0f} s",
                    remedy="see whether it runs and its metrics can be read; if it takes longer,"
                    " raise instances[].wake.start_up",
                )

    def _report_missing(self, view: FleetView) -> None:
        missing = {name: item.missing for name, item in view.instances.items() if item.missing}
        for name, signals in missing.items():
            if signals != self._missing.get(name, ()):
                self.report_fault(
                    "instance signals missing",
                    instance=name,
                    engine=str(view.instances[name].instance.engine),
                    missing=[signal.value for signal in signals],
                    remedy="check the instance's engine in the configuration, and its version;"
                    " until then its prior counts more",
                )
        for name in self._missing.keys() - missing.keys():
            self._log.info("instance signals restored", instance=name)
        self._missing = missing

    def _report_failing(self, plan: Plan) -> None:
        """Report what instances fail that others answer: once at its beginning, once at its end."""
        now = {(each.instance, each.service): each for each in plan.failing}
        for key, item in now.items():
            if key not in self._failing and item.probability >= FAILING_LOGGED:
                self._failing = {**self._failing, key: item}
                self.report_fault(
                    "instance failing",
                    instance=item.instance,
                    service=item.service,
                    probability=round(item.probability, 3),
                    failure=item.kind.value,
                    awaited=item.awaited,
                    remedy="check the instance: other instances answer these requests; until it"
                    " answers again it gets next to none",
                )
        for key in [key for key in self._failing if key not in now]:
            self.report("instance answers again", instance=key[0], service=key[1])
            self._failing = {name: item for name, item in self._failing.items() if name != key}

    def _report_notes(self, plan: Plan) -> None:
        notes = notes_of(plan.assignments)
        fresh: dict[tuple[str, str], list[str]] = {}
        for (service, site), note in notes.items():
            if self._notes.get((service, site)) != note:
                fresh.setdefault((service, note), []).append(site)
        for (service, note), sites in fresh.items():
            self._metrics.fallbacks.labels(service).inc(len(sites))
            self.report_fault(
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
            self.report_fault(
                "invalid resource withheld",
                fault=str(fault),
                remedy="the last good one keeps serving; see the configuration of that service",
            )
        self._resource_faults = faults

    def _publish(self, event: str, fields: Mapping[str, object], *, level: str = "fault") -> None:
        self._events.publish_fault(
            {"kind": event, "at": self._unix_time(), "level": level, **fields}
        )


def _some(names: Sequence[str]) -> list[str]:
    more = len(names) - NAMES_LOGGED
    return [*names[:NAMES_LOGGED], *([f"and {more} more"] if more > 0 else [])]
