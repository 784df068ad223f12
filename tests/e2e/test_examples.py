"""Every site of every example can start an Envoy."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.config import Config, parse_config
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.resources.build import SnapshotBuilder
from controlplane.steering.plan import Plan
from testbed.processes.envoys import validate

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/fleet.yaml"))


def read(path: Path) -> Config:
    """Read an example's configuration."""
    return parse_config(path.read_text(), file=str(path))


@pytest.mark.envoy
@pytest.mark.parametrize(
    ("path", "site"),
    [
        pytest.param(path, site.name, id=f"{path.parent.name}-{site.name}")
        for path in EXAMPLES
        for site in read(path).sites
    ],
)
async def test_a_stock_envoy_accepts_its_bootstrap(path: Path, site: str) -> None:
    """Envoy's own validation finds nothing."""
    bootstrap = build_bootstrap(read(path), site=site, envoy_id="envoy-1", xds=("127.0.0.1", 18000))
    assert "" == await validate(bootstrap)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_its_resources_break_no_rule(path: Path) -> None:
    """Nothing of an example is left out."""
    plan = Plan(version="empty", at=0.0, assignments={})
    assert () == SnapshotBuilder(read(path)).build(plan).faults
