"""A trickle for instances of which old evidence speaks badly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.sim.run import simulate
from controlplane.sim.scenario import Scenario
from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.optimiser import Flow
from controlplane.steering.probing import FAILING_TRICKLE, TRICKLE, probe
from controlplane.steering.weights import LEAST_SHARE

CURVES = Curves(np.array([4.0, 4.0]), np.zeros(2))


def flow(demand: float, *, slow: float = 8.0, away: float = 0.0) -> Flow:
    """Build one row that may use a good instance, and one that was seen to be *slow*."""
    return Flow(
        demand=np.array([demand]),
        row=np.array([0, 0]),
        column=np.array([0, 1]),
        linear=np.array([0.1, away]),
        work=np.array([0.5, slow]),
        base=np.zeros(2),
    )


def probes(
    problem: Flow,
    *,
    hope: float = 0.1,
    former: float = 0.0,
    most: float = 0.01,
    allowed: bool = True,
    held: bool = False,
) -> Array:
    """Return the parts while everything goes to the good instance."""
    return probe(
        problem,
        PriceTable.stationary(CURVES),
        estimates=[Estimate(4.0, 0.0, 0.5), Estimate(4.0, 0.0, 8.0, hope=hope)],
        shares=np.array([1.0, 0.0]),
        former=np.array([0.0, former]),
        allowed=np.array([True, allowed]),
        most=most,
        held=held,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(probes(flow(4.0)), 0.01, id="a part of few requests"),
        pytest.param(probes(flow(400.0)), TRICKLE / 400, id="a trickle of many"),
        pytest.param(probes(flow(4.0), hope=1.0), 0.0, id="nothing better to hope for"),
        pytest.param(probes(flow(4.0, away=9.0)), 0.0, id="too far to be worth it"),
        pytest.param(probes(flow(4.0), most=0.0), 0.0, id="switched off"),
        pytest.param(probes(flow(4.0), allowed=False), 0.0, id="bounded by an operator"),
        pytest.param(probes(flow(4.0), former=0.004), 0.004, id="what goes on stays as it is"),
        pytest.param(
            probes(flow(4.0, away=9.0), former=0.004, held=True), 0.004, id="no push to end it"
        ),
        pytest.param(probes(flow(4.0, away=0.5), held=True), 0.0, id="no push for a small hope"),
        pytest.param(probes(flow(4.0), hope=0.01, held=True), 0.01, id="a push for a clear one"),
    ],
)
def test_what_could_be_worth_it_gets_a_trickle(given: Array, expected: float) -> None:
    """Only the doubtful instance gets any, and no more than is allowed."""
    assert [0.0, pytest.approx(expected)] == given.tolist()


@given(
    demand=st.lists(st.floats(0.01, 1e4), min_size=1, max_size=5),
    hopes=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6),
    most=st.floats(0.0, 0.2),
    held=st.booleans(),
)
def test_no_row_gives_more_than_its_part(
    demand: list[float], hopes: list[float], most: float, *, held: bool
) -> None:
    """However many instances are in doubt."""
    rows, count = len(demand), len(hopes)
    problem = Flow(
        demand=np.array(demand),
        row=np.repeat(np.arange(rows), count),
        column=np.tile(np.arange(count), rows),
        linear=np.zeros(rows * count),
        work=np.tile(1.0 / np.array(hopes), rows),
        base=np.zeros(count),
    )
    shares = np.tile(np.eye(1, count)[0], rows)
    parts = probe(
        problem,
        PriceTable.stationary(Curves(np.full(count, 4.0), np.zeros(count))),
        estimates=[Estimate(4.0, 0.0, 1.0 / hope, hope=hope) for hope in hopes],
        shares=shares,
        former=np.zeros(rows * count),
        allowed=np.ones(rows * count, dtype=bool),
        most=most,
        held=held,
    )

    assert np.all(parts >= 0)
    assert not parts[shares > 0].any()
    assert np.all(np.bincount(problem.row, parts, rows) <= most + 1e-12)
    rates = np.bincount(problem.column, parts * problem.demand[problem.row])
    assert np.all(rates <= TRICKLE + LEAST_SHARE * max(demand) + 1e-9)


def crippled(probe_share: float) -> float:
    """Let three edges crawl for 40 s; return the share of the first two minutes later."""
    scenario = Scenario.model_validate(
        {
            "name": "crippled",
            "fleet": {"kind": "queue", "utilisation": 0.65},
            "duration": "180s",
            "steering": {"probe_share": probe_share},
            "events": [
                {
                    "what": "slowdown",
                    "at": "0s",
                    "until": "40s",
                    "amount": 0.05,
                    "instances": ["edge-00-a", "edge-01-a", "edge-02-a"],
                }
            ],
        }
    )
    outcome = simulate(scenario, "controlplane", seed=1)
    return float(np.mean(outcome.shares["edge-00"][170:]))


def test_an_instance_that_was_slow_once_is_used_again_when_it_has_recovered() -> None:
    """Without probes no one would ever learn that it has."""
    assert 0.05 < crippled(0.01)
    assert 0.0 == crippled(0.0)


def test_an_equal_instance_that_fails_is_asked_whether_it_still_does() -> None:
    """Its use gains nothing, and it must not be left out for ever for that."""

    def asked(slow: float) -> float:
        found = probe(
            flow(2.0, slow=slow, away=0.1 + 5.0),
            PriceTable.stationary(CURVES),
            estimates=[Estimate(4.0, 0.0, 0.5), Estimate(4.0, 0.0, 0.5)],
            failure=np.array([0.0, 5.0]),
            shares=np.array([1.0, 0.0]),
            former=np.zeros(2),
            allowed=np.array([True, True]),
            most=0.05,
            held=False,
        )
        return float(found[1])

    assert asked(0.51) == pytest.approx(FAILING_TRICKLE / 2)
    assert asked(8.0) == 0
