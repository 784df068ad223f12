"""Services with models of their own at one address share its queue, whatever their lengths."""

from __future__ import annotations

import pytest

from controlplane.steering import Plan, Steering
from controlplane.steering.plan import Why
from testbed.fakes.views import make_config, make_service, make_view


def decide(law: float, code: float) -> Plan:
    """Return the plan for requests a second of two adapters, those for code of twice the length."""
    config = make_config(
        models=[{"name": "law"}, {"name": "code"}],
        services=[
            make_service("law", models=[{"name": "law"}], service_time="500ms"),
            make_service("code", models=[{"name": "code"}], service_time="1s"),
        ],
        instances=[
            {
                "name": name,
                "site": site,
                "address": f"10.0.0.{number}:80",
                "models": ["law", "code"],
                "slots": 8,
            }
            for number, (name, site) in enumerate((("a", "near"), ("b", "far")), start=1)
        ],
        network={"paths": [{"from": "near", "to": "far", "rtt": "60ms"}]},
    )
    view = make_view(
        config,
        demand={("near", "law"): law, ("near", "code"): code},
        rtt={("near", "far"): 0.06},
    )
    steering = Steering(config)
    plan = steering.decide(view)
    for _ in range(3):
        plan = steering.decide(view)
    return plan


def near(plan: Plan, service: str) -> tuple[float, Why]:
    """Return the near instance's share of a service, and why."""
    for each in plan.assignments[service, "near"].allocations:
        if each.instance == "a" and each.why is not None:
            return each.share, each.why
    raise AssertionError(f"{service} gets nothing from a")


def test_one_services_demand_moves_the_other() -> None:
    """Both stay near while there is room; when one grows, requests of both or either leave."""
    calm, busy = decide(1.0, 1.0), decide(14.0, 3.0)
    assert [pytest.approx(1.0)] * 2 == [near(calm, name)[0] for name in ("law", "code")]
    moved = 14.0 * (1 - near(busy, "law")[0]) * 0.5 + 3.0 * (1 - near(busy, "code")[0]) * 1.0
    assert moved > 1.5


def test_both_see_one_load_and_one_capacity() -> None:
    """A request counts by its length: six short ones are as much work as three long ones."""
    plan = decide(6.0, 3.0)
    law, code = (near(plan, name)[1] for name in ("law", "code"))
    assert law.arrival_rate == pytest.approx(code.arrival_rate)
    assert law.capacity == pytest.approx(code.capacity)
    assert code.service == pytest.approx(2 * law.service)
    assert code.queueing == pytest.approx(2 * law.queueing, rel=1e-6)
    work = [
        rate * near(decide(*demand), name)[0] * length
        for demand, name, rate, length in (
            ((12.0, 0.001), "law", 12.0, 0.5),
            ((0.001, 6.0), "code", 6.0, 1.0),
        )
    ]
    # The same way costs the short ones more of their time, so a little more of them stays.
    assert work[1] < work[0] < 1.25 * work[1]
