"""A request goes out, is served, comes back, and finds another instance when one is dead."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.resources.retries import HOST_SELECTION_ATTEMPTS
from controlplane.sim.fleets import single_server_fleet
from controlplane.sim.policies import BASELINES
from controlplane.sim.true_fleet import Fleet, Record
from controlplane.sim.workload import Arrivals, draw_arrivals
from controlplane.sim.world import RESELECTIONS, World


def fleet_of(speeds: tuple[float, ...] = (1.0, 1.0), rtt: float = 0.0) -> Fleet:
    """Build servers of one slot, all *rtt* away from the clients."""
    fleet = single_server_fleet(speeds, name="t", utilisation=0.5, sidecars=1, period=1.0)
    return Fleet(
        fleet.name,
        fleet.config,
        fleet.engines,
        fleet.streams,
        dict.fromkeys(fleet.rtt, rtt),
        mean_work=1.0,
    )


def arrivals_at(*times: float, work: float = 1.0) -> Arrivals:
    """Make requests of equal work."""
    size = len(times)
    return Arrivals(
        np.array(times),
        np.zeros(size, dtype=np.int64),
        np.full(size, work),
        np.ones(size),
        np.ones(size),
    )


def run(world: World, policy: str = "round_robin") -> Record:
    """Run a world under a baseline until nothing is left."""
    BASELINES[policy](world).start()
    return world.run(1000.0)


def test_a_latency_is_the_way_there_the_service_and_the_way_back() -> None:
    """Half of the round trip each way."""
    record = run(World(fleet_of(rtt=0.2), arrivals_at(1.0), seed=1))

    assert [1.2] == pytest.approx(record.latency)


def test_congestion_lengthens_the_way_of_what_comes_after_it() -> None:
    """And of the answers that are still to come."""
    world = World(fleet_of(rtt=0.2), arrivals_at(1.0, 5.0), seed=1)
    world.kernel.at(4.0, lambda _now, _: world.stretch_paths(["clients"], world.sites, 0.1))

    assert [1.2, 1.3] == pytest.approx(run(world).latency)


def test_a_retry_goes_to_another_instance() -> None:
    """Nothing fails while one of two is dead, and the health check soon ends the detours."""
    world = World(fleet_of(rtt=0.2), arrivals_at(*np.arange(1.0, 61.0, 3.0)), seed=1)
    world.kernel.at(0.5, lambda now, _: world.set_alive(now, 0, alive=False))

    record = run(world)

    assert not record.failed.any()
    assert {1} == set(record.instance)
    assert 1.4 == pytest.approx(record.latency.max())
    assert [1.2] * 15 == pytest.approx(record.latency[5:])


def test_a_retry_leaves_a_dead_instance_that_has_nearly_all_requests() -> None:
    """It picks as often as a real Envoy does to find another one, which has a hundredth."""
    world = World(fleet_of((99.0, 1.0)), arrivals_at(1.0), seed=1)
    world.kernel.at(0.5, lambda now, _: world.set_alive(now, 0, alive=False))

    assert [False] == run(world, "capacity").failed.tolist()
    assert RESELECTIONS == HOST_SELECTION_ATTEMPTS


def test_with_every_instance_dead_requests_fail_and_later_succeed() -> None:
    """After the revival the health checks bring the instances back."""
    world = World(fleet_of(), arrivals_at(1.0, 20.0, 40.0), seed=1)
    for index in (0, 1):
        world.kernel.at(0.5, lambda now, i: world.set_alive(now, i, alive=False), index)
        world.kernel.at(30.0, lambda now, i: world.set_alive(now, i, alive=True), index)

    assert [True, True, False] == run(world).failed.tolist()


def test_no_request_is_lost_or_made() -> None:
    """Every arrival is answered once, whatever dies in between."""
    fleet = fleet_of((2.0, 1.0, 1.0))
    world = World(fleet, draw_arrivals(fleet.streams, duration=200, seed=5), seed=5)
    world.kernel.at(50.0, lambda now, _: world.set_alive(now, 1, alive=False))
    world.kernel.at(90.0, lambda now, _: world.set_alive(now, 1, alive=True))

    record = run(world, "capacity")

    assert not np.isnan(record.latency).any()
    assert [0, 0, 0] == world.outstanding
    assert [[0, 0, 0]] == [sidecar.active for sidecar in world.sidecars]
