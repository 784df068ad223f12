"""Money and carbon move requests as far as an operator says that they are worth delay."""

from __future__ import annotations

import math
from typing import Any

import pytest

from controlplane.admin_api.effect import encode_effect
from controlplane.config import Config
from controlplane.fleet.view import FleetView, TariffView
from controlplane.model import Reading, Signal, Source
from controlplane.steering import Plan, Steering
from testbed.fakes.views import (
    make_config,
    make_instance,
    make_reported,
    make_service,
    make_view,
)

POWER = {"idle": "100W", "busy": "1100W"}


def fleet(
    near: dict[str, Any] | None = None,
    far: dict[str, Any] | None = None,
    *,
    service: dict[str, Any] | None = None,
    near_instance: dict[str, Any] | None = None,
    far_instance: dict[str, Any] | None = None,
    **steering: Any,
) -> Config:
    """Return two equal instances, one 30 ms farther from the clients, with the sites' power."""
    common = {"slots": 64, "service_time": "1s", "power": POWER}
    return make_config(
        sites=[
            {"name": "near", "kind": "edge", "region": "near", "power": near or {}},
            {"name": "far", "kind": "cloud", "region": "far", "power": far or {}},
        ],
        services=[make_service("chat", service_time="1s", **(service or {}))],
        instances=[
            make_instance("a", "near", **common, **(near_instance or {})),
            make_instance("b", "far", **common, **(far_instance or {})),
        ],
        network={"paths": [{"from": "near", "to": "far", "rtt": "30ms"}]},
        steering=steering,
    )


def view_of(config: Config, **more: Any) -> FleetView:
    """Return the fleet with ten requests a second at the near site."""
    return make_view(config, demand={("near", "chat"): 10.0}, rtt={("near", "far"): 0.030}, **more)


def decide(config: Config, **more: Any) -> Plan:
    """Return the plan."""
    return Steering(config).decide(view_of(config, **more))


def far_share(plan: Plan) -> float:
    """Return the share of the near clients' requests that go far."""
    first = plan.assignments["chat", "near"].allocations
    return sum(each.share for each in first if each.site == "far" and not each.priority)


# A request takes 1 s of an instance with 64 slots and 1 kW above idle: 1000/64 J.
KWH = 1000 / 64 / 3.6e6

DIRTY = {"price": 0.1, "carbon": 800.0}
CLEAN = {"price": 0.1, "carbon": 50.0}

WORTH = 100 / KWH
"""Seconds for a unit of currency, so that a price difference of 0.001 a kWh is worth 0.1 s."""


@pytest.mark.parametrize(
    ("setting", "config"),
    [
        ("power.price", {"near": {"price": 0.101}, "far": {"price": 0.1}}),
        ("power.carbon", {"near": DIRTY, "far": CLEAN, "carbon_price": 0.002}),
        ("instances[].price", {"near_instance": {"price": {"request": 2 * KWH}}}),
        (
            "services[].price",
            {
                "service": {"price": {"request": 2 * KWH}},
                "far_instance": {"price": {"request": 0.0}},
            },
        ),
        (
            "services[].tokens",
            {
                "service": {"tokens": {"input": 1000, "output": 100}},
                "near_instance": {"price": {"input_tokens": KWH * 1e6 / 500}},
            },
        ),
    ],
)
def test_each_price_moves_requests_if_money_is_worth_delay(
    setting: str, config: dict[str, Any]
) -> None:
    """The same fleet keeps its requests near while a unit of currency is worth no delay."""
    assert far_share(decide(fleet(**config))) < 0.01, setting
    assert far_share(decide(fleet(**config, energy_value=WORTH))) > 0.9, setting


def test_carbon_without_a_price_is_reported_and_moves_nothing() -> None:
    """Grams are known; only ``steering.carbon_price`` turns them into something to weigh."""
    plan = decide(fleet(DIRTY, CLEAN, energy_value=WORTH))
    assert far_share(plan) < 0.01
    assert plan.spending["chat"].carbon == pytest.approx(800 * KWH, rel=0.05)
    assert plan.spending["chat"].money == pytest.approx(0.1 * KWH, rel=0.05)


def test_what_can_wait_goes_farther_for_money() -> None:
    """A second of a tolerant service costs a tenth, a unit of currency as much as anyone's."""
    prices: dict[str, Any] = {
        "near": {"price": 0.1001},
        "far": {"price": 0.1},
        "energy_value": WORTH,
    }
    assert far_share(decide(fleet(**prices))) < 0.2
    assert far_share(decide(fleet(**prices, service={"delay": "tolerant"}))) > 0.7


