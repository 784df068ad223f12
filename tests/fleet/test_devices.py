"""A class of devices: the mean over those that are there."""

from __future__ import annotations

import pytest

from controlplane.errors import ReportError
from controlplane.fleet import FleetState, Phase
from controlplane.fleet.devices import Devices
from controlplane.model import InstanceReport, Signal, Source, TrafficReport
from testbed.fakes.views import make_config, make_instance


def said(
    device: str, at: float, running: float, *, ready: bool = True, done: float = 0.0
) -> InstanceReport:
    """Return a report of one device."""
    signals = {Signal.RUNNING: running, Signal.COMPLETED: done}
    return InstanceReport("on-device", Source.AGENT, at, signals, ready=ready, reporter=device)


def test_gauges_are_averaged_over_the_devices_that_are_there() -> None:
    """The newest word of each counts; one that fell silent does not; counters are no one's."""
    devices = Devices()
    devices.merge(said("a", 1.0, 2.0), oldest=-29.0)
    devices.merge(said("b", 2.0, 4.0), oldest=-28.0)
    both = devices.merge(said("a", 3.0, 0.0, done=9.0), oldest=-27.0)
    later = devices.merge(said("c", 32.5, 1.0), oldest=2.5)

    assert {Signal.RUNNING: 2.0} == both.signals
    assert {Signal.RUNNING: 0.5} == later.signals
    assert 2 == len(devices)


def test_one_device_that_is_not_ready_does_not_speak_for_all() -> None:
    """The class is ready while any device is."""
    devices = Devices()
    devices.merge(said("a", 1.0, 1.0), oldest=0.0)

    assert devices.merge(said("b", 2.0, 1.0, ready=False), oldest=0.0).ready
    assert not devices.merge(said("a", 3.0, 1.0, ready=False), oldest=0.0).ready


def make_fleet() -> FleetState:
    """Return a fleet with a class of phones that lists no single one."""
    config = make_config(
        sites=[{"name": "phones", "kind": "device"}, "cloud"],
        instances=[make_instance("on-device", "phones"), make_instance("far", "cloud")],
    )
    return FleetState(config, now=0.0)


def test_devices_share_one_instance_and_none_is_listed() -> None:
    """A thousand phones report, out of order and in the same instant; the class is known."""
    fleet = make_fleet()
    for number in range(1000):
        fleet.apply(said(f"phone-{number}", 5.0 - (number % 7) * 0.01, number % 3), now=5.0)

    view = fleet.view(now=20.0).instances["on-device"]

    assert Phase.EXPIRED is not view.phase
    assert pytest.approx(1.0, abs=0.01) == view.readings[Signal.RUNNING].value


def test_one_mad_device_costs_only_itself() -> None:
    """Its reports are refused; the class is not quarantined for it."""
    fleet = make_fleet()
    fleet.apply(said("sane", 1.0, 2.0), now=1.0)
    for number in range(20):
        with pytest.raises(ReportError):
            fleet.apply(said("mad", 2.0 + number, -5.0), now=2.0 + number)
    fleet.apply(said("sane", 22.0, 3.0), now=22.0)

    view = fleet.view(now=22.0).instances["on-device"]

    assert Phase.QUARANTINED is not view.phase
    assert 3.0 == view.readings[Signal.RUNNING].value


def test_a_class_counts_for_as_many_as_there_are_devices() -> None:
    """Connected Envoys first, else the agents that reported; one machine elsewhere is one."""
    fleet = make_fleet()
    unheard = fleet.view(now=0.0).instances["on-device"].copies
    for number in range(3):
        fleet.apply(said(f"phone-{number}", 1.0, 0.0), now=1.0)
    by_agents = fleet.view(now=1.0).instances["on-device"].copies
    fleet.set_clients({"phones": 5, "cloud": 7})
    view = fleet.view(now=1.0).instances

    assert (1, 3, 5) == (unheard, by_agents, view["on-device"].copies)
    assert 1 == view["far"].copies


@pytest.mark.parametrize(
    ("interval", "late", "instance", "site", "believed"),
    [
        pytest.param(1.0, 0.0, "far", "phones", 5.0, id="linked"),
        pytest.param(20.0, 0.0, "far", "phones", 0.0, id="counted while its link was away"),
        pytest.param(1.0, 19.0, "far", "phones", 0.0, id="held back while its link was away"),
        pytest.param(20.0, 0.0, "on-device", "phones", 5.0, id="its own model needs no link"),
        pytest.param(20.0, 0.0, "far", "cloud", 5.0, id="no device"),
    ],
)
def test_what_failed_while_a_link_was_away_is_not_held_against_instances(
    interval: float, late: float, instance: str, site: str, believed: float
) -> None:
    """The requests that were answered count all the same, and so does the demand."""
    fleet = make_fleet()
    report = TrafficReport(
        "phone-1", site, "chat", instance, 30.0, interval,
        issued=12.0, succeeded=7.0, failed=5.0, late=late,
    )  # fmt: skip
    fleet.apply(report, now=30.0)

    view = fleet.view(now=30.0)
    outcomes = view.outcomes[instance, "chat"].total

    assert (7.0, believed) == (outcomes.answered, outcomes.failed)
    assert (believed > 0) == (view.traffic[site, "chat", instance].failures > 0)
    assert pytest.approx(12.0 / interval) == view.demand[site, "chat"].value
