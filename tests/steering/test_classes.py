"""Classes of one service by the length of the body: one share where that costs little."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.config import Config
from controlplane.model import Signal
from controlplane.steering.plan import Plan
from controlplane.steering.steering import Steering
from testbed.fakes.views import make_config, make_instance, make_reported, make_service, make_view

PATH = "/v1/chat/completions"
ANY = {"path": PATH}
LONG = {"path": PATH, "body_size": {"least": "32kB"}}


def config_of(long_match: dict[str, Any] = LONG, **settings: Any) -> Config:
    """Return two classes on two instances."""
    return make_config(
        services=[
            make_service("chat", match=[ANY], service_time="4s"),
            make_service("chat-long", match=[long_match], service_time="1s"),
        ],
        instances=[make_instance("a", "near", slots=8), make_instance("b", "far", slots=8)],
        **settings,
    )


def decide(config: Config, far: float = 0.02) -> Plan:
    """Return a plan for clients near *a*, *far* seconds from *b*, whose work takes both."""
    gauges = {Signal.RUNNING: 5.0, Signal.WAITING: 0.0}
    steering, rates = Steering(config), {Signal.COMPLETED: 1.6}
    for at in map(float, range(1, 9)):
        instances = {
            name: make_reported(config, name, at=at, gauges=gauges, rates=rates, interval=1.0)
            for name in "ab"
        }
        demand = {("near", "chat"): 1.6, ("near", "chat-long"): 3.0}
        rtt = {("near", "near"): 0.001, ("near", "far"): far}
        view = make_view(config, at=at, demand=demand, instances=instances, rtt=rtt)
        plan = steering.decide(view)
    return plan


def shares(plan: Plan, service: str) -> dict[str, float]:
    """Return the shares of *service* from the one client site."""
    return {each.instance: each.share for each in plan.assignments[service, "near"].allocations}


def test_classes_that_differ_by_a_short_path_alone_have_one_share() -> None:
    """Which class is the one that takes the longer way is worth some milliseconds of seconds."""
    plan = decide(config_of())
    assert shares(plan, "chat") == pytest.approx(shares(plan, "chat-long"), abs=0.01)
    assert 0.2 < shares(plan, "chat")["a"] < 0.95


@pytest.mark.parametrize(
    ("long_match", "far"),
    [
        pytest.param({"path": "/v1/embeddings"}, 0.02, id="another path"),
        pytest.param(LONG, 0.8, id="a path as long as the requests"),
    ],
)
def test_services_that_gain_by_it_stay_apart(long_match: dict[str, Any], far: float) -> None:
    """The requests of less work go where they cost least, as services do that are no classes."""
    plan = decide(config_of(long_match), far)
    assert abs(shares(plan, "chat").get("a", 0.0) - shares(plan, "chat-long").get("a", 0.0)) > 0.1


def test_a_bound_on_one_class_binds_that_class_alone() -> None:
    """An operator keeps long prompts off an instance; the other class may use it."""
    bound = {"service": "chat-long", "instance": "b", "max_share": "0%"}
    plan = decide(config_of(overrides=[bound]))
    assert not shares(plan, "chat-long").get("b")
    assert shares(plan, "chat")["b"] > 0.2
