"""What a trial makes of its records; that it runs at all is seen where steering is compared."""

from __future__ import annotations

import pytest

from testbed.demo.records import Record
from testbed.tools.lone_envoys import Balancing
from testbed.tools.trials import FORTY, TWELVE, Result, Setting, Trial, percentile


def make_record(at: float, latency: float, *, status: int = 200, late: float = 0.0) -> Record:
    """Make a record of a request that came *at* seconds of the clock."""
    return Record("chat", "north", at, latency, latency, status, late=late)


def make_result(*records: Record) -> Result:
    """Make the result of a trial that began at 100 and whose clients wait 30 s."""
    return Result(Balancing.STEERED, records, began_at=100.0, timeout=30.0)


def test_a_request_that_failed_counts_as_the_timeout_however_soon_it_did() -> None:
    """Else anyone who refuses quickly would look fast."""
    result = make_result(make_record(100.0, 0.01, status=503), make_record(101.0, 0.5))

    assert [30.0, 0.5] == result.latencies()
    assert 1 == result.failed


def test_latencies_are_picked_by_arrival_not_by_end() -> None:
    """A request that came before the slowdown and ended after it was sent before it."""
    result = make_result(make_record(101.0, 9.0), make_record(105.0, 1.0), make_record(109.0, 2.0))

    assert [9.0] == result.latencies(0.0, 5.0)
    assert [1.0, 2.0] == result.latencies(5.0)


def test_lateness_is_what_the_latest_in_a_hundred_had() -> None:
    """One request that was sent late among a hundred does not condemn a trial; two do."""
    on_time = [make_record(100.0, 0.5)] * 98

    assert 0.0 == make_result(*on_time, make_record(1.0, 1.0), make_record(1.0, 1.0, late=9)).late
    assert 9.0 == make_result(*on_time, *[make_record(1.0, 1.0, late=9.0)] * 2).late


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        pytest.param([3.0], 3.0, id="one"),
        pytest.param([float(n) for n in range(1, 101)], 99.0, id="nearest rank"),
    ],
)
def test_a_percentile_is_a_latency_that_occurred(latencies: list[float], expected: float) -> None:
    """Nothing is interpolated."""
    assert expected == percentile(latencies, 0.99)


@pytest.mark.parametrize(
    ("setting", "instances", "sites"),
    [pytest.param(TWELVE, 12, 4, id="twelve"), pytest.param(FORTY, 40, 8, id="forty")],
)
def test_the_rate_is_a_part_of_what_all_instances_can_serve(
    setting: Setting, instances: int, sites: int
) -> None:
    """All of it is the sum of capacities; every pair of sites has a path, and clients all parts."""
    curves = setting.curves()

    assert sum(each.capacity for each in curves.values()) == pytest.approx(
        Trial(setting, utilisation=1.0).rate
    )
    assert instances == len(curves)
    assert sites * (sites - 1) / 2 == len(setting.rtt)
    assert setting.clients.keys() == setting.fleet.keys()
    assert 1.0 == pytest.approx(sum(setting.clients.values()))
    assert setting.slowed.keys() <= curves.keys()
