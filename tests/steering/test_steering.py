"""Decisions as a whole: a view in, a plan out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controlplane.config import Config, PolicyName
from controlplane.fleet.view import InstanceView, Phase
from controlplane.model import Signal
from controlplane.steering import Plan, Steering
from controlplane.steering.latency import Curves
from testbed.fakes.views import (
    make_config,
    make_instance,
    make_reported,
    make_service,
    make_view,
)


def shares(plan: Plan, service: str = "chat", site: str = "near") -> dict[str, float]:
    """Return the shares of one assignment, first priority only."""
    found = plan.assignments[service, site]
    return {a.instance: a.share for a in found.allocations if a.priority == 0}


def test_rfc_10054_chooses_site_three() -> None:
    """The worked case of RFC 10054: only compute and network together find the 19.4 ms."""
    config = make_config(
        sites=["client", "site-1", "site-2", "site-3"],
        instances=[
            make_instance("one", "site-1", service_time="4ms", slots=100),
            make_instance("two", "site-2", service_time="10ms", slots=100),
            make_instance("three", "site-3", service_time="5ms", slots=100),
        ],
    )
    client, away = 0.0094, {"site-1": 0.009, "site-2": 0.004, "site-3": 0.005}
    view = make_view(
        config,
        demand={("client", "chat"): 1.0},
        rtt={("client", site): client + seconds for site, seconds in away.items()},
    )
    steering = Steering(config)

    plan = steering.decide(view)

    chosen = plan.assignments["chat", "client"].allocations
    assert [("three", 10_000)] == [(a.instance, a.weight) for a in chosen if a.priority == 0]
    why = chosen[0].why
    assert why is not None
    assert pytest.approx(0.0194, abs=1e-5) == why.predicted_latency
    spare = {a.instance: a.why.limits[-1] for a in chosen if a.priority == 1 and a.why}
    assert "3.0 ms more" in spare["one"]
    assert "4.0 ms more" in spare["two"]


@pytest.mark.parametrize("policy", list(PolicyName))
def test_every_policy_gives_every_pair_a_whole(policy: PolicyName) -> None:
    """Whatever the policy, every service and client site has shares that add up to one."""
    config = make_config(
        sites=["near", "far", "farther"],
        services=[make_service("chat"), make_service("paint", delay="tolerant")],
        instances=[
            make_instance("a", "near", slots=2),
            make_instance("b", "far", slots=8),
            make_instance("c", "farther", slots=32),
        ],
        steering={"policy": policy},
    )
    view = make_view(config, demand={("near", "chat"): 3.0, ("far", "paint"): 2.0})

    plan = Steering(config).decide(view)

    assert {(k, s) for k in ("chat", "paint") for s in ("near", "far", "farther")} == set(
        plan.assignments
    )
    for (service, site), assignment in plan.assignments.items():
        assert pytest.approx(1.0) == sum(shares(plan, service, site).values())
        assert 10_000 == sum(a.weight for a in assignment.allocations if a.priority == 0)
        assert all(a.why is not None for a in assignment.allocations)


def tiers(chat: float, paint: float) -> tuple[Any, Any]:
    """Make a near site with a farther, larger one, and a view with two services' demand."""
    config = make_config(
        sites=["near", "far"],
        services=[
            make_service("chat", service_time="500ms"),
            make_service("paint", service_time="500ms", delay="tolerant"),
        ],
        instances=[
            make_instance("close", "near", slots=16, service_time="500ms"),
            make_instance("cloud", "far", slots=256, service_time="500ms"),
        ],
    )
    view = make_view(
        config,
        demand={("near", "chat"): chat, ("near", "paint"): paint},
        rtt={("near", "near"): 0.001, ("near", "far"): 0.15},
    )
    return config, view


def test_tolerant_traffic_leaves_first_when_the_near_site_fills() -> None:
    """While the tolerant service moves away, the sensitive one stays and keeps its latency."""
    seen = []
    for paint in (2.0, 6.0, 12.0, 24.0):
        config, view = tiers(chat=12.0, paint=paint)
        plan = Steering(config).decide(view)
        close = next(
            a for a in plan.assignments["chat", "near"].allocations if a.instance == "close"
        )
        assert close.why is not None
        seen.append((shares(plan).get("close", 0), shares(plan, "paint").get("close", 0),
                     close.why.predicted_latency))  # fmt: skip

    stays, leaves, latency = zip(*seen, strict=True)
    assert min(stays) > 0.99
    assert list(leaves) == sorted(leaves, reverse=True)
    assert leaves[0] > 0.9
    assert leaves[-1] < 0.4
    assert max(latency) <= 1.1 * min(latency)


