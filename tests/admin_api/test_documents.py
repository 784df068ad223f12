"""Documents of the API that have no other test of their own."""

from __future__ import annotations

from controlplane.admin_api.client_documents import encode_agents
from controlplane.grpc_services.agent_registry import AgentRecord, AgentRegistry


def test_connected_agents_are_listed_by_id() -> None:
    """With what each reported and how it went; one that left is gone."""
    registry = AgentRegistry()
    for stream, name in enumerate(("b", "a", "c")):
        record = AgentRecord(name, "north", "0.1.0", f"ipv4:10.0.0.{stream}", 1.0, 2.0)
        registry.connect(stream, record)
    registry.agents[1].accepted = 7
    registry.agents[1].refused = 1
    registry.agents[1].last_refusal = "x: is unknown"
    assert registry.disconnect(2) is not None
    assert registry.disconnect(2) is None

    document = encode_agents(registry.agents, now=3.0, epoch=100.0)

    assert 103.0 == document["at"]
    assert ["a", "b"] == [each["id"] for each in document["agents"]]
    first = document["agents"][0]
    assert (101.0, 102.0, 7, 1) == (
        first["connected_at"],
        first["last_report_at"],
        first["reports_accepted"],
        first["reports_rejected"],
    )
    assert "x: is unknown" == first["last_rejection"]