def test_a_tariff_that_was_read_replaces_the_configured_prices() -> None:
    """And only those of which it speaks."""
    config = fleet({"price": 0.1}, {"price": 0.1}, energy_value=WORTH)
    read = Reading(0.099, Source.FEED, 0.0)
    plan = decide(config, tariffs={"far": TariffView(read, None)})
    assert far_share(plan) > 0.9
    why = next(
        each.why for each in plan.assignments["chat", "near"].allocations if each.site == "far"
    )
    assert why is not None
    assert why.sources["energy price"] == "feed"
    assert why.energy == pytest.approx(0.099 * KWH * WORTH, rel=0.05)


def day_plan(swing: float, *, worth: float) -> Plan:
    """Return the plan of an hour in which energy costs *swing* more here and less far away."""
    config = make_config(
        sites=[
            {"name": name, "kind": "edge", "region": name, "power": {"price": 0.25 + way}}
            for name, way in (("near", swing), ("far", -swing))
        ],
        services=[
            make_service("chat"),
            {**make_service("batch", delay="tolerant"), "match": [{"path": "/batch"}]},
        ],
        instances=[
            make_instance(name, site, slots=64, service_time="1s", power=POWER)
            for name, site in (("a", "near"), ("b", "far"))
        ],
        steering={"energy_value": worth},
    )
    demand = {("near", "chat"): 4.0, ("near", "batch"): 6.0}
    return Steering(config).decide(make_view(config, demand=demand, rtt={("near", "far"): 0.030}))


def chat_latency(plan: Plan) -> float:
    """Return the predicted mean of what someone waits for, in seconds."""
    return sum(
        each.share * each.why.predicted_latency
        for each in plan.assignments["chat", "near"].allocations
        if each.why is not None and not each.priority
    )


def test_over_a_day_of_tariffs_what_can_wait_costs_a_quarter_less() -> None:
    """What cannot wait is at most 2 % slower; a dry run says the same of each hour beforehand."""
    worth = 0.01 / (0.3 * KWH)
    money, latency, shown = ([0.0, 0.0] for _ in range(3))
    for hour in range(0, 24, 2):
        swing = 0.15 * math.sin(hour / 24 * 2 * math.pi)
        plans = day_plan(swing, worth=0.0), day_plan(swing, worth=worth)
        effect = encode_effect(*plans)
        for side, plan in enumerate(plans):
            money[side] += plan.spending["batch"].money
            latency[side] += chat_latency(plan)
            shown[side] += effect["money_per_hour"][side]
            spent = sum(each.rate * each.money for each in plan.spending.values())
            assert effect["money_per_hour"][side] == pytest.approx(3600 * spent)

    assert money[1] <= 0.75 * money[0]
    assert latency[1] <= 1.02 * latency[0]
    assert shown[1] <= 0.85 * shown[0]


def test_every_term_is_explained_and_they_add_up() -> None:
    """The marginal cost holds energy, carbon and price, each by itself."""
    config = fleet(
        {"price": 0.001, "carbon": 100.0},
        {"price": 0.001, "carbon": 100.0},
        service={"price": {"request": 0.5 * KWH}},
        carbon_price=0.01,
        energy_value=WORTH,
    )
    plan = decide(config)
    why = next(each.why for each in plan.assignments["chat", "near"].allocations)
    assert why is not None
    assert why.energy == pytest.approx(0.001 * KWH * WORTH, rel=0.05)
    assert why.carbon == pytest.approx(100 * KWH / 1e3 * 0.01 * WORTH, rel=0.05)
    assert why.price == pytest.approx(0.5 * KWH * WORTH, rel=0.05)
    assert why.marginal_cost == pytest.approx(
        why.predicted_latency + why.energy + why.carbon + why.price + why.crowding
    )


def test_tokens_are_learned_where_instances_report_them() -> None:
    """A price per token needs no estimate by the operator if engines count."""
    config = fleet(near_instance={"price": {"output_tokens": 1e6 * KWH / 100}}, energy_value=WORTH)
    rates = {
        Signal.PROMPT_TOKENS: 5000.0,
        Signal.OUTPUT_TOKENS: 2000.0,
        Signal.COMPLETED: 10.0,
    }
    reported = make_reported(config, "a", at=0.0, gauges={Signal.RUNNING: 10.0}, rates=rates)
    assert far_share(decide(config)) < 0.01
    plan = decide(config, instances={"a": reported})
    assert far_share(plan) > 0.9
