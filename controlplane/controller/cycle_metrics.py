"""What cycles take, how far they were off and when Envoys hold them: into metrics, and for traces.

Nothing here decides; a cycle calls it after its weights have left.
"""

from __future__ import annotations

import itertools

from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.metrics import Metrics
from controlplane.fleet.view import FleetView
from controlplane.grpc_services.convergence import Convergence, Settled
from controlplane.grpc_services.envoys import EnvoyRegistry, XdsEvent, XdsEventKind
from controlplane.grpc_services.views import ViewStore
from controlplane.runtime.broadcast import Broadcast
from controlplane.xds.snapshot import view_key
from controlplane.xds.types import ENDPOINT

AGES = 500
"""Instances whose age is counted in one cycle; of more, every second or third, and so on."""


class CycleMeter:
    """Measures one control plane's cycles, and what Envoys answer to them."""

    def __init__(self, metrics: Metrics, registry: EnvoyRegistry, views: ViewStore) -> None:
        self._metrics = metrics
        self._registry = registry
        self._views = views
        self._convergence = Convergence()
        self._waiting_since: float | None = None
        """When the first report came that no cycle has seen."""
        self._seen_since: float | None = None
        """The same, of the reports that the present cycle sees."""
        self._reversals = 0
        self.settled = Broadcast[Settled]()

    def receive_report(self, *, now: float) -> None:
        """Record that a report came."""
        if self._waiting_since is None:
            self._waiting_since = now

    def begin_cycle(self) -> None:
        """Record that a cycle sees the reports that came so far."""
        self._seen_since, self._waiting_since = self._waiting_since, None

    def observe_cycle(self, result: CycleResult, *, now: float) -> None:
        """Measure a completed cycle, and follow what it published until Envoys hold it."""
        if result.decision is None:
            return
        if result.views_changed:
            since = None if result.followed else self._seen_since
            self._follow(result.decision.plan.version, heard_at=since, now=now)
        self._count(result)
        self.count_ages(result.view)

    def _follow(self, version: str, *, heard_at: float | None, now: float) -> None:
        serving: dict[str, str] = {}
        for envoy in self._registry.envoys:
            if not envoy.connected or ENDPOINT not in envoy.types:
                continue
            snapshot = self._views.snapshot(view_key(envoy.site, envoy.role, envoy.variant))
            if snapshot is not None:
                endpoints = snapshot.of_type(ENDPOINT).version
                if envoy.types[ENDPOINT].acked != endpoints:
                    serving[envoy.id] = endpoints
        self._settle(self._convergence.publish(version, serving, heard_at=heard_at, now=now))

    def observe_xds(self, event: XdsEvent, *, now: float) -> None:
        """Count what happened on a stream."""
        if event.what is XdsEventKind.ACKED and event.type_url == ENDPOINT:
            took, settled = self._convergence.acknowledge(event.envoy, event.version, now=now)
            if took is not None:
                self._metrics.report_to_ack_seconds.observe(took)
            self._settle(settled)
        elif event.what is XdsEventKind.DISCONNECTED:
            self._settle(self._convergence.leave(event.envoy, now=now))

    def _count(self, result: CycleResult) -> None:
        metrics, decision = self._metrics, result.decision
        if decision is None:
            return
        plan = decision.plan
        metrics.cycle_seconds.observe(result.elapsed)
        metrics.solve_seconds.observe(decision.solve_seconds)
        metrics.build_seconds.observe(result.build_seconds)
        metrics.plans.labels(result.outcome).inc()
        if not result.followed:
            if plan.prediction_miss is not None:
                metrics.prediction_miss.observe(plan.prediction_miss)
            metrics.reversals.inc(max(0, plan.reversals - self._reversals))
            self._reversals = plan.reversals

    def count_ages(self, view: FleetView) -> None:
        """Count how old what is known of the instances is."""
        step = max(1, -(-len(view.instances) // AGES))
        for item in itertools.islice(view.instances.values(), 0, None, step):
            at = item.measured_at
            if at is not None:
                self._metrics.report_age_seconds.observe(max(0.0, view.at - at))

    def _settle(self, settled: list[Settled]) -> None:
        for each in settled:
            self._metrics.convergence_seconds.observe(each.seconds)
            self.settled.publish(each)
