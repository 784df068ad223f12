"""What moved and why: the line that an operator reads when shares change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.controller.moves import MOST, Moves
from controlplane.fleet.path_view import PathView
from controlplane.fleet.traffic_view import Outcomes, OutcomeView
from controlplane.fleet.view import FleetView, Phase
from controlplane.model import Reading, Signal, Source
from controlplane.steering.plan import Plan
from testbed.fakes.fleets import make_plan
from testbed.fakes.views import make_config, make_instance, make_reported, make_view

CONFIG = make_config(
    instances=[make_instance("a", "near"), make_instance("b", "far", address="10.0.0.2:80")]
)


def plan(a: int, b: int, *, demand: float = 4.0, note: str = "") -> Plan:
    """Make a plan in which near sends *a* and *b* parts of chat to the instances."""
    made = make_plan(CONFIG, {("chat", "near"): {"a": a, "b": b}})
    assignments = {
        key: replace(each, demand=demand, note=note) for key, each in made.assignments.items()
    }
    return replace(made, version=f"{a}:{b}:{note}", assignments=assignments)


def view(*, overrides: tuple[Any, ...] = (), **fields: Any) -> FleetView:
    """Make a view in which a reports *gauges* and has *phase*."""
    config = make_config(
        instances=[make_instance("a", "near"), make_instance("b", "far", address="10.0.0.2:80")],
        overrides=overrides,
    )
    rtt = fields.pop("rtt", 0.01)
    fails = fields.pop("fails", 0.0)
    gauges = {Signal.TRAINING: 0.0, Signal.RUNNING: 2.0, **fields.pop("gauges", {})}
    item = make_reported(config, "a", at=0.0, gauges=gauges, **fields)
    recent = Outcomes(answered=100.0 * (1 - fails), server_error=100.0 * fails)
    return replace(
        make_view(config, instances={"a": item}),
        paths={("near", "near"): PathView(Reading(rtt, Source.AGENT, 0.0), None)},
        outcomes={("a", "chat"): OutcomeView(recent, recent, 10.0, 0.0, 0.0)},
    )


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        pytest.param(view(gauges={Signal.TRAINING: 0.6}), "its machine trains", id="training"),
        pytest.param(
            view(phase=Phase.EXPIRED, reason="silent for 30 s"), "it is expired: silent for 30 s",
            id="phase",
        ),
        pytest.param(view(fails=0.2), "20 % of its answers fail", id="failures"),
        pytest.param(
            view(gauges={Signal.RUNNING: 20.0}), "requests in it 2 -> 20", id="queue"
        ),
        pytest.param(view(rtt=0.05), "round trip 10 -> 50 ms", id="path"),
        pytest.param(
            view(overrides=({"instance": "a", "max_share": 0.4},)), "an override: max share",
            id="override",
        ),
        pytest.param(view(), "load elsewhere changed", id="nothing there"),
    ],
)  # fmt: skip
def test_a_move_says_what_changed_where_it_went_from(now: FleetView, reason: str) -> None:
    """In one line: who, from where, how far, why."""
    moves = Moves()
    moves.find(plan(93, 7), view())

    (move,) = moves.find(plan(41, 59), now)

    assert f"chat from near: a 93 -> 41 %, {reason}" == str(move)


def test_the_way_back_has_a_reason_too() -> None:
    """What ended is what changed."""
    moves = Moves()
    moves.find(plan(41, 59), view(gauges={Signal.TRAINING: 0.6}))
    (move,) = moves.find(plan(93, 7), view())
    assert "chat from near: a 41 -> 93 %, its machine trains no longer" == str(move)

    moves.find(plan(0, 100), view(phase=Phase.EXPIRED, reason="silent"))
    (move,) = moves.find(plan(93, 7), view())
    assert move.reason == "it is back in service"


def test_demand_or_a_fallback_explains_what_no_instance_does() -> None:
    """The whole is looked at when nothing at the instances changed."""
    moves = Moves()
    moves.find(plan(93, 7), view())
    (grown,) = moves.find(plan(41, 59, demand=9.0), view())
    (noted,) = moves.find(plan(93, 7, demand=9.0, note="predictions refuted"), view())

    assert "demand 4 -> 9/s" == grown.reason
    assert "predictions refuted" == noted.reason


def test_small_moves_the_first_plan_and_the_same_plan_are_no_news() -> None:
    """Probes and hedges come and go."""
    moves = Moves()
    assert [] == moves.find(plan(93, 7), view())
    assert [] == moves.find(plan(93, 7), view())
    assert [] == moves.find(plan(88, 12), view())


def test_of_many_moves_the_largest_are_reported() -> None:
    """By the requests that they move."""
    sites = [f"s{n}" for n in range(9)]
    config = make_config(
        sites=sites,
        instances=[make_instance("a", "s0"), make_instance("b", "s1", address="10.0.0.2:80")],
    )

    def many(a: int, b: int) -> Plan:
        made = make_plan(config, {("chat", site): {"a": a, "b": b} for site in sites})
        return replace(
            made,
            assignments={
                key: replace(each, demand=float(key[1][1:]))
                for key, each in made.assignments.items()
            },
        )

    moves = Moves()
    moves.find(many(9, 1), make_view(config))
    found = moves.find(many(1, 9), make_view(config))

    assert ["s8", "s7", "s6"] == [move.client_site for move in found]
    assert MOST == len(found)
