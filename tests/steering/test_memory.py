"""What was learned goes on in another process, on a clock with another zero."""

from __future__ import annotations

import functools
import json
import math
import random
from typing import Any

import pytest

from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.model import Signal
from controlplane.steering import Steering
from controlplane.steering.record import decode_plan, encode_plan
from testbed.fakes.views import make_config, make_instance, make_reported, make_view

CONFIG = make_config(instances=[make_instance("a", "near"), make_instance("b", "far")])
SHIFT = 5000.0


def view(at: float, shift: float = 0.0) -> FleetView:
    """Return the fleet under a steady load at *at* of a clock that is *shift* ahead."""
    return make_view(
        CONFIG,
        at=at + shift,
        demand={("near", "chat"): 8.0, ("far", "chat"): 3.0},
        instances={
            name: make_reported(
                CONFIG,
                name,
                at=at + shift,
                gauges={Signal.RUNNING: running, Signal.WAITING: waiting},
                rates={Signal.COMPLETED: rate},
                interval=1.0,
            )
            for name, running, waiting, rate in (("a", 6.0, 1.0, 5.0), ("b", 2.0, 0.0, 6.0))
        },
    )


def test_another_steering_decides_as_the_first_would() -> None:
    """The document passes through JSON, as on disk."""
    first, second, cold = Steering(CONFIG), Steering(CONFIG), Steering(CONFIG)
    for second_of_day in range(60):
        plan = first.decide(view(float(second_of_day)))
    learned = json.loads(json.dumps(first.memory(now=59.5), allow_nan=False))
    second.remember(learned, now=59.5 + SHIFT)
    second.restore(plan)
    cold.restore(plan)
    expected = first.decide(view(60.0))
    shown = second.decide(view(60.0, SHIFT))

    assert expected.version == shown.version
    assert _capacities(expected) == pytest.approx(_capacities(shown), rel=0.02)
    assert _capacities(expected) != pytest.approx(
        _capacities(cold.decide(view(60.0, SHIFT))), rel=0.02
    )


SCRAPE = {"url": "http://10.0.0.1/metrics", "period": "1s", "timeout": "1s"}
READ = make_config(
    instances=[
        make_instance("a", "near", service_time="100ms", slots=16, scrape=SCRAPE),
        make_instance("b", "far", service_time="100ms", slots=16, scrape=SCRAPE),
    ]
)


def crowded(at: float, *unread: str) -> FleetView:
    """Return a fleet whose instance *a* is slow and full; those *unread* were not heard yet."""
    instances = {
        name: make_reported(
            READ,
            name,
            at=at,
            gauges={Signal.RUNNING: running, Signal.WAITING: waiting},
            rates={Signal.COMPLETED: rate},
            interval=1.0,
        )
        if name not in unread
        else InstanceView(READ.instances[number], Phase.UNKNOWN, confidence=0.0, ramp=1.0)
        for number, (name, running, waiting, rate) in enumerate(
            (("a", 16.0, 9.0, 5.0), ("b", 2.0, 0.0, 20.0))
        )
    }
    return make_view(READ, at=at, demand={("near", "chat"): 20.0}, instances=instances)


@pytest.mark.parametrize("unread", [("a", "b"), ("a",), ("b",)])
def test_a_restart_moves_nothing_before_its_instances_are_read(unread: tuple[str, ...]) -> None:
    """The first cycles come before the first reports, and then between them."""
    first, second = Steering(READ), Steering(READ)
    for second_of_day in range(60):
        plan = first.decide(crowded(float(second_of_day)))
    second.remember(first.memory(now=59.5), now=59.5)
    second.restore(plan)
    after = [second.decide(crowded(60.0 + turn, *unread)) for turn in range(2)]
    after += [second.decide(crowded(62.0 + turn)) for turn in range(3)]

    assert {plan.version} == {each.version for each in after}


PROBED = make_config(
    instances=[
        make_instance("a", "near", address="10.0.0.1:80", service_time="500ms"),
        make_instance("b", "near", address="10.0.0.2:80", service_time="50ms"),
        make_instance("c", "far", address="10.0.0.3:80"),
    ]
)


