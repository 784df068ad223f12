"""Levels of a fleet's instances over a window of views."""

from __future__ import annotations

import pytest

from controlplane.fleet import FleetState
from controlplane.fleet.levels import LevelBook
from controlplane.model import InstanceReport, PathReport, Signal, Source
from controlplane.telemetry.levels import Category
from testbed.fakes.views import make_config, make_instance


def test_levels_follow_reports_within_the_window() -> None:
    """Ten seconds of a busy instance, then ten of an idle one: the busy time is forgotten."""
    config = make_config(instances=[make_instance("a", "near", slots=4)])
    fleet, book = FleetState(config, now=0.0), LevelBook()
    assert {} == book.levels()
    seen = []
    for second in range(1, 31):
        now, load = float(second), 1.0 if second <= 10 else 0.0
        signals = {
            Signal.UTILISATION: load,
            Signal.RUNNING: 4.0 * load,
            Signal.COMPLETED: 2.0 * second,
            Signal.LATENCY_SUM: 4.0 * second,
            Signal.LATENCY_COUNT: 2.0 * second,
        }
        fleet.apply(InstanceReport("a", Source.AGENT, now, signals), now=now)
        fleet.apply(PathReport("near", "near", Source.AGENT, now, rtt=0.1), now=now)
        fleet.set_clients({"near": 1})
        book.observe(fleet.view(now=now))
        seen.append(book.levels()["a"])

    busy, idle = seen[9], seen[-1]
    assert pytest.approx(1.0) == busy.l0["utilisation"]
    assert pytest.approx(0.0) == idle.l0["utilisation"]
    assert {
        Category.COMPUTING: 3, Category.COMMUNICATION: 5, Category.SERVICE: 8,
        Category.COMPOSED: 8,
    } == busy.l1  # fmt: skip
    assert 10 == idle.l1[Category.COMPUTING]
    assert (6, 8) == (busy.l2, idle.l2)


def test_an_instance_that_never_spoke_has_no_level_but_the_networks() -> None:
    """What is assumed is not scored."""
    config = make_config(instances=[make_instance("a", "near")])
    book = LevelBook()
    book.observe(FleetState(config, now=0.0).view(now=0.0))

    assert {Category.COMMUNICATION} == set(book.levels()["a"].l1)


def test_a_fleet_at_rest_keeps_one_view() -> None:
    """Each view of thousands of instances is some megabytes; the levels stay those of the last."""
    fleet = FleetState(make_config(instances=[make_instance("a", "near")]), now=0.0)
    book = LevelBook()
    for second in range(1, 4):
        book.observe(fleet.view(now=float(second)))
    before = book.levels()
    book.rest()

    assert 1 == len(book._views)
    assert before == book.levels()
