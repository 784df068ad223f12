"""The agent's file is read in a process of its own, with nothing lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.agent.config_file import read_agent_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent" / "agent.yaml"

READ = """\
import dataclasses, json, sys
from pathlib import Path
from controlplane.agent.config_file import read_apart
from controlplane.errors import ControlPlaneError
try:
    said = dataclasses.asdict(read_apart(Path(sys.argv[1])))
except ControlPlaneError as error:
    said = [type(error).__name__, str(error)]
print(json.dumps([said, "pydantic" in sys.modules]))
"""


def read(path: Path) -> list[object]:
    """Read a file in a process without threads: what it says, and whether pydantic came along."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    said: list[object] = json.loads(done.stdout)
    return said


def test_what_the_child_read_is_what_the_file_says() -> None:
    """Every value crosses, and what read them stays behind."""
    said, heavy = read(EXAMPLE)
    here = read_agent_config(EXAMPLE)

    assert isinstance(said, dict)
    assert here.id == said["id"]
    assert [one.scrape.url for one in here.instances] == [
        one["scrape"]["url"] for one in said["instances"]
    ]
    assert not heavy


@pytest.mark.parametrize(
    ("text", "words"),
    [("version: 2\n", "a.yaml:1:10: version"), (None, "a.yaml")],
    ids=["wrong", "absent"],
)
def test_faults_cross_with_their_places(tmp_path: Path, text: str | None, words: str) -> None:
    """As if the file had been read here."""
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text)
    said, _ = read(path)

    assert isinstance(said, list)
    assert "ConfigError" == said[0]
    assert words in said[1]
