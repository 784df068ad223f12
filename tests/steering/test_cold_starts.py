"""Instances that are asleep are started where that pays, or where nothing else serves."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import Config
from controlplane.fleet.view import ColdStart, FleetView, InstanceView, Phase
from controlplane.model import Reading, Signal, Source
from controlplane.steering import Plan, Steering
from controlplane.steering.latency import Curves
from controlplane.steering.scaling import replica_gain
from controlplane.steering.start_gains import Offer, Traffic, fill
from testbed.fakes.views import make_config, make_instance, make_reported, make_service, make_view

WAKE = {"start_up": "60s", "use": "10m", "url": "http://10.0.0.9/wake"}
SERVICES = [
    make_service("chat", service_time="1s"),
    make_service("see", models=[{"name": "v"}]),
]
MODELS = [{"name": "m"}, {"name": "v"}]


def equal(name: str, site: str, **settings: Any) -> dict[str, Any]:
    """Return one of the equal instances."""
    return make_instance(name, site, slots=4, service_time="1s", **settings)


def pool(*, awake: int, asleep: int = 1, site: str = "near", **wake: Any) -> Config:
    """Return a fleet of equal instances, the last ones of which can be started."""
    return make_config(
        services=SERVICES,
        models=MODELS,
        instances=[
            *(equal(f"a{number}", "near") for number in range(awake)),
            *(equal(f"z{number}", site, wake=WAKE | wake) for number in range(asleep)),
            make_instance("v0", "near", model="v"),
        ],
    )


def asleep(config: Config, **starts: ColdStart) -> dict[str, InstanceView]:
    """Return the views of all instances that can be started, asleep."""
    return {
        each.name: InstanceView(
            each,
            Phase.ASLEEP,
            confidence=0.0,
            ramp=1.0,
            reason="asleep",
            cold_start=starts.get(each.name, ColdStart(each.wake)),
        )
        for each in config.instances
        if each.wake is not None
    }


def see(
    config: Config, rate: float, *, at: float = 0.0, far: float = 0.030, **starts: ColdStart
) -> FleetView:
    """Return the fleet while *rate* requests a second of one second each come from `near`."""
    return make_view(
        config,
        at=at,
        demand={("near", "chat"): rate, ("near", "see"): 0.1},
        rtt={("near", "far"): far},
        instances=asleep(config, **starts),
    )


def decide(config: Config, rate: float, *, seconds: int = 60, **more: Any) -> Plan:
    """Return the plan after *seconds* of *rate*."""
    steering = Steering(config)
    plan = steering.decide(see(config, rate, **more))
    for second in range(5, seconds + 1, 5):
        plan = steering.decide(see(config, rate, at=float(second), **more))
    return plan


@settings(max_examples=40)
@given(
    slots=st.integers(1, 16),
    slowdown=st.sampled_from([0.0, 0.05, 0.2]),
    count=st.integers(1, 5),
    level=st.floats(0.1, 1.1),
)
def test_among_equals_a_start_is_worth_what_one_more_replica_is(
    *, slots: int, slowdown: float, count: int, level: float
) -> None:
    """The closed form of one pool, from below and from above."""
    curves = Curves(np.full(count + 1, float(slots)), np.full(count + 1, slowdown))
    work = level * float(curves.capacity[:count].sum())
    entries = np.arange(count)
    traffic = Traffic(
        service=np.zeros(count, dtype=np.intp),
        client=np.zeros(count, dtype=np.intp),
        column=entries,
        amount=np.full(count, work / count),
        linear=np.zeros(count),
        work=np.ones(count),
        load=np.append(np.full(count, work / count), 0.0),
        inside=np.full(count + 1, np.inf),
    )
    offer = Offer(count, entries, np.zeros(count), np.ones(count))
    moved, least, most = fill(traffic, offer, curves)
    one = Curves(np.array([float(slots)]), np.array([slowdown]))
    gains = replica_gain(one, np.array([work]), np.array([count]))
    lower, upper = (float(bound[0]) for bound in gains)

    assert least == pytest.approx(lower, rel=0.02, abs=1e-3)
    assert least <= most <= upper * 1.02 + 1e-3
    assert np.all((moved >= 0) & (moved <= traffic.amount + 1e-12))
    seen = replace(traffic, inside=np.full(count + 1, 0.1))
    assert 0.1 * count >= fill(seen, offer, curves)[1]


@pytest.mark.parametrize("slowdown", [0.0, 0.003, 0.05])
@pytest.mark.parametrize("times", [1.5, 2.0, 5.0])
def test_in_an_overload_that_one_more_does_not_end_it_takes_what_it_sustains(
    slowdown: float, times: float
) -> None:
    """Its queue, were it as deep as the others', would outweigh the requests seen to wait there."""
    curves = Curves(np.full(4, 8.0), np.full(4, slowdown))
    full = float(curves.capacity[0])
    entries = np.arange(3)
    traffic = Traffic(
        service=np.zeros(3, dtype=np.intp),
        client=np.zeros(3, dtype=np.intp),
        column=entries,
        amount=np.full(3, times * full),
        linear=np.zeros(3),
        work=np.ones(3),
        load=np.append(np.full(3, times * full), 0.0),
        inside=np.array([90.0, 90.0, 90.0, np.inf]),
    )
    moved, least, most = fill(traffic, Offer(3, entries, np.zeros(3), np.ones(3)), curves)
    assert 0.9 * full <= moved.sum() <= 0.95 * full + 1e-9
    assert 0.0 < least <= most


