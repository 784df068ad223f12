"""What an operator is told of the cycles: each change once, however long it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from controlplane.admin_api.documents import short_type
from controlplane.config import Merged
from controlplane.config import Refused as RefusedInstance
from controlplane.controller.events import EventHub
from controlplane.controller.metrics import Metrics
from controlplane.controller.overrides import Standing, describe
from controlplane.errors import Fault as ConfigFault
from controlplane.fleet.view import FleetView, Phase
from controlplane.grpc_services.envoys import XdsEvent
from controlplane.model import Signal
from controlplane.resources.build import Fault as ResourceFault
from controlplane.runtime.log import Logger
from controlplane.steering.plan import Plan

FAULTS_TOLD = 20
"""Faults of one configuration, or of one build, that get a line of their own in the log."""

NAMES_TOLD = 10
"""Names listed in one line; more are counted."""

_SERVING = frozenset({Phase.UNKNOWN, Phase.STARTING, Phase.LIVE, Phase.STALE})


class Teller:
    """Compares each cycle with the last and tells what is new, in log, metrics and event stream."""

    def __init__(
        self, *, log: Logger, events: EventHub, metrics: Metrics, unix_time: Callable[[], float]
    ) -> None:
        self._log = log
        self._events = events
        self._metrics = metrics
        self._unix_time = unix_time
        self._phases: Mapping[str, Phase] = {}
        self._missing: Mapping[str, tuple[Signal, ...]] = {}
        self._notes: Mapping[tuple[str, str], str] = {}
        self._resource_faults: frozenset[ResourceFault] = frozenset()
        self._frozen = False

    def tell_cycle(
        self, view: FleetView, plan: Plan, resource_faults: Iterable[ResourceFault]
    ) -> None:
        """Tell phases, fallbacks and resources that changed since the last cycle."""
        self._tell_phases(view)
        self._tell_missing(view)
        if view.frozen and not self._frozen:
            self._fault(
                "every instance is silent; the last plan is kept",
                remedy="see whether their metrics can be reached from here",
            )
        self._frozen = view.frozen
        self._tell_notes(plan)
        self._tell_resources(frozenset(resource_faults))

    def tell_config_faults(self, faults: tuple[ConfigFault, ...]) -> None:
        """Tell why a new configuration is not taken."""
        for fault in faults[:FAULTS_TOLD]:
            self._log.error(
                "configuration refused",
                fault=str(fault),
                remedy="mend the file; the last good configuration keeps serving",
            )
        if len(faults) > FAULTS_TOLD:
            self._log.error("configuration refused", more_faults=len(faults) - FAULTS_TOLD)
        self._publish("configuration refused", {"faults": [str(fault) for fault in faults]})

    def tell_config(self, **fields: object) -> None:
        """Tell that a new configuration is in force."""
        self._log.info("configuration reloaded", **fields)
        self._publish("configuration reloaded", fields, level="info")

    def tell_discovered(self, before: Merged, now: Merged) -> None:
        """Tell which discovered instances came, went, or stay though they are gone."""
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
            told = {what: _some(names) for what, names in changes.items() if names}
            self.tell_discovery("discovered instances changed", **told, instances=len(are))
        held_before = {each.instance.name for each in before.held}
        held = [each.instance.name for each in now.held if each.instance.name not in held_before]
        if held:
            self.tell_discovery_fault(
                "the last instances of a service are gone; they are kept until others come",
                instances=_some(held),
                remedy="see their pods, and the rule's selector; to have none, remove the rule",
            )

    def tell_refused_instances(
        self, before: Iterable[RefusedInstance], now: Iterable[RefusedInstance]
    ) -> None:
        """Tell which discovered instances do not take part, and why."""
        fresh = sorted(set(now) - set(before))
        for each in fresh:
            self._metrics.discovery_refused.labels(each.rule, each.clash.value).inc()
        for each in fresh[:FAULTS_TOLD]:
            self.tell_discovery_fault(
                "a discovered instance is refused",
                rule=each.rule, instance=each.name, clash=each.clash.value, remedy=each.message,
            )  # fmt: skip
        if len(fresh) > FAULTS_TOLD:
            self._log.warning(
                "a discovered instance is refused", more_instances=len(fresh) - FAULTS_TOLD
            )

    def report_unfollowed(self, plan: Plan, unknown: Sequence[str], *, served: str) -> None:
        """Report that the leader's *plan* names what this replica does not have."""
        self._fault(
            "leader's plan not served",
            version=plan.version,
            unknown=_some(unknown),
            serving=served or "nothing",
            remedy="use the same configuration and the same access to clusters on every replica;"
            " see cats_discovery_ok and cats_discovery_cluster_ok here and at the leader",
        )

    def tell_discovery_fault(self, event: str, **fields: object) -> None:
        """Tell what keeps instances from being discovered."""
        self._fault(event, **fields)

    def tell_discovery(self, event: str, **fields: object) -> None:
        """Tell what came of discovery."""
        self._log.info(event, **fields)
        self._publish(event, fields, level="info")

    def tell_override(self, event: str, standing: Standing, **fields: object) -> None:
        """Tell that an operator's override came or went."""
        told = {
            "override": standing.id,
            "what": describe(standing.override),
            "reason": standing.override.reason,
            "by": standing.by,
            **fields,
        }
        self._log.info(event, **told)
        self._publish(event, told, level="info")

    def tell_refusal(self, event: XdsEvent) -> None:
        """Tell watchers of an Envoy's refusal; the stream has logged it."""
        self._publish(
            "envoy refused resources",
            {
                "envoy": event.envoy,
                "site": event.site,
                "type": short_type(event.type_url),
                "version": event.version,
                "text": event.text,
            },
        )

    def _tell_phases(self, view: FleetView) -> None:
        for name, item in view.instances.items():
            before = self._phases.get(name)
            if before is None or before is item.phase:
                continue
            fields = {"instance": name, "was": before.value, "phase": item.phase.value}
            if item.phase in _SERVING:
                self._log.info("instance changed phase", **fields, reason=item.reason)
                if before not in _SERVING:
                    self._publish(
                        "instance counts again", {**fields, "reason": item.reason}, level="info"
                    )
            else:
                self._fault("instance counts no longer", **fields, reason=item.reason)
        self._phases = {name: item.phase for name, item in view.instances.items()}

    def _tell_missing(self, view: FleetView) -> None:
        missing = {name: item.missing for name, item in view.instances.items() if item.missing}
        for name, signals in missing.items():
            if signals != self._missing.get(name, ()):
                self._fault(
                    "an instance lacks signals that steering needs",
                    instance=name,
                    engine=view.instances[name].instance.engine.value,
                    missing=[signal.value for signal in signals],
                    remedy="check the instance's engine in the configuration, and its version;"
                    " until then its prior counts more",
                )
        for name in self._missing.keys() - missing.keys():
            self._log.info("an instance gives all signals again", instance=name)
        self._missing = missing

    def _tell_notes(self, plan: Plan) -> None:
        notes = {key: item.note for key, item in plan.assignments.items() if item.note}
        fresh: dict[tuple[str, str], list[str]] = {}
        for (service, site), note in notes.items():
            if self._notes.get((service, site)) != note:
                fresh.setdefault((service, note), []).append(site)
        for (service, note), sites in fresh.items():
            self._metrics.fallbacks.labels(service).inc(len(sites))
            self._fault("not steered as configured", service=service, note=note, sites=sites)
        self._notes = notes

    def _tell_resources(self, faults: frozenset[ResourceFault]) -> None:
        for fault in sorted(faults - self._resource_faults, key=str)[:FAULTS_TOLD]:
            self._metrics.resource_faults.labels(short_type(fault.type_url)).inc()
            self._fault(
                "a resource that Envoys would refuse was left out",
                fault=str(fault),
                remedy="the last good one keeps serving; see the configuration of that service",
            )
        self._resource_faults = faults

    def _fault(self, event: str, **fields: object) -> None:
        self._log.warning(event, **fields)
        self._publish(event, fields)

    def _publish(self, event: str, fields: Mapping[str, object], *, level: str = "fault") -> None:
        self._events.publish_fault(
            {"kind": event, "at": self._unix_time(), "level": level, **fields}
        )


def _some(names: Sequence[str]) -> list[str]:
    more = len(names) - NAMES_TOLD
    return [*names[:NAMES_TOLD], *([f"and {more} more"] if more > 0 else [])]
