"""What is refused when there is more to do than can be done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.model import Signal
from controlplane.steering import Plan, Steering
from controlplane.steering.record import decode_plan, encode_plan
from controlplane.steering.shedding import (
    FULL,
    PATIENCE,
    RELEASE,
    WAITING,
    Pool,
    Shedding,
    Valve,
    find_pools,
)
from testbed.fakes.views import make_config, make_instance, make_reported, make_service, make_view

SLOTS = 32.0


def observe(
    valve: Valve, *, demand: float, completed: float, waiting: float, cycles: int = 1
) -> float:
    """Show a pool of which half the demand is tolerant; give the part that is refused."""
    for _ in range(cycles):
        valve.observe(
            demand=demand,
            tolerant=0.5 * demand,
            completed=completed,
            waiting=waiting,
            slots=SLOTS,
        )
    return valve.part


def test_a_burst_refuses_nothing_and_a_lasting_queue_does() -> None:
    """Only after some cycles of full queues is anything refused."""
    valve = Valve()
    full = FULL * SLOTS + 1

    assert 0.0 == observe(valve, demand=80, completed=64, waiting=full, cycles=PATIENCE - 1)
    assert 0.0 == observe(valve, demand=80, completed=64, waiting=0)
    assert 0.0 == observe(valve, demand=80, completed=64, waiting=full, cycles=PATIENCE - 1)
    assert 0.0 < observe(valve, demand=80, completed=64, waiting=full)


def test_what_is_let_in_is_what_is_completed() -> None:
    """With as many waiting as may, sensitive and admitted tolerant requests are the throughput."""
    valve = Valve()
    observe(valve, demand=100, completed=64, waiting=2 * SLOTS, cycles=PATIENCE)

    part = observe(valve, demand=100, completed=64, waiting=WAITING * SLOTS)

    assert pytest.approx(64, abs=2) == 50 + 50 * (1 - part)


def test_nothing_is_refused_long_after_the_overload() -> None:
    """While few wait, the part falls every cycle, whatever is completed."""
    valve = Valve()
    part = observe(valve, demand=120, completed=64, waiting=99, cycles=PATIENCE)

    assert part - RELEASE >= observe(valve, demand=60, completed=20, waiting=0)
    assert 0.0 == observe(valve, demand=60, completed=20, waiting=0, cycles=10)


@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e5)), min_size=1, max_size=20
    )
)
def test_a_part_is_a_part(cycles: list[tuple[float, float, float]]) -> None:
    """Whatever is seen, the part stays from 0 to 1."""
    valve = Valve()
    for demand, completed, waiting in cycles:
        assert 0 <= observe(valve, demand=demand, completed=completed, waiting=waiting) <= 1


def test_a_full_pool_takes_nothing_from_services_of_another() -> None:
    """Each pool has a valve of its own; sensitive services are never refused."""
    pools = find_pools("abc", [(0,), (1, 2), (2,)])
    shedding = Shedding()
    for _ in range(PATIENCE):
        shedding.observe(
            pools,
            np.array([40.0, 40.0, 40.0]),
            np.array([True, True, False]),
            completed=np.array([30.0, 20.0, 20.0]),
            number=np.array([9.0, 90.0, np.nan]),
            slots=np.array([8.0, 8.0, 8.0]),
        )

    assert [1] == list(shedding.drops)


def overloaded(shedding: Shedding, order: str, cycles: int) -> dict[str, float]:
    """Let the instance of service *a* be full, whatever place it has; give what is refused."""
    full = order.index("a")
    for _ in range(cycles):
        shedding.observe(
            find_pools(order, [(place,) for place in range(len(order))]),
            np.full(len(order), 40.0),
            np.ones(len(order), dtype=bool),
            completed=np.full(len(order), 20.0),
            number=np.where(np.arange(len(order)) == full, 90.0, 1.0),
            slots=np.full(len(order), 8.0),
        )
    return {order[service]: part for service, part in shedding.drops.items()}


def test_a_pool_keeps_what_it_refuses_when_services_change_their_places() -> None:
    """The services of a file in another order are the same services."""
    shedding = Shedding()
    assert {"a"} == set(overloaded(shedding, "ab", PATIENCE))

    assert {"a"} == set(overloaded(shedding, "cba", 1))


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        pytest.param([(0, 1), (1,)], [([0, 1], [0, 1])], id="one"),
        pytest.param([(0,), (1,)], [([0], [0]), ([1], [1])], id="two"),
        pytest.param([(0,), (2,), (0, 2)], [([0, 1, 2], [0, 2])], id="joined by the third"),
        pytest.param([()], [([0], [])], id="nothing serves it"),
    ],
)
def test_services_that_share_instances_are_one_pool(
    uses: list[tuple[int, ...]], expected: list[tuple[list[int], list[int]]]
) -> None:
    """However long the chain."""
    found: tuple[Pool, ...] = find_pools("abc", uses)

    assert expected == [(p.services.tolist(), p.instances.tolist()) for p in found]


def overload(*, shed: bool, silent: bool = False) -> Plan:
    """Decide under twice the capacity and long queues for a while; give the last plan.

    If *silent*, the far instance says nothing.
    """
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
            for name in (("a",) if silent else ("a", "b"))
        }
        demand = {("near", "chat"): 28.0, ("near", "paint"): 28.0}
        plan = steering.decide(make_view(config, at=at, demand=demand, instances=shown))
    return plan


def test_only_the_tolerant_service_is_refused_and_it_is_said() -> None:
    """The plan carries the part and the words; its version says it from one without."""
    plan = overload(shed=True)

    assert 0.0 == plan.assignments["chat", "near"].drop
    paint = plan.assignments["paint", "near"]
    assert paint.drop > 0.5
    assert f"overload: {paint.drop:.0%} of the requests are refused" in paint.note
    assert paint.drop == decode_plan(encode_plan(plan), at=0.0).assignments["paint", "near"].drop


def test_operators_can_turn_it_off() -> None:
    """Without `shed_tolerant` nothing is ever refused."""
    assert {0.0} == {a.drop for a in overload(shed=False).assignments.values()}


def test_what_a_silent_instance_is_sent_counts_as_done() -> None:
    """Refusing all of it because no one says that it is completed would lose requests."""
    reported = overload(shed=True).assignments["paint", "near"].drop
    silent = overload(shed=True, silent=True).assignments["paint", "near"].drop

    assert 0 < silent <= reported
