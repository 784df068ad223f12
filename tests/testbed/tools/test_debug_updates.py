"""The probe's switch changes what it names, at once, and nothing else."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from controlplane.xds.snapshot import Snapshot, TypeSnapshot, make_resource
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, Resource
from testbed.tools.debug_updates import DebugUpdates, Overlay, apply_overlay


def wrapped(name: str, message: Message) -> Resource:
    """Return *message* as a resource."""
    body = any_pb2.Any()
    body.Pack(message)
    return make_resource(name, body.SerializeToString())


def assignment(name: str) -> Resource:
    """Return two endpoints."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    for weight in (10, 20):
        message.endpoints.add().lb_endpoints.add().load_balancing_weight.value = weight
    return wrapped(name, message)


def cluster(name: str) -> Resource:
    """Return a cluster."""
    return wrapped(name, cluster_pb2.Cluster(name=name))


SNAPSHOT = Snapshot(
    {
        CLUSTER: TypeSnapshot.of([cluster("chat"), cluster("paint")]),
        ENDPOINT: TypeSnapshot.of([assignment("chat"), assignment("paint")]),
        LISTENER: TypeSnapshot.of([make_resource("inference", b"")]),
    }
)


def weights(snapshot: Snapshot, name: str) -> list[int]:
    """Read the weights of a cluster back."""
    message = endpoint_pb2.ClusterLoadAssignment()
    body = any_pb2.Any.FromString(snapshot.of_type(ENDPOINT).resources[name].body)
    body.Unpack(message)
    return [
        e.load_balancing_weight.value
        for locality in message.endpoints
        for e in locality.lb_endpoints
    ]


def test_a_weight_goes_to_every_endpoint_of_the_named_cluster() -> None:
    """The others stay the very same objects."""
    views = apply_overlay(Overlay(weights={"chat": 7}), {"north": SNAPSHOT, "": SNAPSHOT})

    assert [7, 7] == weights(views["north"], "chat")
    assert [10, 20] == weights(views["north"], "paint")
    before, after = SNAPSHOT.of_type(ENDPOINT), views["north"].of_type(ENDPOINT)
    assert before.resources["paint"] is after.resources["paint"]
    assert views[""].of_type(ENDPOINT).resources["chat"] is after.resources["chat"]
    assert before.version != after.version


def test_a_cluster_change_leaves_endpoints_alone() -> None:
    """So that a probe can see what the server does about warming."""
    changed = apply_overlay(Overlay(timeouts_ms={"all": 1500}), {"": SNAPSHOT})[""]

    assert SNAPSHOT.of_type(ENDPOINT) == changed.of_type(ENDPOINT)
    assert SNAPSHOT.of_type(CLUSTER).version != changed.of_type(CLUSTER).version


@pytest.mark.parametrize(
    ("path", "status", "overlay"),
    [
        pytest.param("/debug/update?weight=5", 200, Overlay(weights={"all": 5}), id="all"),
        pytest.param(
            "/debug/update?cluster=chat&weight=5", 200, Overlay(weights={"chat": 5}), id="one"
        ),
        pytest.param(
            "/debug/cluster?connect_timeout_ms=9", 200, Overlay(timeouts_ms={"all": 9}), id="cds"
        ),
        pytest.param("/debug/clear", 200, Overlay(), id="clear"),
        pytest.param("/debug/update?weight=0", 400, Overlay(), id="Envoy refuses 0"),
        pytest.param("/debug/update?weight=x", 400, Overlay(), id="no number"),
    ],
)
async def test_each_change_is_published_at_once(path: str, status: int, overlay: Overlay) -> None:
    """When the answer comes, the change is on its way to the Envoys."""
    published: list[Overlay] = []
    updates = DebugUpdates(lambda: published.append(updates.overlay))
    application = web.Application()
    application.add_routes(updates.routes())

    async with TestClient(TestServer(application)) as client:
        answer = await client.get(path)

    assert status == answer.status
    assert overlay == updates.overlay
    assert ([overlay] if status == 200 else []) == published


async def test_a_foreign_page_cannot_trigger_it() -> None:
    """A link on a page somewhere changes nothing."""
    updates = DebugUpdates(lambda: None)
    application = web.Application()
    application.add_routes(updates.routes())

    async with TestClient(TestServer(application)) as client:
        answer = await client.get(
            "/debug/update?weight=5", headers={"Sec-Fetch-Site": "cross-site"}
        )

    assert (403, Overlay()) == (answer.status, updates.overlay)
