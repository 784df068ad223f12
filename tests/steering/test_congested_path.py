"""A path that congests, through fleet and steering together."""

from __future__ import annotations

from controlplane.fleet import FleetState
from controlplane.model import InstanceReport, PathReport, Signal, Source, TrafficReport
from controlplane.steering import Plan, Steering
from testbed.fakes.views import make_config, make_instance


def test_a_congested_path_loses_weight_within_three_periods() -> None:
    """From 5 ms to 80 ms: each period brings one probe, and the third decision has moved away."""
    config = make_config(
        sites=["home", "east", "west"],
        instances=[
            make_instance("e", "east", service_time="100ms", slots=8),
            make_instance("w", "west", service_time="100ms", slots=8),
        ],
    )
    fleet, steering = FleetState(config, now=0.0), Steering(config)
    done = {"e": 0.0, "w": 0.0}

    def share(plan: Plan) -> float:
        found = plan.assignments["chat", "home"].allocations
        return sum(a.share for a in found if a.instance == "w" and a.priority == 0)

    def run(second: int, rtt: float, before: float) -> float:
        now = float(second)
        fleet.apply(PathReport("home", "east", Source.AGENT, now, rtt=0.005), now=now)
        fleet.apply(PathReport("home", "west", Source.AGENT, now, rtt=rtt), now=now)
        for name, part in (("w", before), ("e", 1 - before)):
            rate = 40.0 * part
            done[name] += rate
            signals = {
                Signal.RUNNING: rate * 0.1, Signal.WAITING: 0.0, Signal.SLOTS: 8.0,
                Signal.COMPLETED: done[name], Signal.LATENCY_SUM: 0.1 * done[name],
                Signal.LATENCY_COUNT: done[name],
            }  # fmt: skip
            fleet.apply(InstanceReport(name, Source.AGENT, now, signals), now=now)
            seen = TrafficReport(
                "envoy", "home", "chat", name, now, 1.0, issued=rate, succeeded=rate,
                latency_sum=0.1 * rate, latency_count=rate,
            )  # fmt: skip
            fleet.apply(seen, now=now)
        return share(steering.decide(fleet.view(now=now)))

    west = 0.5
    for second in range(1, 31):
        west = run(second, 0.005, west)
    calm = west
    for second in range(31, 34):
        west = run(second, 0.080, west)

    assert 0.4 < calm < 0.6
    assert west < 0.7 * calm
