"""What a session loses by moving, and which moves are made all the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.fleet.view import FleetView
from controlplane.model import Signal
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.layout import build_layout
from controlplane.steering.optimiser import Flow
from controlplane.steering.prefixes import PrefixLearner
from controlplane.steering.sessions import LONGEST, SHORTEST, keep_sessions, toll_moves
from controlplane.steering.steering import Steering
from testbed.fakes.views import (
    make_config,
    make_instance,
    make_reported,
    make_service,
    make_view,
)

CONFIG = make_config(instances=[make_instance("a", "near"), make_instance("b", "far")])
LAYOUT = build_layout(CONFIG, CONFIG.instances)


def counted(at: float, **of: dict[Signal, float]) -> FleetView:
    """Return the view of instances whose counters grow by this much a second."""
    return make_view(
        CONFIG,
        at=at,
        instances={
            name: make_reported(CONFIG, name, at=at, gauges={}, rates=rates, interval=1.0)
            for name, rates in of.items()
        },
    )


def prompts(found: float, reading: float, wait: float = 0.0) -> dict[Signal, float]:
    """Return the counters of ten prompts a second of 1,000 tokens.

    *found* is the part of their tokens in the cache, *reading* and *wait* are seconds of each.
    """
    return {
        Signal.PREFIX_QUERIES: 10_000.0,
        Signal.PREFIX_HITS: 10_000.0 * found,
        Signal.TTFT_SUM: 10 * (reading + wait),
        Signal.TTFT_COUNT: 10.0,
        Signal.QUEUE_SUM: 10 * wait,
    }


@pytest.mark.parametrize(
    ("found", "reading", "wait", "loss"),
    [
        # 0.2 s for half of the tokens: the whole takes 0.4 s, half of which is saved.
        pytest.param(0.5, 0.2, 0.0, 0.2, id="half is found"),
        pytest.param(0.0, 0.4, 0.0, 0.0, id="nothing is found"),
        pytest.param(0.5, 0.2, 3.0, 0.2, id="waits are not reading"),
        pytest.param(0.8, 0.1, 0.0, 0.4, id="most is found"),
    ],
)
def test_the_loss_is_learned_from_the_engines_counters(
    found: float, reading: float, wait: float, loss: float
) -> None:
    """The time of what was read says what that of the rest would have been."""
    learner = PrefixLearner()
    for at in range(1, 6):
        learned = learner.observe(counted(at, a=prompts(found, reading, wait)), LAYOUT)
    assert [pytest.approx(loss, abs=0.01), 0.0] == learned.tolist()


def test_an_instance_without_sessions_yet_loses_what_its_model_finds_elsewhere() -> None:
    """Where sessions were scattered little is found, and much would be if they stayed."""
    learner = PrefixLearner()
    for at in range(1, 6):
        learned = learner.observe(counted(at, a=prompts(0.6, 0.4), b=prompts(0.1, 0.9)), LAYOUT)
    assert [pytest.approx(0.6, abs=0.01)] * 2 == learned.tolist()


def test_without_counters_nothing_is_known_to_be_lost() -> None:
    """Engines that say nothing of a cache are treated as if they had none."""
    learned = PrefixLearner().observe(counted(1.0, a={Signal.COMPLETED: 10.0}), LAYOUT)
    assert [0.0, 0.0] == learned.tolist()


def flow_of(linear: list[float], demand: float = 4.0) -> Flow:
    """Return one row over two instances of four slots."""
    return Flow(
        demand=np.array([demand]),
        row=np.zeros(2, dtype=np.intp),
        column=np.arange(2),
        linear=np.array(linear),
        work=np.ones(2),
        base=np.zeros(2),
    )


PRICES = PriceTable.stationary(Curves(np.array([4.0, 4.0]), np.zeros(2)))
HERE, THERE = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def toll(pause: float, rested: float, loss: float = 0.5) -> Array:
    """Return the toll of both entries."""
    return toll_moves(
        flow_of([0.0, 0.0]),
        losses=np.full(2, loss),
        price=np.ones(2),
        weight=np.ones(2),
        pause=np.full(2, pause),
        rested=rested,
    )


def test_a_pause_of_zero_weighs_nothing() -> None:
    """Then shares are those that are best if moves lose nothing."""
    free = toll(0.0, 10.0)
    shares, charged = keep_sessions(
        flow_of([0.0, -0.1], 1.0), PRICES, used=HERE, new=THERE, toll=free
    )
    assert (THERE.tolist(), 0.0) == (shares.tolist(), charged)


def test_a_gain_that_lasts_pays_in_the_end() -> None:
    """0.1 s for each request: below the toll at first, above it once shares have long stayed."""
    flow = flow_of([0.1, 0.0], 1.0)
    made = [
        keep_sessions(flow, PRICES, used=HERE, new=THERE, toll=toll(20.0, rested))[0][1]
        for rested in (0.0, SHORTEST, 250.0, LONGEST)
    ]
    assert [0.0, 0.0] == made[:2]
    assert 0.5 < made[2] <= made[3] <= 1.0


def test_an_overload_is_left_at_once() -> None:
    """Beyond capacity, queues cost more than any prefix."""
    shares, charged = keep_sessions(
        flow_of([0.0, 0.0], 6.0),
        PRICES,
        used=HERE,
        new=np.array([0.5, 0.5]),
        toll=toll(20.0, 0.0),
    )
    assert 0.2 < shares[1] <= 0.5
    assert charged > 0


def test_of_a_lost_instance_only_its_own_requests_move() -> None:
    """The rest stays where it is warm, however the optimum would arrange it."""
    flow = Flow(
        demand=np.array([1.0]),
        row=np.zeros(3, dtype=np.intp),
        column=np.arange(3),
        linear=np.zeros(3),
        work=np.ones(3),
        base=np.zeros(3),
    )
    prices = PriceTable.stationary(Curves(np.full(3, 4.0), np.zeros(3)))
    shares, _ = keep_sessions(
        flow,
        prices,
        used=np.array([0.5, 0.2, 0.0]),
        new=np.array([0.2, 0.3, 0.5]),
        toll=np.ones(3),
    )
    assert 0.5 == pytest.approx(shares[0])
    assert 1.0 == pytest.approx(shares.sum())
    assert (shares[1:] >= np.array([0.2, 0.0])).all()


@given(
    used=st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4),
    new=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).filter(lambda each: sum(each) > 0.1),
    linear=st.lists(st.floats(0.0, 2.0), min_size=4, max_size=4),
    charge=st.floats(0.0, 5.0),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_what_is_kept_costs_no_more_than_staying(
    used: list[float], new: list[float], linear: list[float], charge: float
) -> None:
    """Moves, their toll included, never cost more than they gain; shares still add up to one."""
    flow = Flow(
        demand=np.array([3.0]),
        row=np.zeros(4, dtype=np.intp),
        column=np.arange(4),
        linear=np.array(linear),
        work=np.ones(4),
        base=np.zeros(4),
    )
    prices = PriceTable.stationary(Curves(np.full(4, 4.0), np.zeros(4)))
    before, best = np.array(used) / sum(used), np.array(new) / sum(new)
    shares, charged = keep_sessions(
        flow, prices, used=before, new=best, toll=np.full(4, charge + 1e-9)
    )
    assert 1.0 == pytest.approx(float(shares.sum()))
    assert (shares >= -1e-12).all()
    assert flow.cost(shares, prices) + charged <= flow.cost(before, prices) + 1e-9


def test_an_explanation_says_what_a_session_would_lose() -> None:
    """The loss, and the gain for which sessions would have moved, beside the other terms."""
    config = make_config(
        instances=[make_instance("a", "near"), make_instance("b", "far")],
        services=[make_service("chat", affinity={"header": "x-session-id"})],
    )
    steering = Steering(config)
    for at in range(1, 8):
        rates = {**prompts(0.5, 0.2), Signal.COMPLETED: 10.0}
        gauges = {Signal.RUNNING: 4.0, Signal.WAITING: 0.0}
        shown = {
            name: make_reported(config, name, at=at, gauges=gauges, rates=rates, interval=1.0)
            for name in ("a", "b")
        }
        demand = {("near", "chat"): 10.0, ("far", "chat"): 10.0}
        plan = steering.decide(make_view(config, at=at, demand=demand, instances=shown))
    for allocation in plan.assignments["chat", "near"].allocations:
        why = allocation.why
        assert why is not None
        assert 0.2 == pytest.approx(why.prefix_loss, abs=0.01)
        assert 0.0 < why.least_gain < why.prefix_loss
        assert any("cached prompt" in words for words in why.limits)


@pytest.mark.parametrize(("pause", "least"), [("0s", 0.0), ("20s", 0.001)])
def test_the_configured_pause_is_what_a_move_has_to_gain_by(pause: str, least: float) -> None:
    """As an explanation shows it: without one, moves are free whatever caches hold."""
    config = make_config(
        services=[make_service("chat", affinity={"header": "x-session", "pause": pause})],
        instances=[make_instance("a", "near"), make_instance("b", "far")],
    )
    rates = {
        Signal.PREFIX_QUERIES: 20_000.0,
        Signal.PREFIX_HITS: 15_000.0,
        Signal.TTFT_SUM: 4.0,
        Signal.TTFT_COUNT: 10.0,
    }
    gauges = {Signal.RUNNING: 1.0}
    steering = Steering(config)
    for at in map(float, range(1, 6)):
        instances = {
            name: make_reported(config, name, at=at, gauges=gauges, rates=rates, interval=1.0)
            for name in "ab"
        }
        view = make_view(config, at=at, demand={("near", "chat"): 2.0}, instances=instances)
        plan = steering.decide(view)
    whys = [each.why for each in plan.assignments["chat", "near"].allocations]

    gains = [why.least_gain for why in whys if why is not None]
    assert max(gains) > least if least else max(gains) == 0.0