def test_what_one_site_could_lose_has_spares_at_others() -> None:
    """All shares at one site: the device is next, and the cheapest others come after it."""
    config = make_config(
        overrides=[{"instance": "own", "max_share": "0%"}],
        sites=["near", "far", "farther", {"name": "phones", "kind": "device"}],
        instances=[
            make_instance("a", "near", slots=64),
            make_instance("b", "far", slots=10),
            make_instance("c", "farther", slots=30),
            make_instance("own", "phones", slots=1),
        ],
    )
    rtt = {("phones", "near"): 0.01, ("phones", "far"): 0.5, ("phones", "farther"): 0.6}

    plan = Steering(config).decide(make_view(config, demand={("phones", "chat"): 1.0}, rtt=rtt))

    found = plan.assignments["chat", "phones"]
    assert [("a", 0, 10_000), ("own", 1, 10_000), ("b", 2, 2_500), ("c", 2, 7_500)] == [
        (a.instance, a.priority, a.weight) for a in found.allocations
    ]
    assert () == found.excluded


def test_shares_at_two_sites_need_no_spares() -> None:
    """Envoy leaves a dead site for the other by itself; what is too expensive stays out."""
    config = make_config(
        sites=["near", "far", "farther"],
        instances=[
            make_instance("a", "near"),
            make_instance("b", "far"),
            make_instance("c", "farther"),
        ],
    )
    rtt = {("near", "far"): 0.0005, ("near", "farther"): 5.0}

    plan = Steering(config).decide(make_view(config, demand={("near", "chat"): 1.0}, rtt=rtt))

    found = plan.assignments["chat", "near"]
    assert {("a", 0), ("b", 0)} == {(a.instance, a.priority) for a in found.allocations}
    assert ["c"] == [exclusion.instance for exclusion in found.excluded]


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"instance": "b", "drain": True}, id="drained"),
        pytest.param({"instance": "b", "max_share": "0%"}, id="no share allowed"),
        pytest.param({"instance": "a", "pin": True}, id="pinned elsewhere"),
    ],
)
def test_an_operator_keeps_an_instance_from_being_a_spare(override: dict[str, Any]) -> None:
    """A overrides holds in an emergency too."""
    config = make_config(
        instances=[make_instance("a", "near"), make_instance("b", "far")], overrides=[override]
    )

    plan = Steering(config).decide(make_view(config, rtt={("near", "far"): 0.5}))

    assert ["a"] == [a.instance for a in plan.assignments["chat", "near"].allocations]


def test_a_device_serves_its_own_clients_as_the_last_resort() -> None:
    """The pruned model on a device is priority 1 at home and no choice for anybody else."""
    config = make_config(
        sites=["edge", {"name": "phones", "kind": "device"}],
        instances=[
            make_instance("e", "edge", slots=8, service_time="100ms"),
            make_instance("own", "phones", slots=1, service_time="2s"),
        ],
    )

    plan = Steering(config).decide(make_view(config))

    home = plan.assignments["chat", "phones"].allocations
    assert [("e", 0), ("own", 1)] == [(a.instance, a.priority) for a in home]
    away = plan.assignments["chat", "edge"]
    assert ["e"] == [a.instance for a in away.allocations]
    assert {"own": "serves the clients of phones only"} == {
        e.instance: e.reason for e in away.excluded
    }


def fleet_with_phones(**more: Any) -> Config:
    """Make an edge of four slots and phones with a slot each, four times as slow."""
    return make_config(
        sites=["edge", {"name": "phones", "kind": "device"}],
        instances=[
            make_instance("e", "edge", slots=4, service_time="100ms"),
            make_instance("own", "phones", slots=1, service_time="400ms"),
        ],
        **more,
    )


def shares_at_home(
    config: Config, rate: float, *, devices: int = 1, inside: float | None = None
) -> dict[str, float]:
    """Return what serves the phones' *rate* of requests a second, by instance.

    The edge says that *inside* requests are there, or nothing.
    """
    view = make_view(config, demand={("phones", "chat"): rate, ("edge", "chat"): 5.0})
    shown = dict(view.instances) | {"own": replace(view.instances["own"], copies=devices)}
    if inside is not None:
        gauges = {Signal.RUNNING: min(inside, 4.0), Signal.WAITING: max(0.0, inside - 4.0)}
        shown["e"] = make_reported(config, "e", at=0.0, gauges=gauges)
    plan = Steering(config).decide(replace(view, instances=shown))
    home = plan.assignments["chat", "phones"].allocations
    return {each.instance: each.share for each in home if each.priority == 0}


