"""Work in steps: no step grows with instances times sites, however large the fleet is."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from controlplane.config import Config, parse_config
from controlplane.fleet import FleetState
from controlplane.fleet.state import STEP
from controlplane.fleet.steps import Steps
from controlplane.model import InstanceReport, Signal, Source
from testbed.fakes.large_fleets import make_crowd

INSTANCES = 2 * STEP
SERVICES = 2


def fleet_of(sites: int) -> Config:
    """Return a fleet whose instances are the same, however many sites there are."""
    return parse_config(
        make_crowd(sites=sites, instances=INSTANCES, services=SERVICES), file="fleet.yaml"
    )


def with_counters(config: Config) -> FleetState:
    """Return a fleet that no Envoy reports from, so that the instances' own counters count."""
    fleet, rng = FleetState(config, now=0.0), random.Random(7)
    for second in (1.0, 2.0, 3.0):
        for instance in config.instances:
            completed = 100 * second + rng.random()
            signals = {Signal.RUNNING: 2.0, Signal.COMPLETED: completed, Signal.FAILED: 0.0}
            report = InstanceReport(instance.name, Source.SCRAPE, second, signals)
            fleet.apply(report, now=second)
    return fleet


def lines_of_longest(steps: Steps[Any]) -> int:
    """Run *steps* to their end; return the lines of Python that the longest of them ran."""
    counted = [0]

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        counted[-1] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        while True:
            try:
                next(steps)
            except StopIteration:
                return max(counted)
            counted.append(0)
    finally:
        sys.settrace(before)


def view(sites: int) -> Steps[Any]:
    """Look at a fleet whose demand is that of its instances' counters."""
    return with_counters(fleet_of(sites)).view_in_steps(now=3.5)


def reconfigure(sites: int) -> Steps[Any]:
    """Put the same configuration in force again."""
    config = fleet_of(sites)
    return FleetState(config, now=0.0).reconfigure_in_steps(config, now=1.0)


@pytest.mark.parametrize("work", [view, reconfigure])
def test_the_longest_step_does_not_grow_with_sites_times_instances(
    work: Callable[[int], Steps[Any]],
) -> None:
    """Ten times as many client sites cost each step next to nothing more."""
    few, many = lines_of_longest(work(10)), lines_of_longest(work(100))
    assert many < 1.3 * few + 100 * SERVICES * 10


async def test_a_report_that_comes_in_a_pause_counts_under_what_holds_until_the_end() -> None:
    """The previous configuration names the instances; the next has them all, with what is known."""
    fleet = with_counters(fleet_of(10))
    steps = fleet.reconfigure_in_steps(fleet_of(20), now=4.0)
    next(steps)
    report = InstanceReport("instance-003", Source.SCRAPE, 4.0, {Signal.RUNNING: 9.0})
    fleet.apply(report, now=4.0)
    for _ in steps:
        pass

    seen = fleet.view(now=4.1).instances
    assert INSTANCES == len(seen)
    assert 9.0 == seen["instance-003"].readings[Signal.RUNNING].value
