"""Every example starts as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.config import parse_config
from testbed.demo.world import build_world

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/fleet.yaml"))


@pytest.mark.parametrize("fleet", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_has_no_fault_and_a_readme(fleet: Path) -> None:
    """The checker accepts it, and its folder says what it shows."""
    config = parse_config(fleet.read_text(), file=str(fleet))

    assert config.instances
    assert (fleet.parent / "README.md").read_text().startswith("# ")


def test_the_demo_runs_a_fleet_without_fault() -> None:
    """Moving the example to free ports leaves it valid."""
    world = build_world()

    config = parse_config(world.fleet_yaml(), file="fleet.yaml")

    assert set(world.instances) == {instance.name for instance in config.instances}