def test_a_start_is_wanted_once_it_saves_more_than_it_costs() -> None:
    """A calm pool starts nothing, a full one does; the plan sends nothing there meanwhile."""
    config = pool(awake=2)
    calm, full = decide(config, 2.0).cold_starts["z0"], decide(config, 7.6).cold_starts["z0"]

    assert not calm.wanted
    assert calm.saves < calm.price
    assert full.wanted
    assert full.saves > full.price
    assert full.gain_least <= full.gain_most
    row = decide(config, 7.6).assignments["chat", "near"]
    assert {"a0", "a1"} == {each.instance for each in row.allocations}
    (reason,) = (each.reason for each in row.excluded if each.instance == "z0")
    assert "a start would save" in reason


def test_the_time_it_takes_to_start_is_a_cost() -> None:
    """Of the same gain less is left, the longer the start takes; the network counts as well."""
    quick = decide(pool(awake=2), 7.6).cold_starts["z0"]
    slow = decide(pool(awake=2, start_up="9m"), 7.6).cold_starts["z0"]
    far = decide(pool(awake=2, site="far"), 7.6, far=0.4).cold_starts["z0"]

    assert slow.saves == pytest.approx(quick.saves * 60 / 540, rel=1e-6)
    assert 0 < far.gain_least < quick.gain_least


def test_the_more_a_start_saves_the_sooner_it_is_wanted() -> None:
    """One busy second starts nothing; a pool that is overrun does not wait for a minute."""
    config = pool(awake=2)

    assert not decide(config, 7.6, seconds=0).cold_starts["z0"].wanted
    assert not decide(config, 6.0, seconds=10).cold_starts["z0"].wanted
    assert decide(config, 14.0, seconds=10).cold_starts["z0"].wanted


def test_one_shortage_starts_one_instance() -> None:
    """While the first starts it counts, and none is asked twice."""
    config = pool(awake=2, asleep=2)
    before = decide(config, 7.6)
    wake = config.instances[2].wake
    assert wake is not None
    pending = ColdStart(wake, requested_at=0.0, pending=True, retry_at=120.0)
    assert config.instances[2].name == "z0"
    after = decide(config, 7.6, z0=pending)

    assert ["z0"] == [each.instance for each in before.cold_starts.values() if each.wanted]
    assert after.cold_starts["z0"].pending
    assert not any(each.wanted for each in after.cold_starts.values())
    assert after.cold_starts["z1"].gain_least < 0.2 * before.cold_starts["z1"].gain_least


def test_what_has_come_takes_its_part_before_another_one_is_wanted() -> None:
    """What the others would have saved without it is forgotten."""
    config = pool(awake=2, asleep=2)
    steering = Steering(config)
    for second in range(0, 61, 5):
        plan = steering.decide(see(config, 7.6, at=float(second)))
    assert any(each.wanted for each in plan.cold_starts.values())
    came = see(config, 7.6, at=61.0)
    live = InstanceView(config.instances[2], Phase.STARTING, confidence=1.0, ramp=0.1)
    for second in range(61, 122, 5):
        view = replace(came, at=float(second), instances={**came.instances, "z0": live})
        plan = steering.decide(view)
        assert not any(each.wanted for each in plan.cold_starts.values())


