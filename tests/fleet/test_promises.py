"""What became of promises: counted, over windows, with what failed among what was missed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.errors import ReportError
from controlplane.fleet import FleetState
from controlplane.fleet.promises import within
from controlplane.model import LatencyReport, TrafficReport
from testbed.fakes.views import make_config, make_service

BOUNDS = (0.1, 0.2, 0.5, 1.0)


def state(**slo: str) -> FleetState:
    """Return a fleet whose service chat promises *slo*."""
    services = [make_service("chat", slo=slo), make_service("batch")]
    return FleetState(make_config(services=services), now=0.0)


def times(at: float, *counts: float, service: str = "chat") -> LatencyReport:
    """Return the answers of one interval by time."""
    return LatencyReport("envoy", "near", service, at, BOUNDS, counts, counts)


def test_attainment_is_counted_over_both_windows() -> None:
    """Five minutes say how it is, an hour how it was."""
    fleet = state(latency="500ms")
    fleet.apply(times(10.0, 0, 0, 80, 0, 20), now=10.0)
    assert fleet.view(now=11.0).promises["chat", "latency"].attainment == pytest.approx(0.8)
    fleet.apply(times(1000.0, 100, 0, 0, 0, 0), now=1000.0)
    seen = fleet.view(now=1001.0).promises["chat", "latency"]
    assert seen.attainment == 1.0
    assert seen.attainment_long == pytest.approx(0.9)
    assert (seen.kept, seen.missed) == (180.0, 20.0)
    assert fleet.view(now=1001.0 + 3700.0).promises["chat", "latency"].attainment_long is None


def test_what_failed_for_a_client_was_missed() -> None:
    """An attempt that a retry made good is one answer; the last failure is a request lost."""
    fleet = state(latency="500ms")
    fleet.apply(times(1.0, 90, 0, 0, 0, 0), now=1.0)
    fleet.apply(
        TrafficReport(
            "envoy", "near", "chat", "", 1.0, 1.0, issued=105.0, failed=15.0, retries=5.0
        ),
        now=1.0,
    )
    assert fleet.view(now=2.0).promises["chat", "latency"].attainment == pytest.approx(0.9)


def test_services_without_a_promise_are_not_counted() -> None:
    """Nor are those whose promise was taken back."""
    fleet = state(ttft="200ms")
    fleet.apply(times(1.0, 1, 0, 0, 0, 0, service="batch"), now=1.0)
    assert set(fleet.view(now=1.0).promises) == {("chat", "ttft")}
    assert not fleet.view(now=1.0).latencies
    fleet.reconfigure(make_config(), now=2.0)
    assert not fleet.view(now=2.0).promises


@pytest.mark.parametrize(
    "report",
    [
        LatencyReport("e", "near", "chat", 1.0, (), (1.0,), (1.0,)),
        LatencyReport("e", "near", "chat", 1.0, (0.2, 0.1), (1.0,) * 3, (1.0,) * 3),
        LatencyReport("e", "near", "chat", 1.0, (0.2, math.nan), (1.0,) * 3, (1.0,) * 3),
        LatencyReport("e", "near", "chat", 1.0, (0.1, 0.2), (1.0,) * 2, (1.0,) * 3),
        LatencyReport("e", "near", "chat", 1.0, (0.1,), (1.0, -1.0), (1.0, 1.0)),
        LatencyReport("e", "near", "chat", 1.0, (0.1,), (1.0, math.inf), (1.0, 1.0)),
        LatencyReport("e", "moon", "chat", 1.0, (0.1,), (1.0, 1.0), (1.0, 1.0)),
        LatencyReport("e", "near", "song", 1.0, (0.1,), (1.0, 1.0), (1.0, 1.0)),
    ],
)
def test_what_is_no_histogram_is_refused(report: LatencyReport) -> None:
    """And changes nothing."""
    fleet = state(latency="500ms")
    with pytest.raises(ReportError):
        fleet.apply(report, now=1.0)
    assert fleet.view(now=1.0).promises["chat", "latency"].attainment is None


@given(st.lists(st.floats(0, 1e6), min_size=5, max_size=5), st.floats(0.01, 10.0))
def test_what_is_within_lies_between_the_buckets_around_it(
    counts: list[float], limit: float
) -> None:
    """It rises with the limit and never exceeds what there is."""
    found = within(BOUNDS, counts, limit)
    below = sum(count for bound, count in zip(BOUNDS, counts, strict=False) if bound <= limit)
    assert below - 1e-6 <= found <= sum(counts) + 1e-6
    assert found <= within(BOUNDS, counts, limit * 1.5) + 1e-6
