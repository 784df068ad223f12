"""What changes of instances is reported: phases, starts, missing signals, failed requests."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.controller.flapping import PERIOD, Flapping
from controlplane.controller.reporter import Reporter
from controlplane.fleet.view import FleetView, Phase
from controlplane.model import Signal
from controlplane.steering.plan import Failing, Plan

FAILING_LOGGED = 0.1
"""Part of its requests that an instance fails, beyond what others do, from which it is reported."""

_SERVING = frozenset({Phase.UNKNOWN, Phase.STARTING, Phase.LIVE, Phase.STALE, Phase.QUARANTINED})


class InstanceEvents:
    """Compares instances with what they were in the last cycle."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._phases: Mapping[str, Phase] = {}
        self._flapping = Flapping()
        self._missing: Mapping[str, tuple[Signal, ...]] = {}
        self._failing: dict[tuple[str, str], Failing] = {}
        self._starts: dict[str, tuple[float | None, bool]] = {}
        """Instance that is asleep -> when a start was asked for, and whether it may come about."""

    def report(self, view: FleetView) -> None:
        """Report what is new in *view*."""
        self._report_phases(view)
        self._report_starts(view)
        self._report_missing(view)

    def _report_phases(self, view: FleetView) -> None:
        for name, item in view.instances.items():
            before = self._phases.get(name)
            if before is None or before is item.phase or item.trial:
                continue
            if self._flapping.leaves_out(name, now=view.at):
                continue
            fields = {"instance": name, "previous": before.value, "phase": item.phase.value}
            if item.awaited:
                fields["awaited"] = item.awaited
            if item.phase in _SERVING:
                if self._reporter.leaves_out("instance changed phase"):
                    continue
                self._reporter.log.info("instance changed phase", **fields, reason=item.reason)
                if before not in _SERVING:
                    self._reporter.publish(
                        "instance returned to rotation",
                        {**fields, "reason": item.reason},
                        level="info",
                    )
            elif item.phase is Phase.ASLEEP:
                self._reporter.report("instance asleep", **fields, reason=item.reason)
            else:
                self._reporter.report_fault(
                    "instance removed from rotation",
                    **fields,
                    reason=item.reason,
                    remedy="check the instance, and what reports it; 'cats doctor' does both",
                )
        for name, changes in self._flapping.due(view.instances.keys(), now=view.at):
            item = view.instances[name]
            self._reporter.report_fault(
                "instance changes phase again and again",
                instance=name,
                changes=changes,
                within=f"{PERIOD:.0f} s",
                phase=item.phase.value,
                reason=item.reason,
                remedy="see what it and its agent report; until it rests this is a line a minute",
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
            self._starts[name] = (start.requested_at, start.pending)
            if start.requested_at is None or before.get(name) == self._starts[name]:
                continue
            if start.pending:
                self._reporter.report("instance start requested", instance=name, reason=item.reason)
            elif start.error:
                self._reporter.report_fault(
                    "instance start failed",
                    instance=name,
                    reason=start.error,
                    remedy="see the log of what instances[].wake.url names, and the key's files;"
                    " requests go where they can be served",
                )
            else:
                self._reporter.report_fault(
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
                self._reporter.report_fault(
                    "instance signals missing",
                    instance=name,
                    engine=str(view.instances[name].instance.engine),
                    missing=[signal.value for signal in signals],
                    remedy="check the instance's engine in the configuration, and its version;"
                    " until then its prior counts more",
                )
        for name in self._missing.keys() - missing.keys():
            if not self._reporter.leaves_out("instance signals restored"):
                self._reporter.log.info("instance signals restored", instance=name)
        self._missing = missing

    def report_failing(self, plan: Plan) -> None:
        """Report what instances fail that others answer: once at its beginning, once at its end."""
        now = {(each.instance, each.service): each for each in plan.failing}
        for key, item in now.items():
            if key not in self._failing and item.probability >= FAILING_LOGGED:
                self._failing[key] = item
                self._reporter.report_fault(
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
            self._reporter.report("instance answers again", instance=key[0], service=key[1])
            del self._failing[key]
