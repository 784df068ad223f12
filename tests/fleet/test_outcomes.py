"""How attempts ended, by instance and service."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.errors import ReportError
from controlplane.fleet import FleetState, FleetView
from controlplane.fleet.outcomes import OutcomeBook, _counts
from controlplane.fleet.steps import finish
from controlplane.fleet.traffic_view import Outcomes
from controlplane.model import FailureClass, InstanceReport, TrafficReport
from testbed.fakes.fleets import make_config


def report(
    at: float,
    *,
    instance: str = "a",
    site: str = "north",
    envoy: str = "e",
    issued: float = 10.0,
    succeeded: float = 10.0,
    failed: float = 0.0,
    failures: Mapping[FailureClass, float] | None = None,
    **more: float,
) -> TrafficReport:
    """Make a report of one second."""
    return TrafficReport(
        envoy, site, "chat", instance, at, 1.0, issued, succeeded, failed,
        failures=failures or {}, **more,
    )  # fmt: skip


def fleet_view(*reports: TrafficReport | InstanceReport) -> FleetView:
    """Return the view of a fleet of two instances after *reports*."""
    config = make_config(
        instances={"a": ("north", "10.1.0.1:8000"), "b": ("north", "10.1.0.2:8000")}
    )
    state = FleetState(config, now=0.0)
    for each in reports:
        state.apply(each, now=each.at)
    return state.view(now=max(each.at for each in reports))


def test_every_class_is_counted_by_itself() -> None:
    """What an operator would do about a failure depends on its class."""
    failures = {kind: float(n) for n, kind in enumerate(FailureClass, 1)}
    failed = sum(failures.values()) - failures[FailureClass.CLIENT_ERROR]

    outcomes = fleet_view(
        report(1.0, issued=30, succeeded=5, failed=failed, failures=failures, abandoned=2.0)
    ).outcomes["a", "chat"]

    assert 5.0 == outcomes.total.answered
    assert failures == {kind: outcomes.total.of(kind) for kind in FailureClass}
    assert (21.0, 26.0, 2.0) == (
        outcomes.total.failed, outcomes.total.ended, outcomes.total.abandoned
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failed", "failures", "server_errors"),
    [
        pytest.param(3.0, {}, 3.0, id="no class at all, as in load reports"),
        pytest.param(3.0, {FailureClass.LATE: 1.0}, 2.0, id="some without a class"),
        pytest.param(1.0, {FailureClass.LATE: 1.0}, 0.0, id="all with a class"),
        pytest.param(0.0, {FailureClass.CLIENT_ERROR: 4.0}, 0.0, id="client errors only"),
    ],
)
def test_a_failure_without_a_class_is_a_server_error(
    failed: float, failures: Mapping[FailureClass, float], server_errors: float
) -> None:
    """No failure is lost, and none is counted twice."""
    counted = Outcomes(*_counts(report(1.0, failed=failed, failures=failures)))

    assert server_errors == counted.server_error
    assert failed + failures.get(FailureClass.CLIENT_ERROR, 0.0) == counted.failed


def test_the_recent_past_fades_and_the_total_stays() -> None:
    """A learner differences totals; people look at the last seconds."""
    book = OutcomeBook()
    for at in range(1, 31):
        book.apply(report(float(at)))

    at_once = finish(book.view_in_steps(now=30.0))["a", "chat"]
    later = finish(book.view_in_steps(now=60.0))["a", "chat"]

    assert (300.0, 300.0) == (at_once.total.answered, later.total.answered)
    assert pytest.approx(10.0, rel=0.01) == at_once.rate
    assert at_once.recent.answered > 40
    assert later.recent.answered < 0.5 > later.rate


def test_client_sites_and_envoys_add_up() -> None:
    """A failing instance shows anyone who asks it."""
    view = fleet_view(
        report(1.0, succeeded=6, failed=4),
        report(1.0, envoy="f", succeeded=2, failed=8),
        report(1.0, instance="b"),
    )

    assert Outcomes(answered=8.0, server_error=12.0) == view.outcomes["a", "chat"].total
    assert Outcomes(answered=10.0) == view.outcomes["b", "chat"].total


@given(st.lists(st.tuples(st.floats(0.0, 40.0), st.integers(0, 50)), min_size=1, max_size=20))
def test_the_order_of_reports_changes_no_total(seen: list[tuple[float, int]]) -> None:
    """Envoys' reports overtake each other."""
    totals = set()
    for order in (seen, seen[::-1]):
        book = OutcomeBook()
        for at, count in order:
            book.apply(report(100.0 + at, issued=count, succeeded=count))
        totals.add(round(finish(book.view_in_steps(now=150.0))["a", "chat"].total.answered, 6))

    assert {sum(count for _, count in seen)} == totals


def test_retries_are_no_demand() -> None:
    """Twenty attempts of ten requests are ten requests a second."""
    view = fleet_view(
        *(report(float(at), issued=20, succeeded=10, failed=10, retries=10.0) for at in range(1, 9))
    )

    assert pytest.approx(10.0) == view.demand["north", "chat"].value
    assert pytest.approx(10.0) == view.counted["north", "chat"].value
    assert pytest.approx(20.0) == view.outcomes["a", "chat"].rate


@pytest.mark.parametrize(
    "impossible",
    [
        report(1.0, failures={FailureClass.LATE: -1.0}),
        report(1.0, failures={FailureClass.LATE: float("nan")}),
        report(1.0, retries=1e30),
        report(1.0, abandoned=-1.0),
    ],
)
def test_impossible_counts_are_refused(impossible: TrafficReport) -> None:
    """One impossible number refuses its report."""
    with pytest.raises(ReportError):
        fleet_view(impossible)
