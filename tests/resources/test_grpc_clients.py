"""Views of gRPC clients as values; that gRPC takes them is tested with the real one."""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2

from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.grpc_clients import GrpcViews
from controlplane.xds.snapshot import Snapshot, view_key
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.fakes.fleets import make_config, make_plan

NORTH = view_key("north", "grpc")


def assignment(snapshot: Snapshot, name: str = "chat") -> endpoint_pb2.ClusterLoadAssignment:
    """Read a service's endpoints."""
    body = any_pb2.Any.FromString(snapshot.of_type(ENDPOINT).resources[name].body)
    return endpoint_pb2.ClusterLoadAssignment.FromString(body.value)


def test_every_endpoint_has_a_locality_of_its_own_that_takes_its_weight() -> None:
    """Two endpoints of a site differ by sub-zone, and priorities are kept."""
    config = make_config()
    plan = make_plan(
        config, {("chat", "north"): {"north-a": 3, "north-b": 5, "cloud-a": (7, 1)}}
    )  # fmt: skip
    views = SnapshotBuilder(config).build(plan)
    derived = GrpcViews(config).build(views, ["north"])
    groups = assignment(derived[NORTH]).endpoints
    found = [
        (
            each.locality.region,
            each.locality.sub_zone,
            each.load_balancing_weight.value,
            each.priority,
            [e.endpoint.address.socket_address.address for e in each.lb_endpoints],
        )
        for each in groups
    ]

    assert [
        ("eu-north", "north/north-a", 3, 0, ["10.1.0.1"]),
        ("eu-north", "north/north-b", 5, 0, ["10.1.0.2"]),
        ("eu-west", "cloud/cloud-a", 7, 1, ["10.2.0.1"]),
    ] == found


def test_each_service_has_the_four_resources_that_its_clients_ask_for() -> None:
    """All are named after the service, the listener included."""
    config = make_config()
    views = SnapshotBuilder(config).build(make_plan(config, {}))
    derived = GrpcViews(config).build(views, ["north", ""])

    assert {NORTH, "@grpc"} == derived.keys()
    for type_url in (LISTENER, ROUTE, CLUSTER, ENDPOINT):
        assert ["chat"] == list(derived[NORTH].of_type(type_url).resources)


def test_an_affinity_is_a_ring_for_grpc_clients() -> None:
    """It is the one hash that both gRPC and the weights of localities know."""
    service = {
        "name": "chat",
        "match": [{"path": "/v1/chat"}],
        "models": [{"name": "m"}],
        "affinity": {"header": "X-Session"},
    }
    config = make_config(services=[service])
    views = SnapshotBuilder(config).build(make_plan(config, {}))
    snapshot = GrpcViews(config).build(views, ["north"])[NORTH]
    body = any_pb2.Any.FromString(snapshot.of_type(CLUSTER).resources["chat"].body)
    cluster = cluster_pb2.Cluster.FromString(body.value)

    assert cluster_pb2.Cluster.RING_HASH == cluster.lb_policy


def test_what_did_not_change_keeps_its_object() -> None:
    """An equal plan gives the very snapshot from before, and another service's endpoints stay."""
    services = [
        {"name": name, "match": [{"path": f"/{name}"}], "models": [{"name": "m"}]}
        for name in ("chat", "paint")
    ]
    config = make_config(services=services)
    builder, derived = SnapshotBuilder(config), GrpcViews(config)

    def build(weight: int) -> Snapshot:
        weights = {
            ("chat", "north"): {"north-a": weight, "north-b": 5},
            ("paint", "north"): {"north-a": 1},
        }
        return derived.build(builder.build(make_plan(config, weights)), ["north"])[NORTH]

    first, same, changed = build(1), build(1), build(2)

    assert first is same
    assert first is not changed
    endpoints = [each.of_type(ENDPOINT).resources for each in (first, changed)]
    assert endpoints[0]["paint"] is endpoints[1]["paint"]
    assert endpoints[0]["chat"] is not endpoints[1]["chat"]
