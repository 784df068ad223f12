"""What is refused when there is more to do than can be done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.model import Signal
from controlplane.steering import Plan, Steering
from controlplane.steering.record import decode_plan, encode_plan
from controlplane.steering.shedding import FULL, PATIENCE, RELEASE, WAITING, Shedding
from testbed.views import make_config, make_instance, make_reported, make_service, make_view

SLOTS = np.array([8.0, 24.0])


def observe(
    shedding: Shedding, *, demand: float, completed: float, waiting: float, cycles: int = 1
) -> float:
    """Show a sensitive and a tolerant service of equal demand; give the part that is refused."""
    for _ in range(cycles):
        shedding.observe(
            np.array([0.5, 0.5]) * demand,
            np.array([False, True]),
            completed=completed,
            number=SLOTS + np.array([0.0, waiting]),
            slots=SLOTS,
        )
    return shedding.part


def test_a_burst_refuses_nothing_and_a_lasting_queue_does() -> None:
    """Only after some cycles of full queues is anything refused."""
    shedding = Shedding()
    full = FULL * SLOTS.sum() + 1

    assert 0.0 == observe(shedding, demand=80, completed=64, waiting=full, cycles=PATIENCE - 1)
    assert 0.0 == observe(shedding, demand=80, completed=64, waiting=0)
    assert 0.0 == observe(shedding, demand=80, completed=64, waiting=full, cycles=PATIENCE - 1)
    assert 0.0 < observe(shedding, demand=80, completed=64, waiting=full)


def test_what_is_let_in_is_what_is_completed() -> None:
    """With as many waiting as may, sensitive and admitted tolerant requests are the throughput."""
    shedding = Shedding()
    observe(shedding, demand=100, completed=64, waiting=2 * SLOTS.sum(), cycles=PATIENCE)

    part = observe(shedding, demand=100, completed=64, waiting=WAITING * SLOTS.sum())

    assert pytest.approx(64, abs=2) == 50 + 50 * (1 - part)
    assert {1: part} == shedding.drops


def test_nothing_is_refused_long_after_the_overload() -> None:
    """While few wait, the part falls every cycle, whatever is completed."""
    shedding = Shedding()
    part = observe(shedding, demand=120, completed=64, waiting=99, cycles=PATIENCE)

    assert part - RELEASE >= observe(shedding, demand=60, completed=20, waiting=0)
    assert 0.0 == observe(shedding, demand=60, completed=20, waiting=0, cycles=10)
    assert {} == shedding.drops


@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e5)), min_size=1, max_size=20
    )
)
def test_a_part_is_a_part(cycles: list[tuple[float, float, float]]) -> None:
    """Whatever is seen, the part stays from 0 to 1."""
    shedding = Shedding()
    for demand, completed, waiting in cycles:
        assert 0 <= observe(shedding, demand=demand, completed=completed, waiting=waiting) <= 1


def overload(*, shed: bool) -> Plan:
    """Decide under twice the capacity and long queues for a while; give the last plan."""
    config = make_config(
        services=[
            make_service("chat", service_time="500ms"),
            make_service("paint", service_time="500ms", delay="tolerant"),
        ],
        instances=[make_instance("a", "near", slots=8), make_instance("b", "far", slots=8)],
        steering={"shed_tolerant": shed},
    )
    steering = Steering(config)
    for cycle in range(8):
        at = float(cycle)
        shown = {
            name: make_reported(
                config,
                name,
                at=at,
                gauges={Signal.RUNNING: 8.0, Signal.WAITING: 30.0},
                rates={Signal.COMPLETED: 16.0},
                interval=1.0,
            )
            for name in ("a", "b")
        }
        demand = {("near", "chat"): 28.0, ("near", "paint"): 28.0}
        plan = steering.decide(make_view(config, at=at, demand=demand, instances=shown))
    return plan


def test_only_the_tolerant_service_is_refused_and_it_is_said() -> None:
    """The plan carries the part and the words; its version tells it from one without."""
    plan = overload(shed=True)

    assert 0.0 == plan.assignments["chat", "near"].drop
    paint = plan.assignments["paint", "near"]
    assert paint.drop > 0.5
    assert f"overload: {paint.drop:.0%} of the requests are refused" in paint.note
    assert paint.drop == decode_plan(encode_plan(plan), at=0.0).assignments["paint", "near"].drop


def test_operators_can_turn_it_off() -> None:
    """Without `shed_tolerant` nothing is ever refused."""
    assert {0.0} == {a.drop for a in overload(shed=False).assignments.values()}
