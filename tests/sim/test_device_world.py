"""Requests of devices whose links go and come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controlplane.sim.device_case import draw_device_fleet
from controlplane.sim.device_oracle import DeviceOracle
from controlplane.sim.device_world import DeviceWorld
from controlplane.sim.devices import DeviceSpec, Spans
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.true_fleet import Record
from controlplane.sim.workload import Arrivals

OWN = 5
"""Index of the devices' own model; the others are four edges and a cloud."""


def make_world(
    times: list[float], away: Spans, *, charge: float = 1.0, engine: EngineSpec | None = None
) -> DeviceWorld:
    """Return a world of one device that asks at *times*, each for a second of work."""
    fleet = draw_device_fleet(1, devices=1)
    (kind,) = fleet.devices.values()
    first = kind.devices[0]
    spec = DeviceSpec(engine or first.engine, charge=charge, drain=first.drain, away=away)
    fleet = replace(fleet, devices={"phones": replace(kind, devices=(spec,))})
    number = len(times)
    ones = np.ones(number)
    arrivals = Arrivals(
        np.array(times), np.zeros(number, dtype=np.int64), ones, 1000 * ones, 100 * ones
    )
    return DeviceWorld(fleet, arrivals, seed=1)


def run(world: DeviceWorld, weights: list[tuple[int, int, int]]) -> Record:
    """Push *weights* to the device, and run for a minute."""
    for sidecar in world.sidecars:
        if sidecar.site == "phones":
            sidecar.push(weights)
    return world.run(60.0)


SHARED = [(0, 300, 0), (1, 300, 0), (4, 300, 0), (OWN, 100, 0)]
LAST = [(0, 300, 0), (1, 300, 0), (4, 300, 0), (OWN, 1, 1)]
ALWAYS, NEVER = ((0.0, 60.0),), ()


@pytest.mark.parametrize("weights", [SHARED, LAST], ids=["by weight", "as last priority"])
def test_without_a_link_its_own_model_answers_all(weights: list[tuple[int, int, int]]) -> None:
    """At once, before a health check has found anything, and after."""
    world = make_world([1.0, 1.1, 9.0, 30.0], ALWAYS)
    record = run(world, weights)

    assert not record.failed.any()
    assert {OWN} == set(record.instance)
    assert [0] * 6 == world.outstanding


def test_what_was_sent_when_the_link_goes_is_answered_by_its_own_model() -> None:
    """The edge's answer, which comes later, counts for nothing."""
    world = make_world([1.0], ((1.2, 60.0),))
    record = run(world, [(0, 1, 0), (OWN, 1, 1)])
    speed = world.fleet.devices["phones"].devices[0].engine.speed

    assert [OWN] == record.instance.tolist()
    assert record.latency[0] == pytest.approx(0.2 + 1 / speed)
    assert 1 == world.engines[0].completed
    assert [0] * 6 == world.outstanding
    assert [0.0] * 6 == pytest.approx(world.backlog)


def test_a_link_that_comes_back_is_used_again() -> None:
    """The health checks find out within their interval."""
    record = run(make_world([1.0, 15.0, 30.0], ((10.0, 20.0),)), [(0, 1, 0), (OWN, 1, 1)])

    assert [0, OWN, 0] == record.instance.tolist()


def test_the_engines_of_a_class_are_one_for_each_device() -> None:
    """The instance that stands for them serves nobody itself."""
    world = make_world([1.0], ALWAYS)
    run(world, SHARED)
    (device,) = world.devices.values()

    assert [device.engine] == world.engines_of(OWN)
    assert (1, 0) == (device.engine.completed, world.engines[OWN].completed)


@pytest.mark.parametrize(
    ("away", "charge", "own"),
    [
        pytest.param(ALWAYS, 1.0, True, id="no link"),
        pytest.param(ALWAYS, 0.1, True, id="no link, low battery"),
        pytest.param(((1.01, 60.0),), 1.0, True, id="the link goes before the answer"),
        pytest.param(NEVER, 1.0, False, id="a faster one is in reach"),
    ],
)
def test_the_oracle_uses_its_own_model_where_it_must(away: Spans, charge: float, own: bool) -> None:
    """It knows when the link goes."""
    world = make_world([1.0], away, charge=charge)
    DeviceOracle(world).start()
    record = world.run(60.0)

    assert own == (record.instance[0] == OWN)


def test_the_oracle_spares_a_low_battery_while_the_link_is_there() -> None:
    """Although its own model is by far the fastest."""
    fast = EngineSpec(1, speed=100.0)
    charged, low = (make_world([1.0], NEVER, charge=charge, engine=fast) for charge in (1.0, 0.1))
    for world in (charged, low):
        DeviceOracle(world).start()

    assert OWN == charged.run(30.0).instance[0]
    assert OWN != low.run(30.0).instance[0]
