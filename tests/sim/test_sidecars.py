"""Simulated Envoys split exactly and report what they saw."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.sim.round_robin import WeightedRoundRobin
from controlplane.sim.sidecars import Sidecar


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 1000))
def test_a_whole_lap_splits_exactly_by_weight(weights: list[int], seed: int) -> None:
    """Over any stretch as long as the weights' sum, each instance is off by less than two."""
    wrr = WeightedRoundRobin(random.Random(seed))
    wrr.update(list(enumerate(weights)))
    picks = Counter(wrr.pick(0.0) for _ in range(sum(weights)))

    assert all(abs(picks[i] - weight) <= 1 for i, weight in enumerate(weights))


def test_the_interleave_is_smooth() -> None:
    """1:2:5 comes as Envoy's schedule does: no instance gets its turns in a row at the end."""
    wrr = WeightedRoundRobin(random.Random(1))
    wrr.update([(1, 1), (2, 2), (3, 5)])
    picks = "".join(str(wrr.pick(0.0)) for _ in range(64))

    assert "3123332331233323" in picks


@pytest.mark.parametrize(
    ("picks", "points"),
    # Measured on Envoy 1.40: 600 requests, weights renewed every so many of them.
    [(2, 2.5), (3, 2.7), (5, 1.5), (10, 1.0), (20, 0.2)],
)
def test_shares_through_many_pushes_err_as_those_of_envoy(picks: int, points: float) -> None:
    """The mean over runs of the largest error of a share is about what one run of Envoy showed."""
    weights = [1, 2, 3, 4, 10]
    wrr = WeightedRoundRobin(random.Random(5))
    errors = []
    for _ in range(20):
        seen: Counter[int] = Counter()
        for _ in range(600 // picks):
            wrr.update(list(enumerate(weights)))
            seen.update(wrr.pick(0.0) for _ in range(picks))
        errors.append(
            max(abs(seen[i] / 600 - weight / sum(weights)) for i, weight in enumerate(weights))
        )

    assert 100 * sum(errors) / len(errors) == pytest.approx(points, abs=1.2)


@pytest.mark.parametrize("picks", [1, 2, 5, 20])
def test_however_often_weights_are_pushed_no_instance_is_favoured(picks: int) -> None:
    """A schedule that began with its first picks would never come to small weights."""
    weights = [11, 23, 31, 43, 97]
    wrr = WeightedRoundRobin(random.Random(3))
    seen: Counter[int] = Counter()
    for _ in range(20_000 // picks):
        wrr.update(list(enumerate(weights)))
        seen.update(wrr.pick(0.0) for _ in range(picks))

    for instance, weight in enumerate(weights):
        share = seen[instance] / seen.total()
        assert share == pytest.approx(weight / sum(weights), abs=0.012)


def sidecar() -> Sidecar:
    """Make a sidecar of three instances."""
    return Sidecar(
        0,
        envoy="e",
        site="s",
        service="chat",
        usable=[0, 1, 2],
        out=[0.0] * 3,
        back=[0.0] * 3,
        need=[1.0] * 3,
        timeout=1e9,
        source=random.Random(0),
    )


def test_refused_requests_are_reported_as_demand() -> None:
    """A changed part counts as a change; what was dropped is in the report, once."""
    envoy = sidecar()
    weights = [(0, 1, 0)]

    assert envoy.push(weights)
    assert envoy.push(weights, drop=0.3)
    assert not envoy.push(weights, drop=0.3)
    envoy.dropped = 5
    (report,) = envoy.traffic_reports(1.0, ["a", "b", "c"], latency=True)
    assert ("", 5.0, 5.0) == (report.instance, report.issued, report.failed)
    (idle,) = envoy.traffic_reports(2.0, ["a", "b", "c"], latency=True)
    assert ("", 0.0, 0.0, 1.0) == (idle.instance, idle.issued, idle.failed, idle.interval)


def test_silence_of_clients_is_not_that_of_the_envoy() -> None:
    """As Envoys' metrics are read: once something was asked, an idle interval says so."""
    envoy = sidecar()
    assert [] == envoy.traffic_reports(1.0, ["a", "b", "c"], latency=True)
    envoy.issued[1] = 1
    assert ["b"] == [r.instance for r in envoy.traffic_reports(2.0, ["a", "b", "c"], latency=True)]
    (idle,) = envoy.traffic_reports(4.0, ["a", "b", "c"], latency=True)
    assert ("", 0.0, 2.0) == (idle.instance, idle.issued, idle.interval)


def test_a_retry_is_load_and_no_demand() -> None:
    """It is among what was issued, and distinguished."""
    envoy = sidecar()
    envoy.issued[0], envoy.issued[1], envoy.retries = 3, 1, 1
    reports = envoy.traffic_reports(1.0, ["a", "b", "c"], latency=True)

    assert 3.0 == sum(report.issued - report.retries for report in reports)


def test_equal_weights_pushed_again_change_nothing() -> None:
    """The schedule starts again only when the weights differ."""
    item = sidecar()

    assert item.push([(0, 1, 0), (1, 3, 0)])
    assert not item.push([(0, 1, 0), (1, 3, 0)])


def test_the_next_priority_serves_when_the_first_is_down() -> None:
    """A lower priority gets nothing while a higher one has a healthy endpoint."""
    item = sidecar()
    item.push([(0, 1, 0), (1, 1, 0), (2, 1, 1)])
    assert {0, 1} == {item.pick(0.0) for _ in range(20)}

    item.set_probed(0, down=True)
    item.set_probed(1, down=True)
    assert {2} == {item.pick(0.0) for _ in range(20)}

    item.set_probed(2, down=True)
    assert -1 == item.pick(0.0)


def test_three_errors_in_a_row_eject() -> None:
    """A success between them starts the count again; never more than half are out."""
    item = sidecar()
    item.push([(0, 1, 0), (1, 1, 0), (2, 1, 0)])
    assert [False, False] == [item.count_error(0, 1.0) for _ in range(2)]
    item.count_success(0)
    assert [False, False, True] == [item.count_error(0, 1.0) for _ in range(3)]
    assert [False, False, False] == [item.count_error(1, 1.0) for _ in range(3)]

    assert {1, 2} == {item.pick(0.0) for _ in range(20)}
    item.uneject(0)
    assert {0, 1, 2} == {item.pick(0.0) for _ in range(20)}


@pytest.mark.parametrize("latency", [True, False])
def test_a_report_covers_the_time_since_the_last(latency: bool) -> None:
    """Counts start again, requests in progress stay; latencies come only where asked for."""
    item = sidecar()
    item.issued[1], item.active[1], item.succeeded[1], item.latency_sum[1] = 5, 2, 3, 1.5

    (first,) = item.traffic_reports(2.0, ["a", "b", "c"], latency=latency)
    (second,) = item.traffic_reports(3.0, ["a", "b", "c"], latency=latency)

    assert ("b", 5.0, 3.0, 2.0, 2.0) == (
        first.instance, first.issued, first.succeeded, first.in_progress, first.interval,
    )  # fmt: skip
    assert ((1.5, 3.0) if latency else (0.0, 0.0)) == (first.latency_sum, first.latency_count)
    assert (0.0, 2.0, 1.0) == (second.issued, second.in_progress, second.interval)
