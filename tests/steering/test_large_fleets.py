"""Fleets with more pairs than are solved at once: the dual, and rows without clients."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.steering import Plan, Steering, optimum, optimum_blocks
from controlplane.steering.curvature import Answer, Block
from controlplane.steering.dual import Dual, answer_block
from controlplane.steering.latency import Array
from testbed.fakes.views import make_config, make_instance, make_service, make_view


def weights(plan: Plan) -> dict[tuple[str, str], list[tuple[str, int, int]]]:
    """Return what Envoys get."""
    return {
        key: [(a.instance, a.weight, a.priority) for a in assignment.allocations]
        for key, assignment in plan.assignments.items()
    }


class Fleet:
    """A fleet with places drawn at random: client sites, serving sites, speeds and demand."""

    def __init__(self, *, clients: int, instances: int, seed: int, load: float = 0.8) -> None:
        rng = np.random.default_rng(seed)
        self.clients = [f"client-{n}" for n in range(clients)]
        places = [f"site-{n}" for n in range(max(1, instances // 2))]
        slots = rng.choice([1, 2, 8, 32, 128], instances)
        pace = np.exp(rng.uniform(np.log(0.2), np.log(2.0), instances))
        self.config = make_config(
            sites=[*self.clients, *places],
            services=[
                make_service("fast", service_time="200ms"),
                make_service("slow", service_time="800ms", delay="tolerant"),
            ],
            instances=[
                make_instance(
                    f"i-{n:03d}",
                    places[n % len(places)],
                    slots=int(slots[n]),
                    service_time=f"{1e3 * pace[n]:.0f}ms",
                )
                for n in range(instances)
            ],
        )
        here, there = rng.uniform(size=(clients, 2)), rng.uniform(size=(len(places), 2))
        self.rtt = {
            (client, place): 0.004 + 0.08 * float(np.linalg.norm(here[i] - there[j]))
            for i, client in enumerate(self.clients)
            for j, place in enumerate(places)
        }
        size = rng.pareto(1.5, (clients, 2)) + 0.3
        work = size @ np.array([0.4, 1.6])  # ordinary requests are 0.5 s long
        self.demand = size / work.sum() * load * float((slots / pace).sum())

    def decide(self, *scales: float) -> Plan:
        """Decide once a second for the demand times each of *scales*; return the last plan."""
        steering = Steering(self.config)
        for at, scale in enumerate(scales):
            demand = {
                (client, service): float(scale * self.demand[i, k])
                for i, client in enumerate(self.clients)
                for k, service in enumerate(("fast", "slow"))
            }
            plan = steering.decide(
                make_view(self.config, at=float(at), demand=demand, rtt=self.rtt)
            )
        return plan


@pytest.mark.parametrize("seed", range(4))
def test_the_dual_finds_what_solving_over_all_pairs_finds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The costs agree within half a per cent; the dual's bound shows how near the optimum is."""
    fleet = Fleet(clients=20, instances=60, seed=seed)
    whole = fleet.decide(1.0)
    monkeypatch.setattr(optimum, "FEW", 0)

    by_dual = fleet.decide(1.0)

    assert by_dual.predicted_cost == pytest.approx(whole.predicted_cost, rel=0.005)
    assert by_dual.gap <= 0.005
    assert whole.gap <= 0.02


def test_no_instance_that_is_worth_it_is_left_out() -> None:
    """With many more instances than any client site uses, the load reaches all that are needed."""
    fleet = Fleet(clients=60, instances=200, seed=5, load=0.85)

    plan = fleet.decide(1.0, 1.0)

    used = {
        each.instance
        for assignment in plan.assignments.values()
        for each in assignment.allocations
        if each.priority == 0
    }
    most = max(len(assignment.allocations) for assignment in plan.assignments.values())
    assert len(used) >= 100 > most
    assert plan.gap <= 0.005


def test_the_gap_is_that_of_the_whole_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that looks at too few pairs is found out by the gap that it reports."""
    fleet = Fleet(clients=20, instances=60, seed=1)
    monkeypatch.setattr(optimum, "FEW", 0)
    monkeypatch.setattr(optimum_blocks, "_WORTH", 0.9)
    monkeypatch.setattr(optimum, "_POLISH", 0)

    assert fleet.decide(1.0).gap > 0.02


def test_prices_follow_demand_that_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the last cycle's prices, loads and prices agree again before the steps run out."""
    monkeypatch.setattr(optimum, "FEW", 0)
    apart: list[float] = []
    solve = Dual.solve

    def measured(
        dual: Dual, start: Array | None, *, temperature: float
    ) -> tuple[Array, list[Answer]]:
        path, answers = solve(dual, start, temperature=temperature)
        if start is not None:
            offered, _ = dual.table.invert(path[-1])
            load = dual.base.copy()
            for block, answer in zip(dual.blocks, answers, strict=True):
                load[block.columns] += answer.total[block.site] * answer.inside * block.work
            used = (path[-1] > dual.table.price[:, 0]) | (load > offered)
            apart.append(float(np.abs(load - offered)[used].sum() / load.sum()))
        return path, answers

    monkeypatch.setattr(Dual, "solve", measured)

    for seed in (1, 2, 3):
        fleet = Fleet(clients=20, instances=60, seed=seed)
        assert fleet.decide(1.0, 0.6, 1.05, 0.5).gap <= 0.005

    assert len(apart) >= 9
    assert max(apart) <= 0.1


def test_rows_without_clients_have_instances_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose first Envoy connects finds shares; those stay while nothing changes."""
    monkeypatch.setattr(optimum, "FEW", 0)
    fleet = Fleet(clients=5, instances=40, seed=2)

    first, later = fleet.decide(1.0), fleet.decide(*[1.0] * 8)

    quiet = [key for key in first.assignments if key[1].startswith("site-")]
    assert all(first.assignments[key].allocations for key in quiet)
    kept = sum(weights(first)[key] == weights(later)[key] for key in quiet)
    assert kept >= 0.9 * len(quiet)


def test_terms_are_made_when_asked_for_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every share carries its terms, and every other instance its reason."""
    monkeypatch.setattr(optimum, "FEW", 0)
    fleet = Fleet(clients=4, instances=40, seed=3)
    plan = fleet.decide(1.0)

    for key in (("fast", "client-0"), ("slow", "site-1")):
        assignment = plan.assignments[key]
        named = {a.instance for a in assignment.allocations} | {
            e.instance for e in assignment.excluded
        }
        assert len(named) == 40
        assert all(a.why is not None and a.why.service > 0 for a in assignment.allocations)


def test_no_share_of_the_dual_is_subnormal() -> None:
    """Nor is a product of two: a processor takes a hundred times as long for these."""
    rng = np.random.default_rng(3)
    block = Block(
        demand=np.full(20, 1e-3),
        path=rng.uniform(0.0, 50.0, (20, 40)).astype(np.float32),
        columns=np.arange(40),
        starts=np.arange(40),
        own=np.zeros(40),
        work=np.ones(40),
    )

    _, answer = answer_block(block, np.ones(40), 1e-2)

    least = float(answer.split.min())
    assert block.demand.min() * least**2 > np.finfo(np.float32).tiny
    np.testing.assert_allclose(answer.split.sum(axis=1), 1.0, rtol=1e-6)
