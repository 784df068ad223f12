"""A view is made in steps, and what is reported between two of them harms nothing."""

from __future__ import annotations

from controlplane.config import (
    Config,
    Instance,
    Match,
    Model,
    Service,
    ServiceModel,
    Site,
    SiteKind,
)
from controlplane.fleet import FleetState, FleetView
from controlplane.fleet.state import STEP
from controlplane.fleet.steps import collect, finish
from controlplane.model import InstanceReport, Signal, Source, TrafficReport

COUNT = 3 * STEP + 1
CONFIG = Config(
    version=1,
    sites=(Site(name="north", kind=SiteKind.EDGE),),
    models=(Model(name="m"),),
    services=(Service(name="chat", match=(Match(path="/c"),), models=(ServiceModel(name="m"),)),),
    instances=tuple(
        Instance(name=f"i{n}", site="north", address=f"10.0.{n // 250}.{n % 250}:80", model="m")
        for n in range(COUNT)
    ),
)


def report(fleet: FleetState, at: float, *, instances: int = COUNT) -> None:
    """Have the first of the instances and an Envoy report."""
    for name in (f"i{n}" for n in range(instances)):
        counters = {Signal.RUNNING: at, Signal.COMPLETED: 3 * at}
        fleet.apply(InstanceReport(name, Source.SCRAPE, at, counters), now=at)
        seen = TrafficReport("e", "north", "chat", name, at, 1.0, 3.0, succeeded=3.0)
        fleet.apply(seen, now=at)


def test_a_large_fleet_is_looked_at_in_many_steps() -> None:
    """No step looks at more than `STEP` instances, and each is looked at twice at least."""
    fleet = FleetState(CONFIG, now=0.0)
    report(fleet, 1.0)

    pauses = list(fleet.view_in_steps(now=1.5))

    assert len(pauses) >= 2 * COUNT / STEP


def test_reports_between_two_steps_are_in_this_view_or_in_the_next() -> None:
    """Known instances speak again and others for the first time, at every pause."""
    fleet = FleetState(CONFIG, now=0.0)
    report(fleet, 1.0, instances=COUNT // 2)
    steps = fleet.view_in_steps(now=1.5)
    at, view = 1.5, None
    while view is None:
        try:
            next(steps)
        except StopIteration as end:
            view = end.value
        at += 0.01
        report(fleet, at)

    assert isinstance(view, FleetView)
    assert list(view.instances) == [each.name for each in sorted(CONFIG.instances, key=_name)]
    assert all(0.0 <= each.confidence <= 1.0 for each in view.instances.values())
    newest = fleet.view(now=at).instances.values()
    assert {at} == {each.readings[Signal.RUNNING].value for each in newest}


def test_pairs_keep_their_order_and_nothing_is_left_out() -> None:
    """A last step may be smaller than the others, or none."""
    for count in range(8):
        pairs = [(n, -n) for n in range(count)]
        assert dict(pairs) == finish(collect(pairs, size=3))
        assert -(-count // 3) == len(list(collect(pairs, size=3)))


def _name(instance: Instance) -> str:
    return instance.name
