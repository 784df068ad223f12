"""The example of an agent is valid as it is."""

from __future__ import annotations

from pathlib import Path

from controlplane.agent.parse import parse_agent_config

FILE = Path(__file__).parents[2] / "examples" / "agent" / "agent.yaml"


def test_the_agents_example_has_no_fault() -> None:
    """And shows each section once."""
    config = parse_agent_config(FILE.read_text(), file=str(FILE))

    assert config.instances
    assert config.probes.targets
    assert config.orca
