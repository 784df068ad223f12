"""The convex problem: optimality, bounds, budgets and laws."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.steering.latency import Curves, PriceTable
from controlplane.steering.optimiser import Bounds, Budgets, Flow, Solution, solve, uniform


def draw(seed: int, *, rows: int = 6, columns: int = 4, load: float = 0.7) -> tuple[Flow, Curves]:
    """Draw a dense problem whose demand is *load* of all capacity."""
    rng = np.random.default_rng(seed)
    curves = Curves(rng.choice([2.0, 4.0, 16.0], columns), rng.choice([0.0, 0.1], columns))
    pace = rng.uniform(0.2, 1.0, columns)
    demand = rng.pareto(1.5, rows) + 0.3
    demand *= load * float((curves.capacity / pace).sum()) / demand.sum()
    column = np.tile(np.arange(columns), rows)
    return Flow(
        demand=demand,
        row=np.repeat(np.arange(rows), columns),
        column=column,
        linear=rng.uniform(0.0, 0.2, rows * columns),
        work=pace[column],
        base=np.zeros(columns),
    ), curves


def solved(flow: Flow, curves: Curves) -> Solution:
    """Solve to a small gap."""
    return solve(flow, PriceTable.stationary(curves), tolerance=1e-5, most_iterations=600)


def test_two_instances_agree_with_brute_force() -> None:
    """One row and two instances: no share on a fine grid is better."""
    flow, curves = draw(3, rows=1, columns=2)
    prices = PriceTable.stationary(curves)
    grid = [np.array([share, 1 - share]) for share in np.linspace(0, 1, 2001)]
    best = min(flow.cost(shares, prices) for shares in grid)

    assert pytest.approx(best, rel=1e-4) == solved(flow, curves).cost


def test_two_rows_agree_with_brute_force() -> None:
    """Two rows that compete for two instances: no pair of shares on a grid is better."""
    flow, curves = draw(5, rows=2, columns=2)
    prices = PriceTable.stationary(curves)
    grid = np.linspace(0, 1, 101)
    best = min(flow.cost(np.array([a, 1 - a, b, 1 - b]), prices) for a, b in product(grid, grid))
    found = solved(flow, curves).cost

    assert found <= best * (1 + 1e-6)
    assert pytest.approx(best, rel=2e-3) == found


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.floats(0.2, 1.3))
def test_marginal_costs_are_equal_where_shares_are(seed: int, load: float) -> None:
    """Karush-Kuhn-Tucker: what is used costs the row's least, but for what hardly matters."""
    flow, curves = draw(seed, load=load)
    solution = solved(flow, curves)
    prices = PriceTable.stationary(curves)
    _, price, _ = prices.evaluate(flow.load(solution.shares))
    marginal = flow.linear + flow.work * price[flow.column]
    least = np.minimum.reduceat(marginal, flow.starts)
    regret = flow.demand[flow.row] * solution.shares * (marginal - least[flow.row])

    assert regret.sum() <= 0.02 * solution.cost
    assert np.allclose(np.add.reduceat(solution.shares, flow.starts), 1.0)
    assert (solution.shares >= 0).all()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.integers(0, 3), st.floats(1.0, 4.0))
def test_more_capacity_never_costs_more(seed: int, which: int, factor: float) -> None:
    """Slots added anywhere do not raise the cost of the optimum."""
    flow, curves = draw(seed)
    slots = curves.slots.copy()
    slots[which] *= factor
    larger = Curves(slots, curves.slowdown)

    assert solved(flow, larger).cost <= solved(flow, curves).cost * (1 + 2e-3)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_the_order_of_instances_does_not_matter(seed: int, order: list[int]) -> None:
    """The same fleet with its instances in another order costs the same."""
    flow, curves = draw(seed)
    place = np.array(order)
    rows = len(flow.demand)
    entry = (np.arange(rows)[:, None] * 4 + place[None, :]).ravel()
    other = replace(flow, linear=flow.linear[entry], work=flow.work[entry])
    permuted = Curves(curves.slots[place], curves.slowdown[place])

    assert pytest.approx(solved(flow, curves).cost, rel=1e-3) == solved(other, permuted).cost


def test_a_solution_is_a_good_start() -> None:
    """From the last solution, slightly other demand needs few steps."""
    flow, curves = draw(7, rows=30, columns=13)
    prices = PriceTable.stationary(curves)
    cold = solve(flow, prices, tolerance=1e-4, most_iterations=500)
    changed = replace(flow, demand=flow.demand * 1.03)

    warm = solve(changed, prices, start=cold.shares, tolerance=1e-3)

    assert warm.iterations <= 15
    assert warm.cost <= solved(changed, curves).cost * 1.002


def test_bounds_hold() -> None:
    """Groups of entries keep between their least and largest share."""
    flow, curves = draw(11)
    bounds = Bounds(
        entry=np.array([0, 1, 4]), group=np.array([0, 0, 1]),
        low=np.array([0.0, 0.5]), high=np.array([0.2, 1.0]),
    )  # fmt: skip
    solution = solved(replace(flow, bounds=bounds), curves)

    assert solution.shares[0] + solution.shares[1] <= 0.2 + 1e-6
    assert solution.shares[4] >= 0.5 - 1e-6
    assert np.allclose(np.add.reduceat(solution.shares, flow.starts), 1.0)


def test_a_power_budget_holds_at_a_price() -> None:
    """Work is moved away until the site's draw fits, and a watt gets a price."""
    flow, curves = draw(13, load=0.5)
    free = solved(flow, curves)
    watts = np.zeros((1, 4))
    busiest = int(flow.load(free.shares).argmax())
    watts[0, busiest] = 100.0
    limit = 60.0 * flow.load(free.shares)[busiest]
    budgets = Budgets(watts, np.array([limit]))

    bound = solve(
        replace(flow, budgets=budgets), PriceTable.stationary(curves), most_iterations=2000
    )

    assert watts @ flow.load(bound.shares) <= limit * 1.01
    assert bound.cost > free.cost
    assert bound.multipliers[0] > 0


def test_uniform_shares_add_up() -> None:
    """The start that knows nothing treats all alike."""
    flow, _ = draw(1)

    assert np.allclose(0.25, uniform(flow))