def test_a_device_is_used_when_the_edge_is_full_and_not_before() -> None:
    """One more request at a busy edge costs everyone; on the device it costs its own time."""
    calm = shares_at_home(fleet_with_phones(), 5.0, devices=100)
    full = shares_at_home(fleet_with_phones(), 60.0, devices=100)

    assert calm.get("own", 0.0) < 0.02
    assert 0.3 < full["own"] < 1.0


def test_the_room_of_a_class_grows_with_its_devices() -> None:
    """Each device has a queue of its own, so that a hundred take more than twenty."""
    few = shares_at_home(fleet_with_phones(), 60.0, devices=20)
    many = shares_at_home(fleet_with_phones(), 60.0, devices=100)

    assert few["own"] < many["own"]


@pytest.mark.parametrize(
    ("bound", "rate", "low", "high"),
    [({"min_share": "30%"}, 5.0, 0.299, 0.31), ({"max_share": "10%"}, 60.0, 0.0, 0.101)],
)
def test_bounds_on_the_share_of_a_device_hold(
    bound: dict[str, str], rate: float, low: float, high: float
) -> None:
    """What an operator asks of a device's own model is kept, as of any other instance."""
    config = fleet_with_phones(overrides=[{"site": "phones", **bound}])

    assert low <= shares_at_home(config, rate, devices=100).get("own", 0.0) <= high


@pytest.mark.parametrize("policy", [PolicyName.OPTIMAL, PolicyName.CAPACITY, PolicyName.STATIC])
@pytest.mark.parametrize("place", [{"instance": "own"}, {"site": "phones"}])
def test_a_pin_of_a_device_binds_its_own_clients_only(
    policy: PolicyName, place: dict[str, str]
) -> None:
    """Theirs go to no other place, not even as a fallback; no one else can use the device."""
    config = fleet_with_phones(
        overrides=[{**place, "pin": True}], steering={"policy": policy.value}
    )

    plan = Steering(config).decide(make_view(config))

    found = {
        site: [(each.instance, each.share, each.priority) for each in assignment.allocations]
        for (_, site), assignment in plan.assignments.items()
    }
    assert found == {"edge": [("e", 1.0, 0)], "phones": [("own", 1.0, 0)]}


def test_a_pin_of_a_silent_device_is_no_leave_for_others() -> None:
    """What must remain on the device fails there rather than be answered elsewhere."""
    config = fleet_with_phones(overrides=[{"instance": "own", "pin": True}])
    own = InstanceView(config.instances[1], Phase.NOT_READY, confidence=0.0, ramp=1.0)

    plan = Steering(config).decide(make_view(config, instances={"own": own}))

    assert {a.instance for a in plan.assignments["chat", "phones"].allocations} <= {"own"}


@pytest.mark.parametrize("rate", [25.0, 33.0, 50.0])
def test_a_device_beside_an_edge_that_says_nothing_gets_what_it_would_beside_one_at_rest(
    rate: float,
) -> None:
    """An unknown occupancy counts as the one that the edge comes to rest at."""
    config = fleet_with_phones()
    unknown = shares_at_home(config, rate, devices=100)["own"]
    work = 0.1 * (5.0 + rate * (1.0 - unknown))
    rested = float(Curves(np.array([4.0]), np.array([0.0])).number(np.array([work]))[0])
    known = shares_at_home(config, rate, devices=100, inside=rested)["own"]

    assert unknown == pytest.approx(known, abs=0.02)


def test_a_device_is_used_at_once_when_a_queue_stands_at_the_edge() -> None:
    """Forty requests there are a second's wait, which the device's 400 ms are not."""
    config = fleet_with_phones()

    assert shares_at_home(config, 5.0, devices=100, inside=40.0)["own"] > 0.9


def test_a_device_is_first_where_nothing_else_can_serve() -> None:
    """Without any other usable instance the device's own model is priority 0; others get none."""
    config = make_config(
        sites=["edge", {"name": "phones", "kind": "device"}],
        instances=[make_instance("own", "phones")],
    )

    plan = Steering(config).decide(make_view(config))

    assert [0] == [a.priority for a in plan.assignments["chat", "phones"].allocations]
    assert () == plan.assignments["chat", "edge"].allocations
    assert "no usable instance" == plan.assignments["chat", "edge"].note


