"""Snapshots of a plan: what is shared, what changes, what is left out."""

from __future__ import annotations

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config import Affinity
from controlplane.resources.build import UNKNOWN_SITE, SnapshotBuilder
from controlplane.xds.snapshot import Snapshot
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE
from testbed.fakes.fleets import make_config, make_plan

SERVICES = [
    {"name": "chat", "match": [{"path": "/v1/chat"}], "models": [{"name": "m"}]},
    {"name": "paint", "match": [{"path": "/v1/images"}], "models": [{"name": "m"}]},
]
CONFIG = make_config(services=SERVICES)
BUILDER = SnapshotBuilder(CONFIG)
"""For tests that do not care what was built before."""
SPLIT: dict[str, int | tuple[int, int]] = {"north-a": 60, "north-b": 40}


def split_of(snapshot: Snapshot, service: str = "chat") -> dict[str, int]:
    """Read instance -> weight out of a snapshot."""
    packed = any_pb2.Any.FromString(snapshot.of_type(ENDPOINT).resources[service].body)
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(packed.value)
    return {
        each.metadata.filter_metadata["cats"]["instance"]: each.load_balancing_weight.value
        for locality in assignment.endpoints
        for each in locality.lb_endpoints
    }


def test_every_site_and_the_unknown_one_get_all_types() -> None:
    """A view holds listener, routes, and a cluster with endpoints for every service."""
    views = SnapshotBuilder(CONFIG).build(make_plan(CONFIG, {("chat", "north"): SPLIT}))
    assert {"north", "cloud", "phones", UNKNOWN_SITE} == set(views)
    assert () == views.faults
    for snapshot in views.values():
        assert {
            LISTENER: ["inference"],
            ROUTE: ["inference"],
            CLUSTER: ["chat", "paint"],
            ENDPOINT: ["chat", "paint"],
        } == {kind: list(each.resources) for kind, each in snapshot.types.items()}
        assert set(snapshot.types) <= set(PUSH_ORDER)
    assert {"north-a": 60, "north-b": 40} == split_of(views["north"])
    assert {} == split_of(views["cloud"])


def test_the_same_plan_gives_the_very_same_snapshots() -> None:
    """Nothing is built again for a plan that equals the last one."""
    builder = SnapshotBuilder(CONFIG)
    first = builder.build(make_plan(CONFIG, {("chat", "north"): SPLIT}))
    second = builder.build(make_plan(CONFIG, {("chat", "north"): dict(SPLIT)}))
    assert all(first[view] is second[view] for view in first)


def test_two_builders_give_the_same_bytes_and_versions() -> None:
    """Two replicas, or one before and after a restart, agree without talking."""
    plan = make_plan(CONFIG, {("chat", "north"): SPLIT, ("paint", "cloud"): {"cloud-a": 1}})
    assert dict(SnapshotBuilder(CONFIG).build(plan)) == dict(SnapshotBuilder(CONFIG).build(plan))


def test_only_the_endpoints_that_changed_change() -> None:
    """A weight of one service at one site leaves every other resource the same object."""
    builder = SnapshotBuilder(CONFIG)
    weights = {("chat", "north"): SPLIT, ("paint", "north"): SPLIT, ("chat", "cloud"): SPLIT}
    first = builder.build(make_plan(CONFIG, weights))
    second = builder.build(make_plan(CONFIG, {**weights, ("chat", "north"): {"north-a": 1}}))
    assert first["cloud"] is second["cloud"]
    before, after = (views["north"].of_type(ENDPOINT).resources for views in (first, second))
    assert before["paint"] is after["paint"]
    assert before["chat"].version != after["chat"].version
    for kind in (CLUSTER, LISTENER, ROUTE):
        assert first["north"].of_type(kind) is second["north"].of_type(kind)


