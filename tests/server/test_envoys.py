"""The books of who is connected."""

from __future__ import annotations

from controlplane.server.envoys import MAX_GONE, EnvoyRegistry
from controlplane.server.wire import Node


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
