"""Clients on devices whose battery is low get their own model as the second priority."""

from __future__ import annotations

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2

from controlplane.config import Config
from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.low_battery import LowBatteryViews, put_site_second
from controlplane.xds.snapshot import Snapshot
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from testbed.fakes.fleets import make_plan
from testbed.fakes.views import make_config, make_instance

Place = tuple[str, int, int]
"""Instance, weight and priority."""


def make_fleet() -> Config:
    """Return a fleet with an edge, a cloud and phones."""
    return make_config(
        sites=["edge", "cloud", {"name": "phones", "kind": "device"}],
        instances=[
            make_instance(name, site, address=f"10.0.0.{number}:80")
            for number, (name, site) in enumerate(PLACES.items(), 1)
        ],
    )


def views_of(config: Config, *places: Place) -> dict[str, Snapshot]:
    """Return the views of a plan for the phones."""
    split = {name: (weight, priority) for name, weight, priority in places}
    plan = make_plan(config, {("chat", "phones"): split})
    return dict(SnapshotBuilder(config).build(plan))


def read(resource: Resource) -> tuple[list[Place], int]:
    """Return where an assignment leads, and its overprovisioning in per cent."""
    whole = endpoint_pb2.ClusterLoadAssignment.FromString(
        any_pb2.Any.FromString(resource.body).value
    )
    return [
        (
            each.metadata.filter_metadata["cats"].fields["instance"].string_value,
            each.load_balancing_weight.value,
            group.priority,
        )
        for group in whole.endpoints
        for each in group.lb_endpoints
    ], whole.policy.overprovisioning_factor.value


PLACES = {"e": "edge", "c": "cloud", "own": "phones"}
E, OWN = ("e", 700, 0), ("own", 300, 0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param((E, OWN), [("e", 700, 0), ("own", 300, 1)], id="beside another"),
        pytest.param(
            (OWN, ("c", 1000, 1)), [("c", 1000, 0), ("own", 300, 1)],
            id="alone, with a fallback",
        ),
        pytest.param((OWN,), [("own", 300, 0)], id="alone"),
        pytest.param(
            (E, ("own", 1000, 1)), [("e", 700, 0), ("own", 1000, 1)],
            id="second already",
        ),
        pytest.param(
            (E, ("own", 1000, 1), ("c", 1000, 2)),
            [("e", 700, 0), ("own", 1000, 1), ("c", 1000, 2)],
            id="before a fallback already",
        ),
        pytest.param(
            (E, OWN, ("c", 1000, 1)), [("e", 700, 0), ("own", 300, 1), ("c", 1000, 2)],
            id="beside another, with a fallback",
        ),
        pytest.param((E,), [("e", 700, 0)], id="not there"),
    ],
)  # fmt: skip
def test_its_own_model_comes_after_the_first_priority(
    given: tuple[Place, ...], expected: list[Place]
) -> None:
    """Those of it keep their weights, and answer alone while any does; fallbacks come after it."""
    before = views_of(make_fleet(), *given)["phones"]
    (view,) = LowBatteryViews().build({"phones": before}, ["phones"]).values()

    (resource,) = view.of_type(ENDPOINT).resources.values()
    found, factor = read(resource)

    assert expected == found
    assert factor == (100_000 if len({priority for *_, priority in expected}) > 1 else 0)
    for kind in (CLUSTER, LISTENER, ROUTE):
        assert view.of_type(kind) is before.of_type(kind)


@pytest.mark.parametrize(
    ("given", "marked"),
    [
        pytest.param((E, ("c", 5, 0), OWN), {"e", "c"}, id="shared"),
        pytest.param((E, ("own", 1000, 1)), set(), id="its own comes second"),
        pytest.param((E,), set(), id="without its own"),
    ],
)
def test_retries_leave_out_what_a_device_shares_its_requests_with(
    given: tuple[Place, ...], marked: set[str]
) -> None:
    """They go to its own model; where its battery is low nothing is left out."""
    views = views_of(make_fleet(), *given)
    (low,) = LowBatteryViews().build(views, ["phones"]).values()

    assert marked == marked_in(views["phones"])
    assert set() == marked_in(low)


def marked_in(view: Snapshot) -> set[str]:
    """Return the instances that retries leave out."""
    (resource,) = view.of_type(ENDPOINT).resources.values()
    whole = endpoint_pb2.ClusterLoadAssignment.FromString(
        any_pb2.Any.FromString(resource.body).value
    )
    return {
        each.metadata.filter_metadata["cats"].fields["instance"].string_value
        for group in whole.endpoints
        for each in group.lb_endpoints
        if "envoy.lb" in each.metadata.filter_metadata
    }


def test_a_view_of_an_unchanged_class_is_the_same_object() -> None:
    """So that a cycle which changes nothing sends nothing."""
    views = views_of(make_fleet(), E, OWN)
    derived = LowBatteryViews()

    assert derived.build(views, ["phones"]) == derived.build(views, ["phones"])
    (first,), (second,) = (derived.build(views, ["phones"]).values() for _ in range(2))
    assert first is second
    assert {} == derived.build(views, ["nowhere"])


def test_an_assignment_without_own_endpoints_is_the_very_one() -> None:
    """Nothing is written again for it."""
    (resource,) = views_of(make_fleet(), E)["phones"].of_type(ENDPOINT).resources.values()

    assert put_site_second(resource, "phones") is resource
