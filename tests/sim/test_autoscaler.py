"""Kubernetes' autoscaler as it is simulated: wishes, windows, starts and ends."""

from __future__ import annotations

import pytest

from controlplane.sim.autoscaler import Autoscaler, Pool, ScalingRules

RULES = ScalingRules(cold_start=60.0, window=300.0, first=2)


@pytest.mark.parametrize(
    ("value", "replicas"), [(20.0, 2), (21.9, 2), (22.1, 3), (95.0, 8), (11.0, 2)]
)
def test_a_pool_gets_a_replica_for_each_target_of_the_metric_at_once(
    value: float, replicas: int
) -> None:
    """Within a tenth of the target, above what may be, and for fewer it stays."""
    assert replicas == Autoscaler(RULES, most=8).look(0.0, value, 10.0)


def test_replicas_go_when_none_was_wanted_for_the_whole_window() -> None:
    """The highest wish of five minutes counts."""
    scaler = Autoscaler(RULES, most=8)
    scaler.look(0.0, 60.0, 10.0)

    counts = [scaler.look(at, 10.0, 10.0) for at in (15.0, 300.0, 301.0)]

    assert [6, 6, 1] == counts


def test_a_replica_is_paid_from_its_creation_and_serves_after_its_cold_start() -> None:
    """And it is paid until what it holds has ended."""
    pool = Pool(range(10, 14), RULES)
    pool.scale(0.0, 3)
    assert (3, [10, 11]) == (pool.paid, pool.ready)
    assert [] == pool.start_due(59.0)
    assert [12] == pool.start_due(60.0)

    pool.scale(70.0, 1)
    assert (3, [10], [12, 11]) == (pool.paid, pool.ready, pool.ending)
    pool.release(12)
    assert 2 == pool.paid


def test_what_has_not_started_is_removed_first_and_there_is_no_more_than_there_may_be() -> None:
    """So that a wish of a moment costs nothing that serves."""
    pool = Pool(range(3), RULES)
    pool.scale(0.0, 9)
    assert 3 == pool.paid

    pool.scale(1.0, 2)
    assert (2, [0, 1], []) == (pool.paid, pool.ready, pool.ending)
