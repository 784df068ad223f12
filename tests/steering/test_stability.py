"""When new shares are pushed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controlplane.steering import Plan, Steering
from controlplane.steering.latency import Array, Curves, PriceTable
from controlplane.steering.optimiser import Flow
from controlplane.steering.stability import (
    SETTLED,
    Hysteresis,
    settle,
    unavoidable,
)
from testbed.fakes.views import make_config, make_instance, make_service, make_view

FLOW = Flow(
    demand=np.array([4.0]),
    row=np.zeros(2, dtype=np.intp),
    column=np.arange(2),
    linear=np.zeros(2),
    work=np.ones(2),
    base=np.zeros(2),
)
PRICES = PriceTable.stationary(Curves(np.array([4.0, 4.0]), np.zeros(2)))
EVEN, UNEVEN = np.array([0.5, 0.5]), np.array([0.8, 0.2])


def choose(hysteresis: Hysteresis, used: Array, new: Array) -> bool:
    """Return whether the shares in use stay."""
    return hysteresis.choose(FLOW, PRICES, used=used, new=new, min_gain=0.01, now=0.0).held


def test_a_small_gain_is_not_pushed() -> None:
    """Shares that are as good as the best stay."""
    assert choose(Hysteresis(), np.array([0.51, 0.49]), EVEN)


def test_a_new_leader_knows_how_long_the_shares_it_heard_of_have_been_in_use() -> None:
    """What it would have pushed while it followed, nothing received."""
    leader, follower = Hysteresis(), Hysteresis()
    used = np.zeros(2)
    for second in range(10):
        used = leader.choose(
            FLOW, PRICES, used=used, new=EVEN, min_gain=0.01, now=float(second)
        ).shares
        follower.choose(FLOW, PRICES, used=UNEVEN, new=EVEN, min_gain=0.01, now=float(second))
        follower.follow("the leader's", now=float(second))

    assert leader.rested(10.0) == follower.rested(10.0) == 10.0
    assert leader.lifetime(10.0, 1.0, load=0.5) == follower.lifetime(10.0, 1.0, load=0.5) == 3.0


@pytest.mark.parametrize("came", ["as a successor", "from a saved plan"])
def test_ties_are_not_broken_before_shares_have_settled_under_who_decides(came: str) -> None:
    """What a process has learned is not quite what the one before it had: neither is better."""
    tied = replace(FLOW, demand=np.array([0.2]))
    prices = PriceTable.stationary(Curves(np.array([40.0, 40.0]), np.zeros(2)))
    hysteresis = Hysteresis()
    begins = 100.0 if came == "as a successor" else 0.0
    hysteresis.resume()
    for second in range(int(begins)):
        hysteresis.follow("the leader's", now=float(second))
    moved = [
        second
        for second in range(40)
        if not hysteresis.choose(
            tied, prices, used=UNEVEN, new=EVEN, min_gain=0.02, now=begins + second
        ).held
    ]

    assert moved
    assert 15 <= moved[0]


def test_shares_that_were_restored_are_not_taken_for_the_news_of_a_period() -> None:
    """They have been in use for long, as far as one can say."""
    restarted = Hysteresis()
    restarted.resume()

    assert (1.0, 3.0) == (
        Hysteresis().lifetime(0.0, 1.0, load=0.5),
        restarted.lifetime(0.0, 1.0, load=0.5),
    )


def test_a_large_gain_is_pushed() -> None:
    """Shares that cost much more are replaced."""
    assert not choose(Hysteresis(), UNEVEN, EVEN)


@pytest.mark.parametrize(
    ("instances", "rested", "held"),
    [(2, 5.0, True), (2, 20.0, False), (2, 31.0, False), (9, 20.0, True), (9, 31.0, False)],
)
def test_a_good_part_of_the_requests_moves_for_less_the_longer_shares_stay(
    instances: int, rested: float, held: bool
) -> None:
    """Of two instances each is half of what there is; of many none is missed before it settles."""
    flow = Flow(
        demand=np.array([4.0]),
        row=np.zeros(2, dtype=np.intp),
        column=np.arange(2),
        linear=np.zeros(2),
        work=np.ones(2),
        base=np.zeros(instances),
    )
    prices = PriceTable.stationary(Curves(np.full(instances, 8.0), np.zeros(instances)))
    hysteresis = Hysteresis()
    hysteresis.choose(
        flow, prices, used=np.zeros(2), new=np.array([0.9, 0.1]), min_gain=0.04, now=0.0
    )
    gain = 1.0 - flow.cost(EVEN, prices) / flow.cost(np.array([0.9, 0.1]), prices)
    choice = hysteresis.choose(
        flow, prices, used=np.array([0.9, 0.1]), new=EVEN, min_gain=2.0 * gain, now=rested
    )
    assert 0 < gain
    assert held == choice.held


def evened_out(*, min_gain: float | None = None, **chat: Any) -> Plan:
    """Return the plan that follows one in which one of two equal instances had 99 % of *chat*."""
    config = make_config(
        sites=["near"],
        services=[make_service("chat", **chat)],
        instances=[
            make_instance(name, "near", slots=4, service_time="100ms") for name in ("a", "b")
        ],
        steering={} if min_gain is None else {"min_gain": min_gain},
    )
    demand = {("near", "chat"): 25.0}
    plan = Steering(config).decide(make_view(config, demand=demand))
    assignment = plan.assignments["chat", "near"]
    uneven = tuple(
        replace(each, share=share, weight=round(100 * share))
        for each, share in zip(assignment.allocations, (0.99, 0.01), strict=True)
    )
    restarted = Steering(config)
    restarted.restore(
        replace(plan, assignments={("chat", "near"): replace(assignment, allocations=uneven)})
    )
    return restarted.decide(make_view(config, at=1.0, demand=demand))


@pytest.mark.parametrize(
    "charged",
    [
        pytest.param({"slo": {"latency": "60ms"}}, id="a promise that nothing keeps"),
        pytest.param({"models": [{"name": "m", "penalty": "10s"}]}, id="a model's penalty"),
    ],
)
def test_what_every_instance_charges_does_not_hide_a_gain(charged: dict[str, Any]) -> None:
    """Ten seconds a request beside a tenth of work: two equal instances get even shares."""
    plain, plan = evened_out(), evened_out(**charged)

    assert plan.predicted_cost > 20.0 * plain.predicted_cost
    assert plan.gain == pytest.approx(plain.gain, rel=0.05)
    assert not plan.held
    assert [0.5, 0.5] == pytest.approx(
        [each.share for each in plan.assignments["chat", "near"].allocations], abs=0.02
    )


@pytest.mark.parametrize(("part", "held"), [(0.9, False), (1.1, True)])
def test_shares_are_replaced_for_the_gain_that_is_configured(part: float, *, held: bool) -> None:
    """The gain itself lies between the two."""
    gain = evened_out().gain
    plan = evened_out(min_gain=part * gain)

    assert 0.05 < gain < 0.9
    assert plan.held == held


@pytest.mark.parametrize(
    ("charges", "common"),
    [
        pytest.param([3.0, 3.0, 1.0], 4.0 * 3.0 + 2.0, id="alike"),
        pytest.param([3.0, 0.5, 1.0], 4.0 * 0.5 + 2.0, id="one charges less"),
        pytest.param([3.0, 0.0, 0.0], 0.0, id="one charges nothing"),
        pytest.param([3.0, -0.1, 1.0], 2.0, id="one repays"),
    ],
)
def test_each_row_pays_the_least_of_its_charges(charges: list[float], common: float) -> None:
    """What another instance charges more is a matter of shares."""
    flow = replace(
        FLOW,
        demand=np.array([4.0, 2.0]),
        row=np.array([0, 0, 1], dtype=np.intp),
        column=np.array([0, 1, 0], dtype=np.intp),
        linear=np.array(charges),
        work=np.ones(3),
    )

    assert common == pytest.approx(unavoidable(flow, np.array(charges)))


def test_what_may_no_longer_be_used_is_replaced_whatever_the_gain() -> None:
    """Shares that do not add up lost an instance; the new ones are used."""
    assert not choose(Hysteresis(), np.array([0.5, 0.0]), EVEN)


def swing(hysteresis: Hysteresis, turns: int, *, now: float) -> list[Array]:
    """Push shares to and fro, each time for a great gain; return those that were used."""
    made = [UNEVEN]
    for turn in range(turns):
        away = np.array([0.1, 0.9]) if turn % 2 else UNEVEN
        prices = PriceTable.stationary(
            Curves(np.array([8.0, 2.0]) if turn % 2 == 0 else np.array([2.0, 8.0]), np.zeros(2))
        )
        choice = hysteresis.choose(FLOW, prices, used=made[-1], new=away, min_gain=0.01, now=now)
        made.append(choice.shares)
    return made


def test_pushes_that_undo_each_other_are_damped() -> None:
    """After some pushes to and fro only half of a move is made."""
    hysteresis = Hysteresis()
    made = swing(hysteresis, 12, now=0.0)

    assert hysteresis.oscillating
    assert np.abs(made[-1] - made[-2]).max() < 0.5


def test_a_move_after_a_rest_goes_the_whole_way() -> None:
    """Whatever swung before: one that recovered gets its share, and not half of it."""
    hysteresis = Hysteresis()
    last = swing(hysteresis, 12, now=0.0)[-1]
    prices = PriceTable.stationary(Curves(np.array([2.0, 8.0]), np.zeros(2)))
    away = np.array([0.1, 0.9])

    def push(now: float) -> Array:
        return hysteresis.choose(FLOW, prices, used=last, new=away, min_gain=0.01, now=now).shares

    assert hysteresis.oscillating
    assert np.abs(push(SETTLED - 1.0) - away).max() > 0.1
    assert away == pytest.approx(push(2 * SETTLED))
    assert not hysteresis.oscillating


@pytest.mark.parametrize(("min_gain", "held"), [(0.04, False), (1.0, True)])
def test_a_rest_brings_ties_even_unless_operators_asked_for_more(
    min_gain: float, *, held: bool
) -> None:
    """Equal instances get equal shares in the end; a raised `min_gain` is for fewer moves."""
    hysteresis = Hysteresis()
    hysteresis.choose(FLOW, PRICES, used=np.zeros(2), new=UNEVEN, min_gain=min_gain, now=0.0)

    choice = hysteresis.choose(
        FLOW, PRICES, used=UNEVEN, new=EVEN, min_gain=min_gain, now=10 * SETTLED
    )

    assert held == choice.held


def test_a_rule_moves_rows_that_change_and_leaves_the_others() -> None:
    """What is learned of capacities wobbles; a push for that would serve no one."""
    rows = Flow(
        demand=np.ones(3),
        row=np.array([0, 0, 1, 1, 2, 2]),
        column=np.array([0, 1, 0, 1, 0, 1]),
        linear=np.zeros(6),
        work=np.ones(6),
        base=np.zeros(2),
    )

    settled = settle(
        rows,
        used=np.array([0.5, 0.5, 0.5, 0.5, 0.0, 0.0]),
        new=np.array([0.52, 0.48, 0.6, 0.4, 0.52, 0.48]),
    )

    assert [0.5, 0.5, 0.6, 0.4, 0.52, 0.48] == settled.tolist()


def pushed(hysteresis: Hysteresis, *instants: float) -> None:
    """Push a slightly better split at each of *instants*."""
    for at in instants:
        hysteresis.choose(
            FLOW, PRICES, used=np.array([0.55, 0.45]), new=EVEN, min_gain=-np.inf, now=at
        )


@pytest.mark.parametrize(
    ("instants", "now", "load", "seconds"),
    [
        pytest.param((), 9.0, 0.5, 1.0, id="before-the-first-push"),
        pytest.param((1.0, 2.0, 3.0, 4.0), 5.0, 0.5, 1.0, id="pushed-every-period"),
        pytest.param((1.0,), 20.0, 0.5, 3.0, id="calm"),
        pytest.param((1.0,), 20.0, 0.95, 1.0, id="near-capacity-queues-last"),
    ],
)
def test_shares_are_decided_for_as_long_as_they_are_likely_to_stay(
    instants: tuple[float, ...], now: float, load: float, seconds: float
) -> None:
    """A calm fleet looks further ahead, so that passing queues ask for no push."""
    hysteresis = Hysteresis()
    pushed(hysteresis, *instants)

    assert hysteresis.lifetime(now, 1.0, load=load) == pytest.approx(seconds)


def test_ties_are_broken_evenly_in_the_end() -> None:
    """Shares that cost the same replace uneven ones once these have stayed for a while."""
    hysteresis = Hysteresis()
    flat = PriceTable.stationary(Curves(np.array([64.0, 64.0]), np.zeros(2)))
    uneven = np.array([0.9, 0.1])
    hysteresis.choose(FLOW, flat, used=np.zeros(2), new=uneven, min_gain=0.04, now=0.0)

    soon = hysteresis.choose(FLOW, flat, used=uneven, new=EVEN, min_gain=0.04, now=5.0)
    later = hysteresis.choose(FLOW, flat, used=uneven, new=EVEN, min_gain=0.04, now=40.0)

    assert soon.held
    assert not later.held
