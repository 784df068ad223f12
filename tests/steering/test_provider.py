"""A provider's API as an instance: it gets requests as price, delay and its rate limit say."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.steering import Plan, Steering
from testbed.fakes.views import make_config, make_instance, make_service, make_view

CAPACITY = 8.0
"""Requests a second that the fleet's own instance sustains."""
PRICE = {"request": 0.001, "input_tokens": 2.0, "output_tokens": 8.0}
TOKENS = {"input": 500, "output": 250}
"""With `PRICE` four thousandths of the currency."""


def decide(
    demand: float,
    *,
    value: float = 0.0,
    penalty: str = "0ms",
    limit: dict[str, float] | None = None,
    price: dict[str, float] | None = None,
) -> Plan:
    """Return the plan for *demand* requests a second at the fleet's own site."""
    provider: dict[str, Any] = {"slots": 1000, "service_time": "2s", "model": "large"}
    if limit is not None:
        provider["rate_limit"] = limit
    service = make_service("chat", service_time="1s", tokens=TOKENS)
    service["models"] = [{"name": "m"}, {"name": "large", "penalty": penalty}]
    config = make_config(
        sites=[{"name": "near", "kind": "edge"}, {"name": "internet", "kind": "cloud"}],
        services=[service],
        models=[{"name": "m"}, {"name": "large"}],
        instances=[
            make_instance("own", "near", slots=8, service_time="1s"),
            make_instance("provider", "internet", price=price or PRICE, **provider),
        ],
        network={"paths": [{"from": "near", "to": "internet", "rtt": "50ms"}]},
        steering={"energy_value": value},
    )
    view = make_view(config, demand={("near", "chat"): demand}, rtt={("near", "internet"): 0.05})
    steering = Steering(config)
    plan = steering.decide(view)
    for _ in range(3):
        plan = steering.decide(view)
    return plan


def sent(plan: Plan, demand: float) -> float:
    """Return the requests a second that go to the provider."""
    allocations = plan.assignments["chat", "near"].allocations
    return demand * sum(
        each.share for each in allocations if each.instance == "provider" and each.priority == 0
    )


def test_it_gets_requests_when_its_price_and_latency_win() -> None:
    """Under a busy instance of the fleet's own; a price that is worth waiting for keeps them."""
    free = sent(decide(7.0), 7.0)
    worth_it = sent(decide(7.0, value=100.0), 7.0)
    too_expensive = sent(decide(7.0, value=2000.0), 7.0)
    assert free > worth_it > too_expensive
    assert too_expensive < 0.3
    assert sent(decide(2.0), 2.0) < 0.1


def test_it_gets_requests_when_nothing_else_is_left() -> None:
    """A penalty of two seconds leaves it what the fleet's own instance cannot serve."""
    assert sent(decide(6.0, penalty="2s"), 6.0) < 0.05
    beyond = sent(decide(14.0, penalty="2s"), 14.0)
    assert beyond >= 14.0 - 1.3 * CAPACITY


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        ({"requests_per_minute": 120}, 2.0),
        ({"tokens_per_minute": 45_000}, 1.0),
        ({"requests_per_minute": 120, "tokens_per_minute": 45_000}, 1.0),
    ],
)
@pytest.mark.parametrize("demand", [7.0, 9.0, 12.0])
def test_its_rate_limit_is_respected(limit: dict[str, float], most: float, demand: float) -> None:
    """However much more the fleet's own instance would like to give away."""
    plan = decide(demand, limit=limit)
    assert 0.5 * most < sent(plan, demand) <= most
    why = next(
        each.why
        for each in plan.assignments["chat", "near"].allocations
        if each.instance == "provider"
    )
    assert why is not None
    assert f"rate limit of {most:.3g} requests/s" in why.limits
