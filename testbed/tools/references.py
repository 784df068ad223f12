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
A key without a default may be left out unless it is required.
"""
CONFIGURATION = f"""# Configuration reference

Everything that `fleet.yaml` may say, generated from the schema that reads it.
`cats check FILE` reports every error with its place, and `cats schema` prints the same for editors.
{QUANTITIES}"""
AGENT = f"""# Agent configuration reference

Everything that `agent.yaml` may say, generated from the schema that reads it.
`cats agent -c FILE` uses it.
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
