"""Devices whose battery is low keep their own model for what nothing else answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config import Config
from controlplane.steering import Steering
from controlplane.steering.devices import MOST, shares_of_all, shares_of_charged
from controlplane.steering.plan import Assignment
from testbed.fakes.views import make_config, make_instance, make_view


def make_fleet(battery: dict[str, str] | None = None, **more: Any) -> Config:
    """Make an edge of four slots and phones with a slot each, four times as slow."""
    return make_config(
        sites=["edge", {"name": "phones", "kind": "device", "battery": battery or {}}],
        instances=[
            make_instance("e", "edge", slots=4, service_time="100ms"),
            make_instance("own", "phones", slots=1, service_time="400ms"),
        ],
        **more,
    )


def decide(
    config: Config, steering: Steering | None = None, *, at: float = 0.0, **seen: Any
) -> Assignment:
    """Return where the phones' requests go, 60 a second, which are more than the edge takes."""
    view = make_view(config, at=at, demand={("phones", "chat"): 60.0, ("edge", "chat"): 5.0})
    own = replace(view.instances["own"], **({"copies": 100} | seen))
    plan = (steering or Steering(config)).decide(
        replace(view, instances={**view.instances, "own": own})
    )
    return plan.assignments["chat", "phones"]


def weight(assignment: Assignment, priority: int = 0) -> float:
    """Return the part of the weights of a priority that the device's own model has."""
    found = {a.instance: a.weight for a in assignment.allocations if a.priority == priority}
    return found.get("own", 0) / sum(found.values()) if found else 0.0


def test_devices_that_are_low_leave_more_of_their_model_to_the_others() -> None:
    """The mean over all stays what the whole fleet is best served by."""
    none, some = decide(make_fleet()), decide(make_fleet(), low_battery=0.25)

    assert weight(some) * 0.75 == pytest.approx(weight(none), abs=0.03)


@pytest.mark.parametrize("low", [0.6, 0.9])
def test_charged_devices_are_used_in_full_where_that_is_not_enough(low: float) -> None:
    """The rest goes to the edge, however full it is, and the weights say that to the others."""
    found = decide(make_fleet(), low_battery=low, copies=round(100 * (1 - low)))

    assert weight(found) == pytest.approx(MOST, abs=0.01)
    assert {("e", 0), ("own", 0)} == {(a.instance, a.priority) for a in found.allocations}


def test_where_every_battery_is_low_the_device_is_the_last_resort() -> None:
    """As it is where anything else is better."""
    found = decide(make_fleet(), low_battery=1.0)

    assert {("e", 0), ("own", 1)} == {(a.instance, a.priority) for a in found.allocations}


def test_a_least_share_yields_to_low_batteries() -> None:
    """An operator's wish charges no battery."""
    config = make_fleet(overrides=[{"instance": "own", "min_share": "80%"}])

    mean = weight(decide(config, low_battery=0.5)) * 0.5

    assert mean == pytest.approx(0.5 * MOST, abs=0.01)


def test_what_runs_on_battery_costs_more() -> None:
    """As much as the site's penalty says, in the mean over the class."""
    mains, battery = (
        decide(make_fleet({"penalty": "400ms"}), on_battery=part) for part in (0.0, 1.0)
    )
    (own,) = (a.why for a in battery.allocations if a.instance == "own")

    assert weight(battery) < weight(mains) - 0.02
    assert own is not None
    assert own.penalty == pytest.approx(0.4)
    assert any("100% of its devices run on battery" in words for words in own.limits)


def test_shares_in_use_are_carried_when_batteries_change() -> None:
    """A fleet at rest moves nothing but what the batteries move."""
    config = make_fleet()
    steering = Steering(config)
    for at in range(4):
        decide(config, steering, at=float(at), low_battery=0.25)
    before = decide(config, steering, at=4.0, low_battery=0.25)
    after = decide(config, steering, at=5.0, low_battery=0.25)

    assert before.allocations == after.allocations


def test_a_device_that_had_all_to_itself_is_spared_at_once() -> None:
    """Nothing else is as fast, so that no gain would move it."""
    config = make_config(
        sites=["edge", {"name": "phones", "kind": "device"}],
        instances=[
            make_instance("e", "edge", slots=100, service_time="2s"),
            make_instance("own", "phones", slots=4, service_time="100ms"),
        ],
    )
    steering = Steering(config)
    charged = [decide(config, steering, at=float(at)) for at in range(4)][-1]
    low = decide(config, steering, at=4.0, low_battery=1.0)

    assert 1.0 == weight(charged)
    assert {("e", 0), ("own", 1)} == {(a.instance, a.priority) for a in low.allocations}


@given(
    low=st.floats(0.0, 0.95),
    own=st.floats(0.0, MOST),
    others=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4),
)
def test_shares_of_the_charged_and_of_all_are_inverse(
    low: float, own: float, others: list[float]
) -> None:
    """Within what the charged devices can take."""
    config = make_config(
        sites=["edge", {"name": "phones", "kind": "device"}],
        instances=[
            *(make_instance(f"e{number}", "edge") for number in range(len(others))),
            make_instance("own", "phones"),
        ],
    )
    steering = Steering(config)
    steering.decide(make_view(config))
    assert steering._decision is not None
    problem = steering._decision.problem
    flow, layout = problem.flow, problem.layout
    problem = replace(problem, low=np.where(layout.reach >= 0, low, 0.0))
    reserved = layout.reach[flow.column] >= 0
    mean = own * (1.0 - low)
    given_ = np.array([others[int(layout.instances[c].name[1:])] if layout.reach[c] < 0 else 0.0
                       for c in flow.column.tolist()])  # fmt: skip
    devices = np.bincount(flow.row[reserved], minlength=len(flow.demand)) > 0
    rest = np.where(devices, 1.0 - mean, 1.0)[flow.row]
    shares = np.where(reserved, mean, given_ / sum(others) * rest)

    charged = shares_of_charged(problem, shares)

    assert np.bincount(flow.row, charged) == pytest.approx(1.0)
    assert charged[reserved] == pytest.approx(own, abs=1e-6)
    assert shares_of_all(problem, charged) == pytest.approx(shares, abs=1e-6)
