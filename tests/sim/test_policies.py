"""Baselines order as theory and measurement have it, on the same arrivals."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.sim.locality_policies import level_shares
from controlplane.sim.policies import BASELINES
from controlplane.sim.policy import integer_weights
from controlplane.sim.run import simulate
from controlplane.sim.scenario import Scenario

EDGES = Scenario.model_validate(
    {
        "fleet": {"utilisation": 0.8},
        "duration": "50s",
        "windows": [{"name": "steady", "from": "20s", "to": "50s"}],
    }
)
EQUAL = Scenario.model_validate(
    {
        "fleet": {"kind": "equal", "utilisation": 0.9},
        "duration": "600s",
        "windows": [{"name": "steady", "from": "40s", "to": "600s"}],
    }
)


def mean(scenario: Scenario, policy: str) -> float:
    """Return the mean latency over the steady window."""
    return simulate(scenario, policy, seed=1).windows["steady"].mean


def test_on_unequal_edges_who_knows_more_does_better() -> None:
    """Nearest collapses, round robin too; capacity holds; the optimum beats it."""
    ladder = [mean(EDGES, name) for name in ("nearest", "round_robin", "least_request")]
    capacity, optimum, oracle = (mean(EDGES, name) for name in ("capacity", "optimum", "oracle"))

    assert sorted(ladder, reverse=True) == ladder
    assert all(value > 5 * capacity for value in ladder)
    assert optimum < capacity
    assert optimum < 1.05 * oracle


def test_on_equal_servers_levelled_weights_beat_fixed_ones() -> None:
    """Random choice makes sixteen M/M/1 queues, whose mean is 10 service times at 0.9."""
    random, fixed, filled, oracle = (
        mean(EQUAL, name) for name in ("random", "round_robin", "water_fill", "oracle")
    )

    assert 10.0 == pytest.approx(random, rel=0.2)
    assert oracle < filled < fixed < random
    assert filled < random / 3


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_serves_every_request_at_low_load(name: str) -> None:
    """Nothing fails; all is answered."""
    scenario = EDGES.model_copy(
        update={"fleet": EDGES.fleet.model_copy(update={"utilisation": 0.1}), "duration": 15.0}
    )
    figures = simulate(scenario, name, seed=2).windows
    assert all(value.failed == 0 for value in figures.values())


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.floats(0.1, 10)),
        min_size=1,
        max_size=12,
    ),
    st.floats(0.01, 100),
)
def test_water_stands_level_where_it_is_poured(
    vessels: list[tuple[float, float]], coming: float
) -> None:
    """All is poured, and who gets any stands no higher than who gets none."""
    inside, rates = zip(*vessels, strict=True)
    parts = level_shares(inside, rates, coming)
    levels = [(held + part) / rate for held, part, rate in zip(inside, parts, rates, strict=True)]
    poured = [level for level, part in zip(levels, parts, strict=True) if part > 1e-9]

    assert coming == pytest.approx(sum(parts))
    assert all(a == pytest.approx(b, rel=1e-6) for a, b in itertools.pairwise(poured))
    assert all(level >= poured[0] - 1e-6 * (1 + poured[0]) for level in levels)


def test_a_share_that_rounds_to_nothing_is_left_out() -> None:
    """Envoy refuses a weight of 0."""
    assert ((0, 2500, 0), (2, 7500, 0)) == integer_weights([1.0, 1e-9, 3.0])
    assert () == integer_weights([0.0, 0.0])
