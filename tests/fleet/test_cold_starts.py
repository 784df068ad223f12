"""What can be started and does not answer is asleep; its starts are remembered until it serves."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.errors import ReportError
from controlplane.fleet import FleetState, InstanceView, Phase
from controlplane.fleet.cold_starts import LONGEST_RETRY, RETRY
from controlplane.model import (
    InstanceReport,
    Report,
    ScrapeFailure,
    Signal,
    Source,
    TrafficReport,
    WakeReport,
)
from testbed.fakes.views import make_config, make_instance

WAKE = {"start_up": "60s", "use": "10m"}
EXPIRY = 30.0


class Fleet:
    """An instance `z` that can be started, beside `a`, which is well."""

    def __init__(self, *names: str) -> None:
        self.config = make_config(
            sites=["near"],
            instances=[
                make_instance("a", "near"),
                make_instance("z", "near", address="10.0.0.2:80", wake=WAKE),
                *(make_instance(n, "near", address=f"10.0.1.{i}:80") for i, n in enumerate(names)),
            ],
            steering={"expiry": "30s", "slow_start": "10s"},
        )
        self.state = FleetState(self.config, now=0.0)
        self.now = 0.0

    def see(self, now: float, *reports: Report) -> InstanceView:
        """Apply *reports* beside those of the healthy instance and return what is seen of `z`."""
        while self.now < now - 10.0:
            self.now += 10.0
            self.state.apply(healthy("a", self.now), now=self.now)
        self.now = now
        for each in (healthy("a", now), *reports):
            self.state.apply(each, now=now)
        return self.state.view(now=now).instances["z"]


def healthy(instance: str, at: float) -> InstanceReport:
    """Say that there is nothing to do."""
    return InstanceReport(instance, Source.SCRAPE, at, {Signal.RUNNING: 0.0, Signal.WAITING: 0.0})


def unreadable(at: float) -> ScrapeFailure:
    """Make what a scrape of `z` comes to while nothing runs there."""
    return ScrapeFailure("z", at, "connection refused by 10.0.0.2:80")


def answered(at: float) -> TrafficReport:
    """Make an Envoy's report of good answers of `z`."""
    return TrafficReport("e", "near", "chat", "z", at, 1.0, issued=9.0, succeeded=9.0)


def test_it_is_asleep_once_its_page_cannot_be_read_or_no_report_has_come() -> None:
    """After a restart of the control plane what runs must not be out until it is scraped."""
    assert Fleet().see(1.0).phase is Phase.UNKNOWN
    assert Fleet().see(4.0).phase is Phase.ASLEEP
    view = Fleet().see(1.0, unreadable(1.0))
    assert view.phase is Phase.ASLEEP
    assert "connection refused" in view.reason
    assert view.cold_start is not None
    assert not view.cold_start.pending


def test_what_answers_envoys_is_not_asleep() -> None:
    """Whatever its metrics do."""
    assert Fleet().see(5.0, unreadable(5.0), answered(5.0)).phase is Phase.UNKNOWN


def test_it_falls_asleep_after_its_silence_and_starts_slowly_when_it_is_back() -> None:
    """No trials meanwhile: requests would only fail there."""
    fleet = Fleet()
    assert fleet.see(1.0, healthy("z", 1.0)).phase is Phase.LIVE
    assert fleet.see(20.0, unreadable(20.0)).phase is Phase.STALE
    for now in (1.0 + EXPIRY, 60.0, 300.0, 900.0):
        assert fleet.see(now, unreadable(now)).phase is Phase.ASLEEP
    back = fleet.see(901.0, healthy("z", 901.0))
    assert back.phase is Phase.STARTING
    assert back.cold_start is None
    assert fleet.see(912.0, healthy("z", 912.0)).phase is Phase.LIVE


def test_a_first_start_is_slow_as_well() -> None:
    """Its engine has compiled nothing yet."""
    fleet = Fleet()
    fleet.see(1.0, unreadable(1.0))
    assert fleet.see(70.0, healthy("z", 70.0)).phase is Phase.STARTING


def test_only_instances_that_can_be_started_are_asleep() -> None:
    """All others are as before."""
    fleet = Fleet("b")
    fleet.state.apply(ScrapeFailure("b", 1.0, "refused"), now=1.0)
    fleet.see(40.0)
    assert fleet.state.view(now=40.0).instances["b"].phase is not Phase.ASLEEP


def test_what_is_asleep_freezes_nothing() -> None:
    """It is silent, which says nothing of the network."""
    fleet = Fleet()
    fleet.state.apply(healthy("z", 1.0), now=1.0)
    assert not fleet.state.view(now=100.0).frozen
    fleet.state.apply(healthy("a", 100.0), now=100.0)
    assert fleet.state.view(now=200.0).frozen


@pytest.mark.parametrize(
    ("asked", "now", "pending", "retry_at", "words"),
    [
        ([(10.0, "")], 30.0, True, 130.0, "start requested 20 s ago, which takes some 60 s"),
        ([(10.0, "")], 140.0, False, 130.0, "nothing has reported since"),
        ([(10.0, ""), (200.0, "")], 330.0, False, 440.0, "nothing has reported since"),
        ([(10.0, "status 500")], 30.0, False, 130.0, "its webhook failed 20 s ago: status 500"),
        ([(10.0, "x"), (150.0, "")], 200.0, True, 390.0, "start requested 50 s ago"),
        ([(10.0 * n, "x") for n in range(1, 30)], 300.0, False, 290.0 + LONGEST_RETRY, "failed"),
    ],
)
def test_a_start_is_under_way_overdue_or_failed(
    *, asked: list[tuple[float, str]], now: float, pending: bool, retry_at: float, words: str
) -> None:
    """And asked for again after twice its time, later with each time that it came to nothing."""
    fleet = Fleet()
    view = fleet.see(now, *(WakeReport("z", at, error) for at, error in asked))
    start = view.cold_start
    assert start is not None
    assert start.pending == pending
    assert start.retry_at == retry_at
    assert words in view.reason
    assert 2 * 60.0 > RETRY


def test_serving_ends_what_was_asked_for() -> None:
    """The next sleep starts from nothing."""
    fleet = Fleet()
    fleet.see(10.0, WakeReport("z", 10.0))
    fleet.see(50.0, healthy("z", 50.0))
    again = fleet.see(100.0)
    assert again.phase is Phase.ASLEEP
    assert again.cold_start is not None
    assert again.cold_start.requested_at is None


def test_a_replica_that_comes_ends_the_start_of_what_stands_for_its_group() -> None:
    """Discovered pods of a model at a site, which was scaled to zero."""
    fleet = Fleet()

    def pending(view: InstanceView) -> bool:
        return view.cold_start is not None and view.cold_start.pending

    assert pending(fleet.see(10.0, WakeReport("z", 10.0)))
    fleet.state.reconfigure(Fleet("pod").config, now=40.0)
    fleet.see(41.0, healthy("pod", 41.0))
    after = fleet.see(42.0)
    assert after.cold_start is not None
    assert not pending(after)


@pytest.mark.parametrize(
    "report", [WakeReport("nobody", 1.0), WakeReport("z", 1e6)], ids=["unknown", "future"]
)
def test_impossible_starts_are_refused(report: Any) -> None:
    """As any report."""
    with pytest.raises(ReportError):
        Fleet().see(1.0, report)
