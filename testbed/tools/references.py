"""Writes the references of docs/ from the code: ``python -m testbed.tools.references``."""

from __future__ import annotations

from pathlib import Path

from controlplane.agent.schema import AgentConfig
from controlplane.cli.reference import reference as commands_reference
from controlplane.config import config_schema
from controlplane.config.json_schema import model_schema
from controlplane.config.reference import reference
from controlplane.controller.metrics import Metrics
from controlplane.controller.metrics import reference as metrics_reference

ROOT = Path(__file__).parents[2]
QUANTITIES = """Durations are written `250ms`, `1s`, `10m`; shares `30%`.
Sizes are written `2MB`, rates `100Mbps`, power `300W`.
A key without a default is optional unless it is marked as required.
"""
CONFIGURATION = f"""# Configuration reference

All keys of `fleet.yaml`, generated from its schema.
`cats check FILE` reports every error with its place; `cats schema` prints the schema for editors.
{QUANTITIES}"""
AGENT = f"""# Agent configuration reference

All keys of `agent.yaml`, which `cats agent -c FILE` reads, generated from its schema.
{QUANTITIES}"""


def references() -> dict[str, str]:
    """Return the text of each page of docs/ that is generated."""
    return {
        "agent.md": reference(model_schema(AgentConfig, title="agent.yaml"), head=AGENT),
        "commands.md": commands_reference(),
        "configuration.md": reference(config_schema(), head=CONFIGURATION),
        "metrics.md": metrics_reference(Metrics()),
    }


if __name__ == "__main__":
    for name, text in references().items():
        (ROOT / "docs" / name).write_text(text, encoding="utf-8")