def phased(config: Any, **phases: Phase) -> dict[str, InstanceView]:
    """Make instance views in the given phases."""
    named = {instance.name: instance for instance in config.instances}
    return {
        name: InstanceView(named[name], phase, confidence=0.0, ramp=1.0)
        for name, phase in phases.items()
    }


def test_what_is_silent_gets_nothing_while_others_live() -> None:
    """An expired instance is drained; when all are expired, all are used."""
    config = make_config(instances=[make_instance("a", "near"), make_instance("b", "far")])

    one = Steering(config).decide(make_view(config, instances=phased(config, a=Phase.EXPIRED)))
    both = Steering(config).decide(
        make_view(config, instances=phased(config, a=Phase.EXPIRED, b=Phase.EXPIRED))
    )

    assert {"b": 1.0} == shares(one)
    assert "silent" in one.assignments["chat", "near"].excluded[0].reason
    assert "a" in shares(both)


def test_what_is_not_ready_gets_nothing_even_when_alone() -> None:
    """An engine's own word that it must get nothing is obeyed."""
    config = make_config(instances=[make_instance("a", "near")])

    plan = Steering(config).decide(make_view(config, instances=phased(config, a=Phase.NOT_READY)))

    assert () == plan.assignments["chat", "near"].allocations


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param({"overrides": [{"instance": "a", "drain": True}]}, "drained", id="drain"),
        pytest.param({"overrides": [{"instance": "b", "pin": True}]}, "pins", id="pin"),
        pytest.param(
            {"services": [make_service("chat", residency={"allow": ["far"]})]},
            "residency forbids region near",
            id="residency",
        ),
        pytest.param(
            {
                "models": [{"name": "m"}, {"name": "n"}],
                "services": [
                    make_service("chat", models=[{"name": "m"}, {"name": "n", "penalty": "never"}])
                ],
                "instances": [
                    make_instance("a", "near", model="n"),
                    make_instance("b", "far"),
                ],
            },
            "penalty never",
            id="never",
        ),
    ],
)
def test_what_forbids_an_instance_is_said(settings: dict[str, Any], reason: str) -> None:
    """Each rule leaves only the other instance, with the rule in words."""
    base = {"instances": [make_instance("a", "near"), make_instance("b", "far")]}
    config = make_config(**(base | settings))

    plan = Steering(config).decide(make_view(config))

    assert {"b": 1.0} == shares(plan)
    assert reason in plan.assignments["chat", "near"].excluded[0].reason


def test_residency_fails_closed() -> None:
    """A site that does not say its region holds no resident requests."""
    config = make_config(
        sites=[{"name": "near", "kind": "edge"}],
        services=[make_service("chat", residency={"allow": ["eu"]})],
        instances=[make_instance("a", "near")],
    )

    plan = Steering(config).decide(make_view(config))

    assert () == plan.assignments["chat", "near"].allocations


def test_shares_are_bounded_by_overrides() -> None:
    """Least and largest shares hold, and the explanation names them."""
    config = make_config(
        sites=["near", "far"],
        instances=[make_instance("a", "near", slots=100), make_instance("b", "far", slots=100)],
        overrides=[{"service": "chat", "site": "near", "max_share": "30%"}],
    )

    plan = Steering(config).decide(make_view(config, demand={("near", "chat"): 1.0}))

    assert pytest.approx({"a": 0.3, "b": 0.7}, abs=1e-3) == shares(plan)
    why = plan.assignments["chat", "near"].allocations[0].why
    assert why is not None
    assert ("max_share 30% at near",) == why.limits


def test_equal_views_give_equal_versions() -> None:
    """The version names what Envoys get: equal weights, equal version."""
    config, view = tiers(chat=12.0, paint=12.0)

    assert Steering(config).decide(view).version == Steering(config).decide(view).version


def test_a_frozen_fleet_keeps_its_plan_and_says_so() -> None:
    """When everyone falls silent at once, nothing moves."""
    config, view = tiers(chat=12.0, paint=12.0)
    steering = Steering(config)
    before = steering.decide(view)

    after = steering.decide(make_view(config, at=5.0, frozen=True))

    assert before.version == after.version
    assert after.held
    assert all("frozen" in a.note for a in after.assignments.values())


