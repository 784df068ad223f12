"""Adapters have homes: few instances hold each, so few requests wait for a loading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import Config
from controlplane.fleet import FleetState
from controlplane.fleet.view import InstanceView, Phase
from controlplane.model import InstanceReport, Source
from controlplane.steering import Plan, Steering
from controlplane.steering.adapter_homes import (
    HEADROOM,
    SETTLED,
    SMALL,
    Wanted,
    choose_shared,
    place,
)
from controlplane.telemetry import parse_metrics
from testbed.fakes.views import make_config, make_service, make_view

ADAPTERS = [f"a{number}" for number in range(6)]


def fleet(*, max_loaded: int | None = 2, load_time: str = "2s", count: int = 3) -> Config:
    """Return instances of one site that serve six adapters each and hold *max_loaded* of them."""
    return make_config(
        sites=["near"],
        models=[{"name": name, "load_time": load_time} for name in ADAPTERS],
        services=[make_service(name, models=[{"name": name}]) for name in ADAPTERS],
        instances=[
            {
                "name": f"i{number}",
                "site": "near",
                "address": f"10.0.0.{number + 1}:80",
                "models": ADAPTERS,
                "max_loaded": max_loaded,
                "slots": 8,
            }
            for number in range(count)
        ],
    )


DEMAND = {("near", name): 1.0 for name in ADAPTERS}


def used(plan: Plan) -> dict[str, set[str]]:
    """Return service -> the instances that get its requests."""
    return {
        service: {each.instance for each in found.allocations if each.priority == 0}
        for (service, _), found in plan.assignments.items()
    }


def loading(plan: Plan) -> float:
    """Return the greatest loading that a share in use is charged."""
    return max(
        each.why.loading
        for found in plan.assignments.values()
        for each in found.allocations
        if each.why is not None and each.priority == 0
    )


def test_each_adapter_has_a_home_and_stays_there() -> None:
    """Six on three instances with room for two each: none is loaded twice."""
    config, steering = fleet(), Steering(fleet())
    plans = [
        steering.decide(make_view(config, at=float(second), demand=DEMAND)) for second in range(40)
    ]
    homes = used(plans[0])
    assert [1] * 6 == [len(each) for each in homes.values()]
    assert {2} == {sum(name in each for each in homes.values()) for name in ("i0", "i1", "i2")}
    assert all(homes == used(plan) for plan in plans)
    assert 0.0 == loading(plans[0])


@pytest.mark.parametrize(
    "settings_", [{"max_loaded": None}, {"load_time": "0s"}, {"max_loaded": 6}]
)
def test_nothing_is_charged_where_nothing_is_loaded_on_demand(settings_: dict[str, Any]) -> None:
    """Requests spread as those of any model do."""
    config = fleet(**settings_)
    plan = Steering(config).decide(make_view(config, demand=DEMAND))
    assert {3} == {len(each) for each in used(plan).values()}


def test_what_engines_have_loaded_is_where_it_starts() -> None:
    """A new control plane moves nothing that is already in place."""
    config = fleet()
    held = {"i0": ("a5", "a1"), "i1": ("a0", "a2"), "i2": ("a3", "a4")}
    instances = {
        each.name: InstanceView(each, Phase.LIVE, 1.0, 1.0, loaded=held[each.name])
        for each in config.instances
    }
    plan = Steering(config).decide(make_view(config, demand=DEMAND, instances=instances))
    assert {name: {i for i, names in held.items() if name in names} for name in ADAPTERS} == used(
        plan
    )


def test_adapters_of_an_instance_that_is_gone_find_another_home_at_once() -> None:
    """And those of the others stay where they are."""
    config, steering = fleet(), Steering(fleet())
    before = used(steering.decide(make_view(config, demand=DEMAND)))
    instances = {
        each.name: InstanceView(
            each, Phase.NOT_READY if each.name == "i1" else Phase.LIVE, 1.0, 1.0
        )
        for each in config.instances
    }
    view = make_view(config, at=1.0, demand=DEMAND, instances=instances)
    after = used(steering.decide(view))
    assert all("i1" not in each for each in after.values())
    kept = [name for name in ADAPTERS if before[name] == after[name]]
    assert len(kept) >= 2


@given(
    st.lists(st.floats(0.01, 10.0), min_size=1, max_size=30),
    st.lists(st.tuples(st.floats(0.5, 8.0), st.integers(1, 6)), min_size=1, max_size=6),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_homes_fit(rates: list[float], instances: list[tuple[float, int]]) -> None:
    """Each has one, places of its own suffice, and no instance has more than its part and one.

    A second look with the same rates changes nothing.
    """
    size = len(rates), len(instances)
    wanted = Wanted(
        rates=np.array(rates),
        allowed=np.ones(size, dtype=bool),
        distance=np.zeros(size),
        capacity=np.array([capacity for capacity, _ in instances]),
        room=np.array([room for _, room in instances], dtype=np.intp),
    )
    shared = choose_shared(wanted, np.zeros(size[1], dtype=bool))
    homes = place(wanted, homes=np.zeros(size, dtype=bool), shared=shared)
    assert homes.any(axis=1).all()
    if shared.any():
        assert (homes.sum(axis=0) <= wanted.room)[~shared].all()
    fair = wanted.capacity / wanted.capacity.sum() * wanted.rates.sum()
    alone = homes & (homes.sum(axis=1) == 1)[:, None]
    own = (alone * wanted.rates[:, None]).sum(axis=0)
    if shared.any():
        assert (own - max(rates) <= HEADROOM * fair + 1e-9)[~shared].all()
    again = choose_shared(wanted, shared)
    assert np.array_equal(shared, again)
    assert np.array_equal(homes, place(wanted, homes=homes, shared=again))


@pytest.mark.parametrize("seed", range(3))
def test_no_place_stays_free_beside_those_that_are_wanted_most(seed: int) -> None:
    """Two hundred by Zipf, homes kept while counts are noisy: each place of its own has one."""
    rng = np.random.default_rng(seed)
    rates = rng.permutation(1 / np.arange(1, 201))
    homes, shared = np.zeros((200, 12), dtype=bool), np.zeros(12, dtype=bool)
    for look in range(6):
        seconds = 10 + 30 * look
        wanted = Wanted(
            rates=rng.poisson(rates / rates.sum() * 80.0 * seconds) / seconds,
            allowed=np.ones((200, 12), dtype=bool),
            distance=np.zeros((200, 12)),
            capacity=np.full(12, 10.0),
            room=np.full(12, 8, dtype=np.intp),
        )
        shared = choose_shared(wanted, shared)
        homes = place(wanted, homes=homes, shared=shared)
    assert (homes.sum(axis=0) == 8)[~shared].all()
    alone = homes & (homes.sum(axis=1) == 1)[:, None]
    work = (alone * wanted.rates[:, None]).sum(axis=0)
    # The others are even where they share: what is not drives requests elsewhere.
    assert np.ptp(work[shared]) < 1.5 * SETTLED * wanted.rates.sum() / 12
    own = work[~shared]
    assert own.max() < (HEADROOM + SMALL) * wanted.rates.sum() / 12


def test_what_vllm_says_it_has_loaded_is_known_by_the_names_of_the_configuration() -> None:
    """The newest row counts; names that the configuration does not have are left out."""
    config = make_config(
        sites=["near"],
        models=[{"name": "base"}, {"name": "law", "served_as": "law-lora", "load_time": "1s"}],
        services=[make_service("law", models=[{"name": "law"}])],
        instances=[
            {
                "name": "i",
                "site": "near",
                "address": "10.0.0.1:80",
                "models": ["base", "law"],
                "engine": "vllm",
            }
        ],
    )
    row = 'vllm:lora_requests_info{max_lora="4",running_lora_adapters="%s",%s} %s\n'
    page = row % ("old", 'waiting_lora_adapters=""', "1.7e9")
    page += row % ("law-lora,other", 'waiting_lora_adapters="law-lora"', "1.8e9")
    page += "vllm:num_requests_running 1\nvllm:num_requests_waiting 0\n"
    state = FleetState(config, now=0.0)
    state.apply(parse_metrics(page, engine="vllm", instance="i", at=1.0), now=1.0)
    shown = state.view(now=1.0).instances["i"]
    assert (("law",), 4) == (shown.loaded, shown.max_loaded)


def test_a_list_of_what_is_loaded_is_known_where_the_room_is_configured() -> None:
    """Ollama's list says no limit; the configuration does."""
    state = FleetState(fleet(max_loaded=2, count=1), now=0.0)
    report = InstanceReport("i0", Source.SCRAPE, 1.0, {}, loaded=("a5", "elsewhere", "a1"))
    state.apply(report, now=1.0)
    shown = state.view(now=1.0).instances["i0"]
    assert (("a5", "a1"), None) == (shown.loaded, shown.max_loaded)
    assert Phase.LIVE == shown.phase
