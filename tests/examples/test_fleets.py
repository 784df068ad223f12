"""Every example starts as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from controlplane.cli import cats
from controlplane.config import parse_config
from testbed.demo.world import build_world

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*/fleet.yaml"))


@pytest.mark.parametrize("fleet", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_has_no_fault_and_a_readme(fleet: Path) -> None:
    """The checker accepts it, and its folder says what it shows."""
    config = parse_config(fleet.read_text(), file=str(fleet))

    assert config.instances
    assert (fleet.parent / "README.md").read_text().startswith("# ")


def test_the_demo_runs_a_fleet_without_fault() -> None:
    """Moving the example to free ports leaves it valid."""
    world = build_world()

    config = parse_config(world.fleet_yaml(Path("/dev/stdout")), file="fleet.yaml")

    assert set(world.instances) == {instance.name for instance in config.instances}


SHOWN = sorted(
    line
    for readme in ROOT.glob("examples/*/README.md")
    for line in readme.read_text(encoding="utf-8").splitlines()
    if re.match(r"cats (check|plan|bootstrap) .*examples/", line)
)


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_that_an_example_shows_works(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is written, from the root of the repository; what it writes goes elsewhere."""
    monkeypatch.chdir(ROOT)
    words = line.replace("/etc/cats", str(tmp_path)).split()[1:]

    result = CliRunner().invoke(cats, words)

    assert 0 == result.exit_code, result.output
    assert "Traceback" not in result.output
