"""Promises are constraints on the tail: kept where they can be, at the least cost for the rest."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from controlplane.config import Config
from controlplane.steering import Plan, Steering, optimum
from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import PriceTable
from controlplane.steering.layout import build_layout
from controlplane.steering.optimiser import solve
from controlplane.steering.problem import Picture, Problem, build_network, picture
from controlplane.steering.promise_keeping import MOST, PromiseKeeper, Rest
from controlplane.steering.promise_tails import PromiseKind, Tail, mix_of, normal_tail
from controlplane.steering.promises import charge, late_parts, percentile
from testbed.fakes.views import make_config, make_instance, make_service, make_view

PACES = {"quick-a": 0.3, "quick-b": 0.4, "slow-a": 0.8, "slow-b": 0.9}
SLOTS = 16


def fleet(limit: float | None = None, **chat: Any) -> Config:
    """Return four instances of unequal speed that two services share; chat promises *limit*."""
    slo = {} if limit is None else {"slo": {"latency": f"{1e3 * limit:.0f}ms"}}
    return make_config(
        sites=["clients", *PACES],
        services=[
            make_service("chat", service_time="500ms", **slo, **chat),
            make_service("batch", service_time="500ms"),
        ],
        instances=[
            make_instance(name, name, slots=SLOTS, service_time=f"{1e3 * pace:.0f}ms")
            for name, pace in PACES.items()
        ],
    )


RTT = {("clients", name): 0.005 * (n + 1) for n, name in enumerate(PACES)}


def decide(config: Config, *, load: float = 0.9, cycles: int = 12) -> Plan:
    """Return the plan after some seconds at *load*, of which chat is three tenths."""
    capacity = sum(SLOTS / pace for pace in PACES.values())
    demand = {
        ("clients", "chat"): 0.3 * load * capacity,
        ("clients", "batch"): 0.7 * load * capacity,
    }
    steering = Steering(config)
    for at in range(cycles):
        plan = steering.decide(make_view(config, at=float(at), demand=demand, rtt=RTT))
    return plan


def test_the_normal_tail_is_that_of_the_tables() -> None:
    """To six digits, far out as well."""
    z = np.linspace(-6.0, 6.0, 101)
    wanted = [1.0 - NormalDist().cdf(each) for each in z.tolist()]
    assert normal_tail(z) == pytest.approx(wanted, abs=2e-7)


def problem_of(config: Config, load: float) -> Picture:
    """Return the fleet's picture with its true capacities."""
    view = make_view(config, rtt=RTT)
    layout = build_layout(config, tuple(each.instance for each in view.instances.values()))
    demand = np.full((2, len(layout.sites)), 1e-6)
    capacity = sum(SLOTS / pace for pace in PACES.values())
    demand[:, layout.sites.index("clients")] = np.array([0.3, 0.7]) * load * capacity
    estimates = [
        Estimate(
            pace=PACES[each.name], slowdown=0.0, slots=float(SLOTS),
            number=None, number_age=0.0, source="test",
        )
        for each in layout.instances
    ]  # fmt: skip
    return picture(
        view,
        layout,
        build_network(layout, view.paths),
        estimates=estimates,
        demand=demand,
        sizes=np.ones(2),
    )


def test_what_is_charged_is_the_slope_of_what_is_late() -> None:
    """Marginal costs with charges are those of cost plus charge times late requests."""
    made = problem_of(fleet(), 0.8)
    problem = made.problem(made.whole())
    flow = problem.flow
    shares = np.full(len(flow.row), 0.25)
    price, tail = 7.0, Tail(0, PromiseKind.LATENCY, 1.2)
    prices = PriceTable.stationary(problem.curves)
    load = flow.load(shares)
    charged = charge(made, mix_of(problem, shares, load), [tail], np.array([price]))
    whole = charged.made.problem(problem.codes).flow
    marginal = whole.marginal(charged.toll(prices, prices, load).evaluate(load)[1])
    plain = flow.marginal(prices.evaluate(load)[1])
    rate = float(flow.demand[problem.service_of == 0].sum())

    def late(moved: np.ndarray[Any, Any]) -> float:
        return price * rate * float(late_parts(problem, moved, flow.load(moved), [tail])[0])

    clients = flow.demand[flow.row] > 1.0
    for entry in np.flatnonzero(clients).tolist():
        more = shares.copy()
        step = 1e-4 / flow.demand[flow.row[entry]]
        more[entry] += step
        demand = flow.demand[flow.row[entry]] * step
        # A request more is late by itself or makes others late: the numerator, not the mean.
        own = problem.service_of[flow.row] == 0
        asked = flow.demand[flow.row]
        amounts = (asked * more)[own].sum(), (asked * shares)[own].sum()
        grown = late(more) * amounts[0] / rate - late(shares) * amounts[1] / rate
        assert marginal[entry] - plain[entry] == pytest.approx(grown / demand, rel=0.1, abs=0.02)


