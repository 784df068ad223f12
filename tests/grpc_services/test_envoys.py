"""The books of who is connected."""

from __future__ import annotations

from controlplane.admin_api.client_documents import GONE_SHOWN, encode_envoys
from controlplane.grpc_services.envoys import MAX_GONE, EnvoyRegistry
from controlplane.grpc_services.requests import Node


def test_clients_are_counted_by_site() -> None:
    """One client with two streams is one client; one that moves is counted where it is."""
    registry = EnvoyRegistry()
    node = Node("e1")
    first = registry.connect(node, site="north", known_site=True, delta=True, now=0.0)
    second = registry.connect(node, site="north", known_site=True, delta=False, now=1.0)
    registry.connect(Node("e2"), site="south", known_site=True, delta=True, now=1.0)
    assert {"north": 1, "south": 1} == registry.clients
    registry.disconnect(first, now=2.0)
    assert {"north": 1, "south": 1} == registry.clients
    registry.connect(node, site="south", known_site=True, delta=True, now=3.0)
    assert {"south": 2} == registry.clients
    registry.disconnect(second, now=4.0)

    assert {"south": 2} == registry.clients


def test_those_who_left_are_remembered_up_to_a_bound() -> None:
    """Names come from clients, so they are not kept without end; the connected always are."""
    registry = EnvoyRegistry()
    registry.connect(Node("stays"), site="", known_site=False, delta=True, now=0.0)
    for number in range(MAX_GONE + 5):
        stream = registry.connect(
            Node(f"e{number}"), site="", known_site=False, delta=True, now=float(number)
        )
        registry.disconnect(stream, now=float(number))
    ids = [envoy.id for envoy in registry.envoys]

    assert MAX_GONE + 1 == len(ids)
    assert "stays" in ids
    assert "e4" not in ids
    assert {"": 1} == registry.clients


def test_those_who_left_are_reported_the_last_one_first() -> None:
    """When each left, up to a bound; who comes back is among the connected again."""
    registry = EnvoyRegistry()
    for number in range(GONE_SHOWN + 3):
        stream = registry.connect(
            Node(f"e{number}"), site="north", known_site=True, delta=True, now=0.0
        )
        registry.disconnect(stream, now=float(number))
    registry.connect(Node("e0"), site="north", known_site=True, delta=True, now=100.0)

    document = encode_envoys(registry.envoys, now=100.0, epoch=1000.0)

    last = GONE_SHOWN + 2
    assert ["e0"] == [item["id"] for item in document["envoys"]]
    assert {
        "id": f"e{last}", "site": "north", "role": "envoy", "gone_at": 1000.0 + last
    } == document["gone"][0]  # fmt: skip
    assert (GONE_SHOWN, 2) == (len(document["gone"]), document["gone_left_out"])
