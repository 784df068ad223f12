"""What cycles take, how far they were off and when Envoys hold them: into metrics, and for traces.

Nothing here decides; a cycle calls it after its weights have left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.controller.decider import Decision
from controlplane.controller.metrics import Metrics
from controlplane.fleet.view import FleetView
from controlplane.grpc_services.convergence import Convergence, Settled
from controlplane.grpc_services.envoys import EnvoyRegistry, Happening, XdsEvent
from controlplane.grpc_services.views import ViewStore
from controlplane.xds.snapshot import view_key
from controlplane.xds.types import ENDPOINT

AGES = 500
"""Instances whose age is counted in one cycle; of more, every second or third, and so on."""


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """One cycle in times, for traces."""

    stages: tuple[tuple[str, str, float, float], ...]
    """(name, name of the stage it is part of, begin, end) in seconds of `time.perf_counter`; the
    first is the whole cycle, part of nothing."""
    attributes: Mapping[str, str | int | float | bool]
    version: str
    """Of the plan."""


def record_cycle(
    decision: Decision,
    *,
    reason: str,
    outcome: str,
    instances: int,
    marks: tuple[float, float, float, float, float],
) -> CycleRecord:
    """Give a cycle in times; *marks* are begin, viewed, decided, published and saved."""
    began, viewed, decided, published, saved = marks
    # What the deciding thread measured ends when the loop hears of it, but for a thread's wake-up.
    build = decided - decision.build_seconds
    solve = build - decision.solve_seconds
    plan = decision.plan
    attributes: dict[str, str | int | float | bool] = {
        "cats.plan.version": plan.version,
        "cats.plan.outcome": outcome,
        "cats.plan.predicted_cost": plan.predicted_cost,
        "cats.plan.assignments": len(plan.assignments),
        "cats.cycle.reason": reason,
        "cats.fleet.instances": instances,
    }
    if plan.predicted_latency is not None:
        attributes["cats.plan.predicted_latency"] = plan.predicted_latency
    return CycleRecord(
        (
            ("cycle", "", began, saved),
            ("view", "cycle", began, viewed),
            ("decide", "cycle", viewed, decided),
            ("solve", "decide", max(viewed, solve), build),
            ("build", "decide", build, decided),
            ("publish", "cycle", decided, published),
            ("tell and save", "cycle", published, saved),
        ),
        attributes,
        plan.version,
    )


class Meter:
    """Measures one control plane's cycles, and what Envoys answer to them."""

    def __init__(self, metrics: Metrics, registry: EnvoyRegistry, views: ViewStore) -> None:
        self._metrics = metrics
        self._registry = registry
        self._views = views
        self._convergence = Convergence()
        self._heard_at: float | None = None
        self._reversals = 0
        self.on_settled: list[Callable[[Settled], None]] = []

    def hear(self, *, now: float) -> None:
        """Take that a report came."""
        if self._heard_at is None:
            self._heard_at = now

    def take_heard(self) -> float | None:
        """Give when the first report since the last call came."""
        heard_at, self._heard_at = self._heard_at, None
        return heard_at

    def follow(self, version: str, *, heard_at: float | None, now: float) -> None:
        """Follow what was just published until Envoys hold it."""
        serving: dict[str, str] = {}
        for envoy in self._registry.envoys:
            if not envoy.connected or ENDPOINT not in envoy.types:
                continue
            snapshot = self._views.snapshot(view_key(envoy.site, envoy.role))
            if snapshot is not None:
                endpoints = snapshot.of_type(ENDPOINT).version
                if envoy.types[ENDPOINT].acked != endpoints:
                    serving[envoy.id] = endpoints
        self._settle(self._convergence.publish(version, serving, heard_at=heard_at, now=now))

    def observe_xds(self, event: XdsEvent, *, now: float) -> None:
        """Take what happened on a stream."""
        if event.what is Happening.ACKED and event.type_url == ENDPOINT:
            took, settled = self._convergence.acknowledge(event.envoy, event.version, now=now)
            if took is not None:
                self._metrics.report_to_ack_seconds.observe(took)
            self._settle(settled)
        elif event.what is Happening.DISCONNECTED:
            self._settle(self._convergence.leave(event.envoy, now=now))

    def count(self, decision: Decision, *, changed: bool, elapsed: float, followed: bool) -> str:
        """Count a cycle; give what became of its plan."""
        metrics, plan = self._metrics, decision.plan
        metrics.cycle_seconds.observe(elapsed)
        metrics.solve_seconds.observe(decision.solve_seconds)
        metrics.build_seconds.observe(decision.build_seconds)
        outcome = "published" if changed else "held" if plan.held else "unchanged"
        metrics.plans.labels(outcome).inc()
        if not followed:
            if plan.prediction_miss is not None:
                metrics.prediction_miss.observe(plan.prediction_miss)
            metrics.reversals.inc(max(0, plan.reversals - self._reversals))
            self._reversals = plan.reversals
        return outcome

    def count_ages(self, view: FleetView) -> None:
        """Count how old what is known of the instances is."""
        step = max(1, -(-len(view.instances) // AGES))
        for item in itertools.islice(view.instances.values(), 0, None, step):
            instants = [r.at for r in item.readings.values() if r.at is not None]
            if instants:
                self._metrics.report_age_seconds.observe(max(0.0, view.at - max(instants)))

    def _settle(self, settled: list[Settled]) -> None:
        for each in settled:
            self._metrics.convergence_seconds.observe(each.seconds)
            for tell in self.on_settled:
                tell(each)
