"""Batteries of a class of devices: who is below the floor, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.fleet import FleetState
from controlplane.fleet.batteries import REMEMBERED, Batteries
from controlplane.model import SiteReport, Source
from testbed.fakes.views import make_config, make_instance


def said(device: str, at: float, charge: float | None) -> SiteReport:
    """Return what one device says of its battery; None is mains."""
    return SiteReport("phones", Source.AGENT, at, battery=charge, reporter=device)


def view_of(batteries: Batteries, now: float) -> tuple[int, int, set[str]]:
    """Return how many report, how many of them run on battery, and which are low."""
    seen = batteries.view(now=now, expiry=30.0)
    return seen.reporting, seen.on_battery, set(seen.low)


def test_a_device_is_low_from_the_floor_down_until_it_is_charged_or_on_mains() -> None:
    """At the floor itself it wavers no more than any other value."""
    batteries = Batteries()
    found = []
    for at, charge in enumerate((0.3, 0.2, 0.19, 0.21, 0.26, 0.1, None, 0.22)):
        batteries.apply(said("a", float(at), charge), floor=0.2)
        found.append(view_of(batteries, float(at)))

    low, high = (1, 1, {"a"}), (1, 1, set[str]())
    assert [high, high, low, low, high, low, (1, 0, set()), high] == found


def test_an_older_word_is_no_news() -> None:
    """Batches may overtake each other."""
    batteries = Batteries()
    batteries.apply(said("a", 5.0, 0.1), floor=0.2)
    batteries.apply(said("a", 4.0, None), floor=0.2)

    assert (1, 1, {"a"}) == view_of(batteries, 5.0)


def test_a_silent_device_stays_low_for_a_while_and_is_counted_no_longer() -> None:
    """A link that is away charges no battery."""
    batteries = Batteries()
    batteries.apply(said("a", 0.0, 0.1), floor=0.2)

    assert (0, 0, {"a"}) == view_of(batteries, 31.0)
    assert (0, 0, set()) == view_of(batteries, REMEMBERED + 1.0)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.none() | st.floats(0.0, 1.0)), min_size=1, max_size=30
    )
)
def test_sums_are_those_of_the_last_words(words: list[tuple[str, float | None]]) -> None:
    """Whatever was said before."""
    batteries = Batteries()
    for at, (device, charge) in enumerate(words):
        batteries.apply(said(device, float(at), charge), floor=0.2)
    last = dict(words)
    charges = [charge for charge in last.values() if charge is not None]

    seen = batteries.view(now=float(len(words)), expiry=100.0)

    assert (len(last), len(charges)) == (seen.reporting, seen.on_battery)
    if charges:
        assert seen.charge == pytest.approx(sum(charges) / len(charges))
    assert {d for d, charge in last.items() if charge is not None and charge < 0.2} <= seen.low


def test_the_fleet_shows_of_a_class_what_part_of_it_is_low() -> None:
    """Devices that say nothing count as charged; an edge's battery is its own."""
    config = make_config(
        sites=[{"name": "phones", "kind": "device", "battery": {"floor": "50%"}}, "edge"],
        instances=[make_instance("own", "phones"), make_instance("e", "edge")],
    )
    fleet = FleetState(config, now=0.0)
    fleet.set_clients({"phones": 8})
    for device, charge in (("a", 0.4), ("b", 0.3), ("c", 0.9), ("d", None)):
        fleet.apply(said(device, 1.0, charge), now=1.0)
    fleet.apply(SiteReport("edge", Source.AGENT, 1.0, battery=0.1, reporter="x"), now=1.0)

    view = fleet.view(now=1.0)
    own = view.instances["own"]

    assert view.batteries["phones"].low == {"a", "b"}
    assert (own.copies, own.low_battery) == (6, 0.25)
    assert own.on_battery == pytest.approx(1 / 6)
    assert view.battery["phones"].value == pytest.approx(1.6 / 3)
    assert view.battery["edge"].value == pytest.approx(0.1)
    assert view.instances["e"].low_battery == 0.0
