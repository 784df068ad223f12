"""What changes of discovery is reported: instances, matches of routes, and what is rejected."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.config import MergedConfig, RejectedInstance
from controlplane.controller.config_changes import DiscoveryChange
from controlplane.controller.metrics import Metrics
from controlplane.controller.reporter import FAULTS_LOGGED, Reporter, some


class DiscoveryEvents:
    """Compares what was discovered with what was before."""

    def __init__(self, reporter: Reporter, metrics: Metrics) -> None:
        self._reporter = reporter
        self._metrics = metrics

    def report(self, change: DiscoveryChange) -> None:
        """Report what is new in *change*."""
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
            fields = {what: some(names) for what, names in changes.items() if names}
            self._reporter.report("discovered instances changed", **fields, instances=len(are))
        held_before = {each.instance.name for each in before.held}
        held = [each.instance.name for each in now.held if each.instance.name not in held_before]
        if held:
            self._reporter.report_fault(
                "last instances of a service gone; kept until others are discovered",
                instances=some(held),
                remedy="check their pods, and the rule's selector; to have none, remove the rule",
            )

    def _report_matches(self, before: MergedConfig, now: MergedConfig) -> None:
        """Report which HTTPRoutes say other matches, and services that have none any more."""
        if before.matches == now.matches:
            return
        changed = {each.route for each in set(before.matches) ^ set(now.matches)}
        self._reporter.report(
            "discovered matches changed", routes=some(sorted(changed)), matches=len(now.matches)
        )
        had = {service.name for service in before.config.services if service.match}
        bare = [each.name for each in now.config.services if not each.match and each.name in had]
        if bare:
            self._reporter.report_fault(
                "service without any match; its requests are answered 404",
                services=some(bare),
                remedy="check the HTTPRoutes that lead to its pool or Service",
            )

    def _report_refused(
        self, before: Iterable[RejectedInstance], now: Iterable[RejectedInstance]
    ) -> None:
        fresh = sorted(set(now) - set(before))
        for each in fresh:
            self._metrics.discovery_refused.labels(each.rule, each.conflict.value).inc()
        for each in fresh[:FAULTS_LOGGED]:
            self._reporter.report_fault(
                "discovered instance rejected",
                rule=each.rule, instance=each.name, clash=each.conflict.value, remedy=each.message,
            )  # fmt: skip
        if len(fresh) > FAULTS_LOGGED:
            self._reporter.log.warning(
                "discovered instance rejected",
                more_instances=len(fresh) - FAULTS_LOGGED,
                remedy="see the lines above, and discovery in /api/v1/fleet",
            )
