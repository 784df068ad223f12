"""Attempts that hang: found by what is open and what was begun, whatever the load."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.fleet import FleetState
from controlplane.fleet.hung import HungAttempts, Latencies
from controlplane.fleet.outcomes import OutcomeBook
from controlplane.fleet.steps import finish
from controlplane.fleet.traffic_view import OutcomeView
from controlplane.model import FailureClass, TrafficReport
from testbed.fakes.fleets import make_config


@dataclass(slots=True)
class Line:
    """Requests of one service at one instance, each with its instants of sending and of ending."""

    requests: list[tuple[float, float]] = field(default_factory=list)

    def send(self, rate: float, *, since: float, until: float, takes: float) -> None:
        """Send at an even *rate*; each ends after *takes* seconds."""
        for number in range(math.floor((until - since) * rate)):
            at = since + number / rate
            self.requests.append((at, at + takes))

    def report(
        self, at: float, *, envoy: str = "e", parts: int = 1, part: int = 0
    ) -> TrafficReport:
        """Return what an Envoy, which sends one of *parts* requests, saw in a second until *at*."""
        own = self.requests[part::parts]
        took = [end - begin for begin, end in own if at - 1 < end <= at]
        return TrafficReport(
            envoy, "north", "chat", "a", at, 1.0,
            issued=sum(at - 1 < begin <= at for begin, _ in own),
            succeeded=len(took),
            in_progress=sum(begin <= at < end for begin, end in own),
            latency_sum=sum(took),
            latency_count=len(took),
        )  # fmt: skip


def found(line: Line, *, until: float, envoys: int = 1) -> list[float]:
    """Return how many requests are known to hang at each second."""
    hung, service = HungAttempts(), Latencies()
    seen = []
    for second in range(1, int(until) + 1):
        for number in range(envoys):
            at = second + number / envoys
            report = line.report(at, envoy=f"e{number}", parts=envoys, part=number)
            service.add(report)
            hung.add(report, service)
        seen.append(hung.hung)
    return seen


@pytest.mark.parametrize("envoys", [1, 4])
@pytest.mark.parametrize(
    ("rate", "takes", "seconds"),
    [
        pytest.param(10.0, 0.1, 3, id="ten a second of 100 ms"),
        pytest.param(50.0, 0.01, 3, id="fifty a second of 10 ms"),
        pytest.param(2.0, 0.5, 8, id="two a second of half a second"),
        pytest.param(1.0, 5.0, 62, id="long streams"),
    ],
)
def test_an_instance_that_ends_nothing_any_more_is_known_to_hang(
    rate: float, takes: float, seconds: int, envoys: int
) -> None:
    """Soon after its answers would have had to end by any measure; nothing hangs before."""
    line = Line()
    line.send(rate, since=0.0, until=30.0, takes=takes)
    line.send(rate, since=30.0, until=100.0, takes=math.inf)

    seen = found(line, until=30.0 + seconds, envoys=envoys)

    assert {0.0} == set(seen[:30])
    assert seen[-1] > 0


@given(
    service=st.floats(0.02, 3.0),
    slots=st.integers(1, 16),
    burst=st.integers(1, 300),
    calm=st.floats(0.0, 0.9),
)
def test_a_queue_in_order_never_hangs(service: float, slots: int, burst: int, calm: float) -> None:
    """However long it grows: what is answered has waited as long as what still waits."""
    line = Line()
    free = [0.0] * slots
    begun = (
        [number * service / slots / calm for number in range(int(20 * slots * calm))]
        if calm
        else []
    )
    for at in [*begun, *([20.0 * service] * burst)]:
        slot = free.index(min(free))
        free[slot] = max(free[slot], at) + service
        line.requests.append((at, free[slot]))

    until = min(max(free), 200.0)

    assert {0.0} >= set(found(line, until=until))


def view_of(*reports: TrafficReport) -> OutcomeView:
    """Return the outcomes after *reports* of one instance and service."""
    book = OutcomeBook()
    for report in reports:
        book.apply(report)
    return finish(book.view_in_steps(now=reports[-1].at))["a", "chat"]


def test_what_hangs_is_counted_as_unanswered_once() -> None:
    """Envoy cuts it at the idle timeout, minutes later, when the instance may long be well."""
    line = Line()
    line.send(10.0, since=0.0, until=10.0, takes=0.1)
    line.send(10.0, since=10.0, until=15.0, takes=math.inf)
    hanging = [line.report(float(second)) for second in range(1, 18)]
    cut = TrafficReport(
        "e", "north", "chat", "a", 300.0, 1.0, 0.0, failed=50.0,
        failures={FailureClass.UNANSWERED: 50.0},
    )  # fmt: skip

    before, after = view_of(*hanging), view_of(*hanging, cut)

    assert pytest.approx(50.0) == before.hung == before.total.unanswered
    assert 0.0 == after.hung
    assert pytest.approx(50.0) == after.total.unanswered


def test_what_hung_and_is_left_by_its_clients_fails_once() -> None:
    """Their patience ends before Envoy's."""
    line = Line()
    line.send(10.0, since=0.0, until=10.0, takes=0.1)
    line.send(10.0, since=10.0, until=15.0, takes=math.inf)
    hanging = [line.report(float(second)) for second in range(1, 18)]
    left = TrafficReport("e", "north", "chat", "a", 40.0, 1.0, 0.0, abandoned=50.0)

    outcomes = view_of(*hanging, left)

    assert (0.0, 50.0, 50.0) == (
        outcomes.hung, outcomes.total.unanswered, outcomes.total.abandoned
    )  # fmt: skip


