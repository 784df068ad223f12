"""Devices in the simulator: their links and batteries over time."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2

from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.low_battery import LowBatteryViews
from controlplane.sim.devices import (
    GRACE,
    Device,
    DeviceSpec,
    Spans,
    draw_spans,
    lies_within,
    merge_spans,
    next_start,
    put_own_second,
)
from controlplane.sim.engine_spec import EngineLoad, EngineSpec
from controlplane.sim.kernel import Kernel
from controlplane.sim.token_engine import build_engine
from controlplane.xds.types import ENDPOINT
from testbed.fakes.fleets import make_plan
from testbed.fakes.views import make_config, make_instance

SPEC = EngineSpec(1, speed=0.5)


def make_device(spec: DeviceSpec) -> Device:
    """Return a device with a floor of a half that charges a tenth a second on mains."""
    load = EngineLoad([], [], [], [])
    engine = build_engine(
        0, spec.engine, Kernel(), load, finish=lambda *_: None, lapse=lambda *_: None
    )
    return Device("phone-1", spec, engine, column=0, floor=0.5, recharge=0.1)


@pytest.mark.parametrize(("share", "length"), [(0.2, 15.0), (0.5, 3.0), (0.8, 30.0)])
def test_spans_take_their_share_of_the_time(share: float, length: float) -> None:
    """And last as long as they should, in the mean."""
    spans = draw_spans(np.random.default_rng(1), share=share, length=length, until=1e5)
    times = [end - start for start, end in spans]

    assert sum(times) / 1e5 == pytest.approx(share, rel=0.05)
    assert np.mean(times) == pytest.approx(length, rel=0.05)


@pytest.mark.parametrize(("share", "expected"), [(0.0, ()), (1.0, ((0.0, inf),))])
def test_a_link_is_always_or_never_away(share: float, expected: Spans) -> None:
    """Nothing is drawn."""
    assert draw_spans(np.random.default_rng(1), share=share, length=1.0, until=9.0) == expected


def test_spans_are_found_and_merged() -> None:
    """An end is outside."""
    spans = merge_spans(((1.0, 3.0), (8.0, 9.0)), ((2.0, 5.0),))

    assert ((1.0, 5.0), (8.0, 9.0)) == spans
    found = [lies_within(spans, now) for now in (0.9, 1.0, 4.9, 5.0, 8.5, 9.0)]
    assert [False, True, True, False, True, False] == found
    assert [1.0, 8.0, 8.0, inf] == [next_start(spans, now) for now in (0.0, 1.0, 7.9, 8.0)]


def test_work_takes_charge_off_mains_and_mains_bring_it_back() -> None:
    """A second of work at half the speed is two seconds of drain."""
    device = make_device(DeviceSpec(SPEC, charge=0.6, drain=0.1, mains=((10.0, 12.0),)))
    device.charge_up(1.0)
    on_battery = device.spend(1.0, 1.0, chosen=True)

    assert on_battery
    assert device.charge == pytest.approx(0.4)
    assert device.is_low(1.0)
    device.charge_up(10.0)
    device.charge_up(11.5)
    assert not device.spend(11.5, 1.0, chosen=True)
    assert device.charge == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("after", "chosen", "linked", "broken"),
    [
        pytest.param(GRACE + 0.1, True, True, 1, id="chosen in spite of it"),
        pytest.param(GRACE - 0.1, True, True, 0, id="not known yet"),
        pytest.param(GRACE + 0.1, False, True, 0, id="all others failed"),
        pytest.param(GRACE + 0.1, True, False, 0, id="without a link"),
    ],
)
def test_a_limit_is_broken_where_something_else_could_have_answered(
    after: float, chosen: bool, linked: bool, broken: int
) -> None:
    """Below the floor for long enough."""
    device = make_device(DeviceSpec(SPEC, charge=0.4, drain=0.01))
    device.charge_up(5.0)
    device.linked = linked
    device.spend(5.0 + after, 1.0, chosen=chosen)

    assert device.broken == broken


@pytest.mark.parametrize(
    "split",
    [
        {"e": (700, 0), "own": (300, 0)},
        {"own": (300, 0), "c": (1000, 1)},
        {"own": (300, 0)},
        {"e": (700, 0), "own": (1000, 1)},
        {"e": (700, 0), "own": (300, 0), "c": (5, 1)},
        {"e": (700, 0)},
    ],
    ids=str,
)
def test_a_low_device_gets_what_its_envoy_would(split: dict[str, tuple[int, int]]) -> None:
    """The simulator's weights are those of the resource that is made for it."""
    places = {"e": "edge", "c": "cloud", "own": "phones"}
    config = make_config(
        sites=["edge", "cloud", {"name": "phones", "kind": "device"}],
        instances=[
            make_instance(name, site, address=f"10.0.0.{number}:80")
            for number, (name, site) in enumerate(places.items(), 1)
        ],
    )
    views = SnapshotBuilder(config).build(make_plan(config, {("chat", "phones"): split}))
    (view,) = LowBatteryViews().build(dict(views), ["phones"]).values()
    (resource,) = view.of_type(ENDPOINT).resources.values()
    whole = endpoint_pb2.ClusterLoadAssignment.FromString(
        any_pb2.Any.FromString(resource.body).value
    )
    names = list(places)
    sent = {
        (
            names.index(each.metadata.filter_metadata["cats"].fields["instance"].string_value),
            each.load_balancing_weight.value,
            group.priority,
        )
        for group in whole.endpoints
        for each in group.lb_endpoints
    }

    given = [(names.index(name), *place) for name, place in split.items()]
    assert sent == set(put_own_second(given, names.index("own")))