@settings(max_examples=60)
@given(
    rates=st.lists(st.floats(1e-6, 30.0), min_size=1, max_size=6),
    level=st.floats(1e-6, 5.0),
    rounds=st.integers(1, 4),
)
def test_starts_one_after_the_other_leave_no_load_below_nothing(
    *, rates: list[float], level: float, rounds: int
) -> None:
    """Whatever rounding does when everything moves; a load below nothing has no price."""
    count = len(rates)
    curves = Curves(np.full(count + rounds, level), np.full(count + rounds, 0.1))
    traffic = Traffic(
        service=np.zeros(count, dtype=np.intp),
        client=np.zeros(count, dtype=np.intp),
        column=np.arange(count),
        amount=np.array(rates) / 3.0,
        linear=np.full(count, 9.0),
        work=np.full(count, 0.3),
        load=np.append(np.array(rates) / 10.0, np.zeros(rounds)),
        inside=np.full(count + rounds, np.inf),
    )
    for number in range(rounds):
        able = np.flatnonzero(traffic.column != count + number)
        offer = Offer(count + number, able, np.zeros(len(able)), np.full(len(able), 0.1))
        moved, least, most = fill(traffic, offer, curves)
        traffic = traffic.moved(able, moved, offer)
        assert 0 <= least <= most
        assert (traffic.load >= 0).all()
        assert (traffic.amount >= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_one_that_is_starting_is_weighed_at_any_load(seed: int) -> None:
    """Rounding once left it a load below nothing, and the whole decision failed."""
    one = {"slots": 1, "service_time": "200ms"}
    config = make_config(
        sites=["near"],
        instances=[
            make_instance("a", "near", **one),
            *(make_instance(name, "near", **one, wake=WAKE) for name in "bc"),
        ],
    )
    steering, chance = Steering(config), random.Random(seed)

    def reported(name: str, at: float, rate: float, **more: Any) -> InstanceView:
        gauges = {Signal.RUNNING: 1.0, Signal.WAITING: float(chance.randint(0, 6))}
        rates = {Signal.COMPLETED: rate} if rate else {}
        return make_reported(config, name, at=at, gauges=gauges, rates=rates, **more)

    for step in range(40):
        at, rate = float(step), chance.uniform(0.5, 6.0)
        known = {**asleep(config), "a": reported("a", at, rate)}
        if step > 20:
            ramp = min(1.0, 0.05 * (step - 20))
            known["b"] = reported("b", at, 0.0, phase=Phase.STARTING, ramp=ramp)
        steering.decide(make_view(config, at=at, demand={("near", "chat"): rate}, instances=known))


def test_what_failed_to_start_is_not_asked_again_at_once() -> None:
    """Another one is wanted meanwhile."""
    config = pool(awake=2, asleep=2)
    wake = config.instances[2].wake
    assert wake is not None
    failed = ColdStart(wake, requested_at=0.0, retry_at=1e6, error="status 500")

    wishes = decide(config, 7.6, z0=failed).cold_starts
    assert ["z1"] == [name for name, each in wishes.items() if each.wanted]


def test_demand_that_nothing_serves_wakes_what_is_there_soonest() -> None:
    """At once, whatever it saves; without demand everything may sleep."""
    config = make_config(
        services=SERVICES,
        models=MODELS,
        instances=[
            make_instance("slow", "near", wake=WAKE | {"start_up": "90s", "price": "1h"}),
            make_instance("soon", "near", wake=WAKE | {"start_up": "20s", "price": "1h"}),
            make_instance("v0", "near", model="v"),
        ],
    )

    def wanted(**more: Any) -> dict[str, tuple[str, ...]]:
        view = make_view(config, instances=asleep(config), **more)
        wishes = Steering(config).decide(view).cold_starts
        return {name: each.unserved for name, each in wishes.items() if each.wanted}

    counted = {("near", "chat"): Reading(0.2, Source.ENVOY, 0.0)}
    assert {} == wanted()
    assert {"soon": ("chat",)} == wanted(counted=counted)
    assert {"soon": ("chat",)} == wanted(demand={("near", "chat"): 0.2})


def test_a_group_that_is_asleep_is_in_the_plan_of_autoscalers() -> None:
    """None of it runs; one replica is wanted once its start is."""
    config = pool(awake=2, site="far")
    groups = {
        rate: {(each.site, each.model): each for each in decide(config, rate, far=0.01).scaling}
        for rate in (2.0, 7.6)
    }

    calm, full = groups[2.0]["far", "m"], groups[7.6]["far", "m"]
    assert (0, 0, 1, False) == (calm.replicas, calm.wanted, calm.asleep, calm.starting)
    assert (0, 1, 1, True) == (full.replicas, full.wanted, full.asleep, full.starting)
    assert full.gain_least > calm.gain_least


def test_a_fleet_that_is_asleep_as_a_whole_is_decided() -> None:
    """Nothing serves, nothing fails."""
    config = make_config(instances=[make_instance("z", "near", wake=WAKE)])
    plan = Steering(config).decide(make_view(config, instances=asleep(config)))

    assert () == plan.assignments["chat", "near"].allocations
    assert [("near", "m", 0)] == [(each.site, each.model, each.replicas) for each in plan.scaling]
