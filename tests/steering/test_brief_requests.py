"""Requests so brief that no gauge ever sees one inside."""

from __future__ import annotations

import math

from controlplane.config import parse_config
from controlplane.fleet import FleetState
from controlplane.model import InstanceReport, Signal, Source
from controlplane.steering import Steering

FLEET = """
version: 1
sites: [{name: north, kind: edge}, {name: cloud, kind: cloud}]
models: [{name: m}]
services: [{name: chat, match: [{path: /v1}], models: [{name: m}]}]
instances:
  - {name: a, site: north, address: "127.0.0.1:9001", model: m}
  - {name: b, site: cloud, address: "127.0.0.1:9002", model: m}
"""


def test_an_instance_found_empty_each_time_has_a_finite_capacity() -> None:
    """Completions without any work seen do not divide by zero."""
    config = parse_config(FLEET, file="fleet.yaml")
    fleet, steering = FleetState(config, now=0.0), Steering(config)
    plan = steering.decide(fleet.view(now=0.0))
    for second in range(1, 30):
        for name in ("a", "b"):
            signals = {
                Signal.RUNNING: 0.0,
                Signal.WAITING: 0.0,
                Signal.COMPLETED: 50.0 * second,
            }
            report = InstanceReport(name, Source.SCRAPE, float(second), signals)
            fleet.apply(report, now=float(second))
        plan = steering.decide(fleet.view(now=float(second)))

    (best, *_) = plan.assignments["chat", "north"].allocations
    assert best.why is not None
    assert math.isfinite(best.why.capacity)
    assert math.isfinite(best.why.predicted_latency)