def foreseen(plan: Plan) -> float:
    """Return the 99th percentile that is foreseen for chat."""
    predicted = plan.promises["chat", "latency"].predicted
    assert predicted is not None
    return predicted


def settle(_: Picture, problem: Problem, prices: PriceTable) -> Rest:
    """Solve the long run."""
    shares = solve(problem.flow, prices, tolerance=1e-4, most_iterations=80).shares
    return Rest(problem.flow.load(shares), shares)


def keep(limit: float, *, cycles: int = 8) -> tuple[PromiseKeeper, float]:
    """Return who keeps chat's promise at a load of 0.9, and what that costs beside charges."""
    made = problem_of(fleet(limit), 0.9)
    problem = made.problem(made.whole())
    prices = PriceTable.stationary(problem.curves).tilted()
    keeper = PromiseKeeper()
    used = np.zeros(len(problem.flow.row))
    for _ in range(cycles):
        kept = keeper.keep(made, problem, prices, settle=settle, used=used)
    assert kept.rest.shares is not None
    return keeper, problem.flow.cost(kept.rest.shares, prices)


def test_a_promise_missed_by_half_is_kept_for_little() -> None:
    """The other service gives way; all requests together cost at most 5 % more."""
    plain, cost = keep(1000.0)
    outlook = plain.outlook["chat", "latency"]
    assert outlook.predicted is not None
    assert not outlook.binds
    keeper, dearer = keep(outlook.predicted / 1.5)
    kept = keeper.outlook["chat", "latency"]
    assert kept.binds
    assert kept.missed_by == 0.0
    assert kept.attainment >= 0.99
    assert dearer <= 1.05 * cost


def test_large_fleets_keep_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the dual, which has no shares of the long run."""
    limit = foreseen(decide(fleet(1000.0))) / 1.2
    monkeypatch.setattr(optimum, "FEW", 0)
    outlook = decide(fleet(limit), cycles=25).promises["chat", "latency"]
    assert outlook.missed_by <= 0.05 * limit


def test_what_cannot_be_kept_is_reported_and_does_not_ruin_the_rest() -> None:
    """A late answer is charged at most what a failed one costs."""
    _, cost = keep(1000.0)
    keeper, dearer = keep(0.2)
    outlook = keeper.outlook["chat", "latency"]
    assert outlook.missed_by > 0.3
    assert outlook.charge == pytest.approx(MOST * 10.0)
    assert dearer <= 1.5 * cost


def test_an_easy_promise_changes_nothing() -> None:
    """Shares are those without it."""
    shares = [
        {a.instance: a.weight for a in decide(config).assignments["chat", "clients"].allocations}
        for config in (fleet(), fleet(100.0))
    ]
    assert shares[0] == shares[1]


def test_a_binding_promise_is_explained() -> None:
    """The terms hold what lateness is charged, and still add up."""
    plan = decide(fleet(foreseen(decide(fleet(1000.0))) / 1.5), cycles=1)
    allocations = plan.assignments["chat", "clients"].allocations
    whys = [each.why for each in allocations if each.why is not None]
    assert any(why.promise > 0.01 for why in whys)
    assert any("promise binds" in words for why in whys for words in why.limits)
    batch = [each.why for each in plan.assignments["batch", "clients"].allocations if each.why]
    assert all(why.promise < 1e-6 for why in batch)


def test_the_percentile_is_that_of_the_mixture() -> None:
    """All but one in a hundred are within it."""
    made = problem_of(fleet(), 0.5)
    problem = made.problem(made.whole())
    shares = np.full(len(problem.flow.row), 0.25)
    load = problem.flow.load(shares)
    tail = Tail(0, PromiseKind.LATENCY, 1.0)
    found = percentile(problem, shares, load, tail)
    assert found is not None
    at = Tail(0, PromiseKind.LATENCY, found)
    assert late_parts(problem, shares, load, [at])[0] == pytest.approx(0.01, rel=1e-3)
