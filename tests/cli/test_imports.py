"""Commands load what they need: a tool that people and scripts run often must answer at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FLEET = Path(__file__).parents[2] / "examples" / "quickstart" / "fleet.yaml"
CLIENT = {
    "aiohttp": "nothing is served or asked over HTTP",
    "envoy_data_plane": "no message is built; it takes a second to load",
    "envoy": "no message is built",
    "grpc": "nothing is called",
    "numpy": "nothing is decided",
    "prometheus_client": "nothing is measured",
    "controlplane.controller": "nothing is controlled",
    "controlplane.fleet": "no report is read",
    "controlplane.steering": "nothing is decided",
    "controlplane.xds": "nothing is served",
}
"""Module and why a command that reads the configuration alone does without it."""
NOTHING = {
    **CLIENT,
    "pydantic": "no configuration is read",
    "rich": "nothing is drawn",
    "structlog": "nothing is logged",
    "yaml": "no configuration is read",
    "controlplane.config": "no configuration is read",
}
COMMANDS = {
    "--help": NOTHING,
    "serve --help": NOTHING,
    "check --help": NOTHING,
    "simulate --help": NOTHING,
    f"check {FLEET}": CLIENT,
    "schema": CLIENT,
    f"bootstrap -c {FLEET} --site office --id e": CLIENT,
}
RUN = """\
import json, sys
from controlplane.cli import cats
try:
    cats(sys.argv[1:], prog_name="cats", standalone_mode=False)
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.replace(str(FLEET), "F"))
def test_a_command_loads_only_what_it_needs(command: str) -> None:
    """The modules that it must not load, each with the reason why it does not need them."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command.split()],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))

    assert {} == {name: why for name, why in COMMANDS[command].items() if name in loaded}