def test_equal_endpoints_are_one_object_across_views() -> None:
    """Two sites with the same split share its bytes."""
    views = SnapshotBuilder(CONFIG).build(
        make_plan(CONFIG, {("chat", "north"): SPLIT, ("chat", "cloud"): SPLIT})
    )
    north, cloud = (views[site].of_type(ENDPOINT).resources["chat"] for site in ("north", "cloud"))
    assert north is cloud


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param({"north-a": 0}, "weight 0 of 'north-a'", id="weight zero"),
        pytest.param({"no one": 1}, "no instance is called 'no one'", id="unknown instance"),
        pytest.param({"north-a": (1, 0), "north-b": (1, 2)}, "priorities [0, 2]", id="gap"),
    ],
)
def test_refused_endpoints_keep_their_last_good_form(
    bad: dict[str, int | tuple[int, int]], message: str
) -> None:
    """The faulty service stays as it was, the others move on, and the fault is reported."""
    builder = SnapshotBuilder(CONFIG)
    good = builder.build(make_plan(CONFIG, {("chat", "north"): SPLIT}))
    views = builder.build(
        make_plan(CONFIG, {("chat", "north"): bad, ("paint", "north"): {"north-b": 5}})
    )
    kept, was = (each["north"].of_type(ENDPOINT).resources["chat"] for each in (views, good))
    assert was is kept
    assert {"north-b": 5} == split_of(views["north"], "paint")
    fault = views.faults[0]
    assert ("chat", "north", ENDPOINT) == (fault.name, fault.view, fault.type_url)
    assert message in str(fault)


def test_refused_endpoints_without_a_good_form_are_empty() -> None:
    """A service that never had good endpoints answers 503 rather than nothing."""
    views = SnapshotBuilder(CONFIG).build(make_plan(CONFIG, {("chat", "north"): {"north-a": 0}}))
    assert {} == split_of(views["north"])
    assert ["north", UNKNOWN_SITE] == [fault.view for fault in views.faults]


def test_a_static_resource_that_envoy_would_refuse_is_left_out_alone() -> None:
    """Routes with a header that HTTP does not know stop nothing but themselves."""
    chat, paint = CONFIG.services
    odd = chat.model_copy(update={"affinity": Affinity.model_construct(header="a\nheader")})
    config = CONFIG.model_copy(update={"services": (odd, paint)})
    views = SnapshotBuilder(config).build(make_plan(config, {("chat", "north"): SPLIT}))
    assert {ROUTE} == {fault.type_url for fault in views.faults}
    assert "header_name" in str(views.faults[0])
    assert [] == list(views["north"].of_type(ROUTE).resources)
    assert ["chat", "paint"] == list(views["north"].of_type(CLUSTER).resources)
    assert {"north-a": 60, "north-b": 40} == split_of(views["north"])


def test_a_reload_keeps_what_the_new_configuration_would_break() -> None:
    """Envoys go on with the old routes, and get everything else of the new configuration."""
    plan = make_plan(CONFIG, {("chat", "north"): SPLIT})
    old = SnapshotBuilder(CONFIG)
    before = old.build(plan)
    chat, paint = CONFIG.services
    odd = chat.model_copy(update={"affinity": Affinity.model_construct(header="a\nheader")})
    config = CONFIG.model_copy(update={"services": (odd, paint)})
    after = SnapshotBuilder(config, previous=old).build(plan)
    assert {ROUTE} == {fault.type_url for fault in after.faults}
    was, now = (views["north"].of_type(ROUTE).resources for views in (before, after))
    assert dict(was) == dict(now)
    was, now = (views["north"].of_type(CLUSTER).resources for views in (before, after))
    assert was["paint"] == now["paint"]
    assert was["chat"] != now["chat"]


def test_an_unknown_site_gets_the_sites_together_without_devices() -> None:
    """No one knows where such an Envoy is: it gets what all sites get, and no phone's model."""
    views = SnapshotBuilder(CONFIG).build(
        make_plan(
            CONFIG,
            {
                ("chat", "north"): {"north-a": 60, "cloud-a": 40},
                ("chat", "cloud"): {"cloud-a": 100},
                ("chat", "phones"): {"north-a": 10, "local": (100, 1)},
            },
        )
    )
    assert {"north-a": 70, "cloud-a": 140} == split_of(views[UNKNOWN_SITE])


@given(st.dictionaries(st.sampled_from(["north-a", "north-b", "cloud-a"]), st.integers(1, 10**6)))
def test_weights_reach_the_wire_as_they_were_planned(weights: dict[str, int]) -> None:
    """Every instance of a plan, and no other, is an endpoint with exactly its weight."""
    plan = make_plan(CONFIG, {("chat", "north"): dict(weights)})
    assert weights == split_of(BUILDER.build(plan)["north"])
