"""Shares that Envoys have are carried to the next problem, by array or by name."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.steering import Steering
from controlplane.steering.current_shares import CurrentShares
from testbed.fakes.views import make_config, make_instance, make_view

NAMES = ("a", "b", "c")
RTT = {("near", "far"): 0.001, ("far", "near"): 0.001}


def decided(*names: str) -> Steering:
    """Decide once for a fleet of these instances."""
    config = make_config(
        instances=[make_instance(n, "near" if n == "a" else "far", slots=4) for n in names]
    )
    steering = Steering(config)
    steering.decide(make_view(config, demand={("near", "chat"): 6.0}, rtt=RTT))
    return steering


def test_what_is_carried_as_an_array_is_what_the_plan_says() -> None:
    """A plan of an earlier run gives the same shares by the names in it."""
    steering = decided(*NAMES)
    assert steering._decision is not None
    assert steering._plan is not None
    problem = steering._decision.problem
    by_name = CurrentShares()
    by_name.restore(steering._plan)

    assert by_name.shares(problem) == pytest.approx(steering._current.shares(problem))
    assert len(problem.rows) == pytest.approx(by_name.shares(problem).sum())


def test_an_instance_that_is_new_has_nothing_and_one_that_left_takes_its_share_along() -> None:
    """Rows of other instances keep what they have, so that steering sees what is missing."""
    before, after = decided("a", "b"), decided("b", "c")
    assert before._plan is not None
    assert after._decision is not None
    problem = after._decision.problem
    current = CurrentShares()
    current.restore(before._plan)

    found = current.shares(problem)

    name = [problem.layout.instances[column].name for column in problem.flow.column]
    assert not found[np.array(name) == "c"].any()
    assert (found[np.array(name) == "b"] > 0).all()
    assert (np.add.reduceat(found, problem.flow.starts) < 1).all()


def test_before_the_first_plan_there_is_nothing() -> None:
    """Neither shares nor probes."""
    decision = decided(*NAMES)._decision
    assert decision is not None

    assert not CurrentShares().shares(decision.problem).any()
    assert not CurrentShares().probes(decision.problem).any()