def frozen_under(
    *, without: str = "", moved: str = "", drained: str = "", added: str = ""
) -> tuple[Plan, list[Plan]]:
    """Decide on three instances, then on silence under another file, and under the first again."""

    def configure(names: str, **sections: Any) -> Config:
        sites = {name: "far" if name == moved and sections else "near" for name in names}
        made = [make_instance(name, site) for name, site in sites.items()]
        return make_config(instances=made, **sections)

    first = make_config(instances=[make_instance(name, "near") for name in "abc"])
    overrides = [{"instance": drained, "drain": True}] if drained else []
    names = [name for name in "abc" if name not in without]
    services = [make_service(name) for name in ("chat", *filter(None, [added]))]
    other = configure("".join(names), overrides=overrides, services=services)
    steering = Steering(first)
    before = steering.decide(make_view(first, demand={("near", "chat"): 6.0}))
    after = []
    for at, config in ((5.0, other), (6.0, other), (7.0, first)):
        steering.reconfigure(config)
        after.append(steering.decide(make_view(config, at=at, frozen=True)))
    return before, after


@pytest.mark.parametrize("change", [{"without": "b"}, {"drained": "b"}, {"moved": "b"}])
def test_what_an_operator_removes_or_drains_goes_while_all_is_silent(
    change: dict[str, str],
) -> None:
    """The others keep their weights, the version changes once, and the way back is open."""
    before, (changed, same, again) = frozen_under(**change)

    def weights(plan: Plan) -> dict[str, int]:
        kept = plan.assignments["chat", "near"].allocations
        return {each.instance: each.weight for each in kept}

    assert {"a", "b", "c"} == weights(before).keys()
    assert {name: weight for name, weight in weights(before).items() if name != "b"} == weights(
        changed
    )
    assert before.version != changed.version == same.version
    assert changed.held
    assert (before.version, weights(before)) == (again.version, weights(again))


@pytest.mark.parametrize("change", [{"without": "abc"}, {"added": "paint"}])
def test_what_a_frozen_plan_cannot_say_is_decided(change: dict[str, str]) -> None:
    """A service that comes, or has nothing left, gets what the configuration has for it."""
    _, (changed, *_) = frozen_under(**change)
    services = {service for service, _ in changed.assignments}
    assert ({"chat", "paint"} if "added" in change else {"chat"}) == services
    names = {each.instance for one in changed.assignments.values() for each in one.allocations}
    assert names == ({"a", "b", "c"} if "added" in change else set())


def test_observing_proposes_and_pushes_the_static_split() -> None:
    """In observe mode the decision is shown and the static split is what Envoys get."""
    config = make_config(
        instances=[make_instance("a", "near"), make_instance("b", "far")],
        steering={"mode": "observe"},
    )
    view = make_view(config, demand={("near", "chat"): 1.0}, rtt={("near", "far"): 0.5})

    plan = Steering(config).decide(view)

    assert {"a": 0.5, "b": 0.5} == shares(plan)
    proposed = plan.proposed["chat", "near"].allocations
    assert ["a"] == [a.instance for a in proposed if a.priority == 0]


def test_what_is_predicted_while_watching_is_of_the_split_that_is_pushed() -> None:
    """Else the better, unpushed plan would be refuted by what Envoys see of the static split."""
    config = make_config(
        instances=[make_instance("a", "near"), make_instance("b", "far")],
        steering={"mode": "observe"},
    )
    view = make_view(config, demand={("near", "chat"): 1.0}, rtt={("near", "far"): 0.5})

    plan = Steering(config).decide(view)

    whys = [a.why for a in plan.assignments["chat", "near"].allocations]
    mean = sum(why.predicted_latency for why in whys if why) / 2
    assert pytest.approx(mean, rel=1e-2) == plan.predicted_latency


CANARIES = [
    pytest.param("optimal", "static", {"a": 0.5, "b": 0.5}, {"a": 1.0}, id="from optimal"),
    pytest.param("static", "optimal", {"a": 1.0}, {"a": 0.5, "b": 0.5}, id="to optimal"),
    pytest.param("static", "nearest", {"a": 1.0}, {"a": 0.5, "b": 0.5}, id="between rules"),
]