def test_an_envoy_that_is_new_to_us_brings_no_hung_requests() -> None:
    """What it waits for began at an instant that we do not know."""
    line = Line()
    line.send(1.0, since=0.0, until=20.0, takes=0.1)
    known = [line.report(float(second)) for second in range(1, 20)]
    other = TrafficReport("other", "north", "chat", "a", 19.5, 1.0, 0.0, in_progress=40.0)

    assert 0.0 == view_of(*known, other).hung


def test_an_envoy_that_vanishes_leaves_nothing_that_hangs() -> None:
    """What was under way there has ended with it."""
    waits = TrafficReport("gone", "north", "chat", "a", 1.0, 1.0, 40.0, in_progress=40.0)
    line = Line()
    line.send(10.0, since=0.0, until=60.0, takes=0.1)
    goes_on = [line.report(float(second)) for second in range(1, 31)]

    assert 0.0 == view_of(waits, *goes_on).hung


def test_requests_that_hang_say_nothing_of_a_later_load() -> None:
    """They stay open for minutes; the count grows only by others that join them."""
    line = Line()
    line.send(10.0, since=0.0, until=20.0, takes=0.1)
    line.send(10.0, since=20.0, until=25.0, takes=math.inf)
    line.send(10.0, since=60.0, until=200.0, takes=0.1)

    seen = found(line, until=190.0)

    assert pytest.approx(50.0) == seen[58]
    assert seen[-1] - seen[58] <= 1.0


def test_what_hung_is_no_new_failure_when_it_is_cut() -> None:
    """Minutes after an instance has recovered it costs neither trust nor share."""
    fleet = FleetState(make_config(instances={"a": ("north", "10.1.0.1:8000")}), now=0.0)
    line = Line()
    line.send(10.0, since=0.0, until=10.0, takes=0.1)
    line.send(10.0, since=10.0, until=15.0, takes=math.inf)
    line.send(10.0, since=40.0, until=70.0, takes=0.1)
    for second in range(1, 61):
        fleet.apply(line.report(float(second)), now=float(second))
    cut = TrafficReport(
        "e", "north", "chat", "a", 61.0, 1.0, 10.0, succeeded=10.0, failed=50.0,
        latency_sum=1.0, latency_count=10.0, failures={FailureClass.UNANSWERED: 50.0},
    )  # fmt: skip
    fleet.apply(cut, now=61.0)

    view = fleet.view(now=61.0)

    assert 0.0 == view.traffic["north", "chat", "a"].failures
    assert view.traffic["north", "chat", "a"].in_progress < 2.0
    assert 1.0 == view.instances["a"].trust