def slow_once(at: float) -> FleetView:
    """Return a fleet in which *b* is much slower than its configuration says."""
    return make_view(
        PROBED,
        at=at,
        demand={("near", "chat"): 4.0},
        instances={
            name: make_reported(
                PROBED,
                name,
                at=at,
                gauges={Signal.RUNNING: rate * latency, Signal.WAITING: 0.0},
                rates={Signal.COMPLETED: rate},
                interval=1.0,
            )
            for name, rate, latency in (("a", 2.0, 0.5), ("b", 0.05, 3.0), ("c", 9.0, 0.5))
        },
    )


def test_what_a_successor_takes_over_to_probe_stays_a_probe() -> None:
    """Else it would count as used, another would be probed beside it, and weights would move."""
    first, second = Steering(PROBED), Steering(PROBED)
    for second_of_day in range(60):
        plan = first.decide(slow_once(float(second_of_day)))
        if second_of_day < 59:
            second.decide(slow_once(float(second_of_day)))
    assert {("chat", "near"): {"b": 0.01}, ("chat", "far"): {"b": 0.01}} == plan.probes
    document = json.loads(json.dumps(encode_plan(plan)))
    second.restore(decode_plan(document, at=59.0))

    again = second.decide(slow_once(60.0))
    assert (plan.version, plan.probes) == (again.version, again.probes)
    del document["assignments"][0]["to"][0]
    with pytest.raises(ValueError, match="probes"):
        decode_plan(document, at=59.0)


def _capacities(plan: Any) -> list[float]:
    return [
        allocation.why.capacity
        for assignment in plan.assignments.values()
        for allocation in assignment.allocations
        if allocation.why is not None
    ]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({}, id="empty"),
        pytest.param({"capacity": 7, "demand": []}, id="no mapping"),
    ],
)
def test_what_is_no_memory_is_refused(broken: Any) -> None:
    """With an error that its reader expects."""
    with pytest.raises((KeyError, ValueError, TypeError)):
        Steering(CONFIG).remember(broken, now=0.0)


def test_estimates_that_cannot_be_read_cost_no_other() -> None:
    """One instance's and the demand's are named and learned from scratch; the rest goes on."""
    first, second = Steering(CONFIG), Steering(CONFIG)
    for second_of_day in range(30):
        first.decide(view(float(second_of_day)))
    learned = json.loads(json.dumps(first.memory(now=30.0), allow_nan=False))
    learned["capacity"]["b"] = {"age": "yesterday"}
    learned["demand"] = [["near"]]

    unread = second.remember(learned, now=30.0)

    assert "b" == unread[0]
    assert unread[1].startswith("demand: ")
    taken = second.memory(now=30.0)["capacity"]
    assert learned["capacity"]["a"] == taken["a"]


NUMBERS: tuple[Any, ...] = (
    *(math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-300, 1e11, 1e308, None, "x", [], {}),
)
"""What a broken disk, or another version, may have written where a number is expected."""


def with_each(document: Any, value: Any, *, chance: float, rng: random.Random) -> Any:
    """Return *document* with some of its numbers replaced."""
    match document:
        case dict():
            return {k: with_each(v, value, chance=chance, rng=rng) for k, v in document.items()}
        case list():
            return [with_each(each, value, chance=chance, rng=rng) for each in document]
        case float() if rng.random() < chance:
            return value
    return document


@functools.cache
def learned_document() -> Any:
    """Return what is learned in half a minute."""
    first = Steering(CONFIG)
    for second_of_day in range(30):
        first.decide(view(float(second_of_day)))
    return json.loads(json.dumps(first.memory(now=30.0), allow_nan=False))


@pytest.mark.parametrize("section", ["capacity", "demand", "sizes"])
@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers_that_cannot_be_are_no_estimates(value: Any, section: str) -> None:
    """Whichever of them: the next decision sends every request somewhere, by finite figures."""
    learned = learned_document()
    rng = random.Random(5)
    for chance in (1.0, 0.1, 0.02):
        second = Steering(CONFIG)
        spoilt = with_each(learned[section], value, chance=chance, rng=rng)
        second.remember(learned | {section: spoilt}, now=30.0)
        for at in (30.0, 31.0):
            plan = second.decide(view(at))
            for assignment in plan.assignments.values():
                first_choice = [each for each in assignment.allocations if each.priority == 0]
                assert pytest.approx(1.0) == sum(each.share for each in first_choice)
                assert all(each.weight > 0 for each in first_choice)
        json.dumps(second.memory(now=31.0), allow_nan=False)