@pytest.mark.parametrize(("policy", "tried", "expected", "standing"), CANARIES)
@pytest.mark.parametrize("place", ["service", "steering"])
def test_a_canary_decides_at_its_client_site_only(
    policy: str, tried: str, expected: dict[str, float], standing: dict[str, float], place: str
) -> None:
    """The other sites keep the standing policy, whose split at the canary's is reported beside."""
    canary = {"policy": policy, "canary": {"client_site": "near", "policy": tried}}
    config = make_config(
        services=[make_service("chat", **(canary if place == "service" else {}))],
        instances=[make_instance("a", "near"), make_instance("b", "far")],
        steering=canary if place == "steering" else {},
    )
    view = make_view(
        config,
        demand={("near", "chat"): 0.1, ("far", "chat"): 0.1},
        rtt={("near", "far"): 0.5, ("far", "near"): 0.5},
    )

    plan = Steering(config).decide(view)

    here, there = plan.assignments["chat", "near"], plan.assignments["chat", "far"]
    would_be = plan.standing["chat", "near"]
    assert pytest.approx(expected, abs=0.02) == shares(plan)
    assert pytest.approx(standing, abs=0.02) == {
        a.instance: a.share for a in would_be.allocations if a.priority == 0
    }
    assert (tried, policy) == (here.policy, here.standing)
    assert (policy, None) == (there.policy, there.standing)
    assert {("chat", "near")} == set(plan.standing)
    assert all(a.why is not None for a in would_be.allocations)


def test_a_canary_is_not_pushed_while_watching() -> None:
    """Observe mode pushes the static split everywhere."""
    config = make_config(
        services=[make_service("chat", canary={"client_site": "near", "policy": "nearest"})],
        instances=[make_instance("a", "near"), make_instance("b", "far")],
        steering={"mode": "observe"},
    )

    plan = Steering(config).decide(make_view(config))

    assert {"a": 0.5, "b": 0.5} == shares(plan)
    assert "nearest" == plan.proposed["chat", "near"].policy
    assert {} == plan.standing


def test_a_canary_of_the_model_falls_back_alone_when_predictions_are_refuted() -> None:
    """The rest, which no model decides, is not reported to have fallen back."""
    config = make_config(
        services=[
            make_service(
                "chat", policy="static", canary={"client_site": "near", "policy": "optimal"}
            )
        ],
        instances=[make_instance("a", "near"), make_instance("b", "far")],
    )
    steering = Steering(config)
    steering._monitor.until = 100.0

    plan = steering.decide(make_view(config))

    here, there = plan.assignments["chat", "near"], plan.assignments["chat", "far"]
    assert ("capacity", "static") == (here.policy, here.standing)
    assert "fallback" in here.note
    assert ("static", "") == (there.policy, there.note)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(
            {
                "steering": {"policy": "static"},
                "overrides": [{"service": "chat", "instance": "a", "weight": 1},
                              {"service": "chat", "instance": "b", "weight": 3}],
            },
            {"a": 0.25, "b": 0.75},
            id="weights",
        ),
        pytest.param(
            {"overrides": [{"service": "chat", "instance": "a", "max_share": 0.4}]},
            {"a": 0.4, "b": 0.6},
            id="bound",
        ),
    ],
)  # fmt: skip
def test_an_operators_change_is_not_weighed_against_its_cost(
    settings: dict[str, Any], expected: dict[str, float]
) -> None:
    """Shares in use are held for small gains, but never against the configuration."""
    instances = [make_instance("a", "near"), make_instance("b", "far")]
    before = make_config(instances=instances)
    steering = Steering(before)
    demand = {("near", "chat"): 1.0}
    steering.decide(make_view(before, demand=demand))
    after = make_config(instances=instances, **settings)
    steering.reconfigure(after)
    plan = steering.decide(make_view(after, at=1.0, demand=demand))

    assert pytest.approx(expected, abs=1e-3) == shares(plan)


def test_a_rule_follows_its_inputs_whatever_they_cost() -> None:
    """Static weights that change back are taken too, and an equal plan counts as held."""
    instances = [make_instance("a", "near"), make_instance("b", "far")]
    plans = []
    steering: Steering | None = None
    for at, weight in enumerate((1, 3, 1, 1)):
        config = make_config(
            instances=instances,
            steering={"policy": "static"},
            overrides=[{"service": "chat", "instance": "a", "weight": weight},
                       {"service": "chat", "instance": "b", "weight": 1}],
        )  # fmt: skip
        if steering is None:
            steering = Steering(config)
        else:
            steering.reconfigure(config)
        plans.append(steering.decide(make_view(config, at=float(at))))

    assert [0.5, 0.75, 0.5, 0.5] == pytest.approx([shares(plan)["a"] for plan in plans])
    assert [False, False, False] == [plan.held for plan in plans[:3]]
