"""``cats bootstrap``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from controlplane.cli import cats
from testbed.processes.envoys import validate

FLEET = Path(__file__).parents[1] / "config" / "fleet.yaml"


def run(*arguments: str, fleet: Path = FLEET) -> Result:
    """Run the command on a good configuration."""
    return CliRunner().invoke(cats, ["bootstrap", "-c", str(fleet), *arguments])


def test_it_names_the_envoy_its_site_and_the_control_planes() -> None:
    """Options arrive in the text, the first control plane and its stand-in in one priority."""
    result = run(
        *("--site", "edge-north", "--id", "gw", "--admin-port", "7"),
        *("--xds", "10.0.0.1:18000", "--xds", "[fd00::1]:18001"),
    )
    assert (0, "") == (result.exit_code, result.stderr)
    got: dict[str, Any] = yaml.safe_load(result.stdout)
    (cluster,) = got["static_resources"]["clusters"]
    (locality,) = cluster["load_assignment"]["endpoints"]
    addresses = [each["endpoint"]["address"]["socket_address"] for each in locality["lb_endpoints"]]
    assert ("gw", "edge-north") == (got["node"]["id"], got["node"]["metadata"]["site"])
    assert 7 == got["admin"]["address"]["socket_address"]["port_value"]
    assert "DELTA_GRPC" == got["dynamic_resources"]["ads_config"]["api_type"]
    assert [
        {"address": "10.0.0.1", "port_value": 18000},
        {"address": "fd00::1", "port_value": 18001},
    ] == addresses


def test_an_unknown_site_is_taken_with_a_warning() -> None:
    """Its Envoys are served, and anyone who mistyped is informed what there is."""
    result = run("--site", "nowhere", "--id", "gw")
    assert 0 == result.exit_code
    assert "no site is called 'nowhere'; sites are " in result.stderr
    assert "nowhere" == yaml.safe_load(result.stdout)["node"]["metadata"]["site"]


def test_a_certificate_without_its_key_is_a_mistake_of_the_user() -> None:
    """Status 2 and one line."""
    result = run("--site", "edge-north", "--id", "gw", "--cert", "a.pem")
    assert 2 == result.exit_code
    assert "--cert and --key go together" in result.stderr


def test_what_instances_are_spoken_to_with_is_written_beside(tmp_path: Path) -> None:
    """And anyone who writes it elsewhere than Envoys look is reported."""
    fleet = tmp_path / "fleet.yaml"
    text = "".join(
        line for line in FLEET.read_text().splitlines(keepends=True) if "tls:" not in line
    )
    where = tmp_path / "secrets"
    setting = f"{{ca: /ca.crt, names: [a.example], secrets: {where}}}"
    fleet.write_text(f"{text}envoy: {{instance_tls: {setting}}}\n")
    names = ("--site", "edge-north", "--id", "gw")
    right = run(*names, "--secrets", str(where), fleet=fleet)
    wrong = run(*names, "--secrets", str(tmp_path / "else"), fleet=fleet)

    assert (0, "") == (right.exit_code, right.stderr)
    assert ["instances-ca.yaml"] == [each.name for each in where.iterdir()]
    assert f"has Envoys look in {where} for the files" in wrong.stderr


@pytest.mark.envoy
@pytest.mark.parametrize("more", [(), ("--sotw",), ("--xds", "control.example.net:18000")])
async def test_a_stock_envoy_accepts_it(more: tuple[str, ...], tmp_path: Path) -> None:
    """What is printed is valid as it is."""
    fleet = tmp_path / "fleet.yaml"
    lines = FLEET.read_text().splitlines(keepends=True)
    fleet.write_text("".join(line for line in lines if "tls:" not in line))
    result = run("--site", "edge-north", "--id", "gw", *more, fleet=fleet)
    assert "" == await validate(result.stdout)
