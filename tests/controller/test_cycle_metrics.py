"""Cycles and acknowledgements as the metrics say them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle_metrics import AGES, CycleMeter
from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.decider import Decision
from controlplane.controller.metrics import Metrics
from controlplane.grpc_services.envoys import EnvoyRegistry, TypeRecord, XdsEvent, XdsEventKind
from controlplane.grpc_services.requests import Node
from controlplane.grpc_services.views import ViewStore
from controlplane.model import InstanceReport, Signal, Source
from controlplane.steering.plan import Plan
from controlplane.xds.types import ENDPOINT
from testbed.fakes.fleets import make_config, make_plan
from testbed.fakes.views import make_config as make_small
from testbed.fakes.views import make_instance, make_reported, make_view


def value(metrics: Metrics, name: str) -> float | None:
    """Return one sample without labels."""
    return metrics.registry.get_sample_value(name, {})


async def test_the_time_from_a_report_to_an_acknowledgement_is_measured() -> None:
    """From the first report that waited, over the cycle and the push, to the Envoy's answer."""
    now = 100.0
    control = ControlPlane(make_config(), file=Path("fleet.yaml"), clock=lambda: now)
    record = control.registry.connect(
        Node("e1"), site="north", known_site=True, delta=True, now=now
    )
    record.envoy.types[ENDPOINT] = TypeRecord(sent="old", acked="old")
    instance = control.config.instances[0].name
    control.receive(InstanceReport(instance, Source.AGENT, now, {Signal.RUNNING: 1.0}))
    now = 100.5
    await control.cycle.run_once()
    version = control.views.views["north"].of_type(ENDPOINT).version
    now = 100.75
    control._on_xds(
        XdsEvent(XdsEventKind.ACKED, "e1", "north", delta=True, type_url=ENDPOINT, version=version)
    )
    control.close()

    for name, seconds in (
        ("cats_report_to_ack_seconds", 0.75), ("cats_convergence_seconds", 0.25)
    ):  # fmt: skip
        assert 1.0 == value(control.metrics, f"{name}_count")
        assert pytest.approx(seconds) == value(control.metrics, f"{name}_sum")
    assert 1.0 == value(control.metrics, "cats_report_age_seconds_count")
    assert pytest.approx(0.5) == value(control.metrics, "cats_report_age_seconds_sum")


def make_meter() -> tuple[CycleMeter, Metrics]:
    """Make a meter that no one is connected to."""
    metrics = Metrics()
    return CycleMeter(metrics, EnvoyRegistry(), ViewStore()), metrics


def test_ages_of_many_instances_are_a_sample() -> None:
    """Ten thousand instances cost a cycle no more than five hundred."""
    names = [f"i{number}" for number in range(2 * AGES + 1)]
    config = make_small(instances=[make_instance(name, "near") for name in names])
    view = make_view(
        config,
        at=3.0,
        instances={
            name: make_reported(config, name, at=1.0, gauges={Signal.RUNNING: 1.0})
            for name in names
        },
    )
    meter, metrics = make_meter()
    meter.count_ages(view)

    assert AGES * 2 / 3 < (value(metrics, "cats_report_age_seconds_count") or 0) <= AGES


def test_misses_and_reversals_are_counted_of_plans_that_were_decided_here() -> None:
    """A follower's plans say nothing of them."""
    config = make_config()
    plan = replace(make_plan(config, {}), prediction_miss=0.12, reversals=3)
    meter, metrics = make_meter()

    def count(plan: Plan, *, followed: bool) -> str:
        decision = Decision(plan, 0.01)
        view = make_view(config, at=1.0)
        result = CycleResult(view, decision, followed=followed, build_seconds=0.01, elapsed=0.03)
        meter.observe_cycle(result, now=1.0)
        return result.outcome

    assert "unchanged" == count(plan, followed=False)
    assert "held" == count(replace(plan, reversals=5, held=True), followed=False)
    count(replace(plan, reversals=0, prediction_miss=None), followed=True)

    assert 5.0 == value(metrics, "cats_plan_reversals_total")
    assert 2.0 == value(metrics, "cats_prediction_miss_count")
    assert pytest.approx(0.24) == value(metrics, "cats_prediction_miss_sum")
    assert 3.0 == value(metrics, "cats_solve_seconds_count")
