"""``cats check`` and ``cats schema``."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from controlplane.cli import cats

FLEET = Path(__file__).parent.parent / "config" / "fleet.yaml"


def run(*args: str) -> tuple[int, str, str]:
    """Return status, standard output and standard error of ``cats ARGS``."""
    result = CliRunner().invoke(cats, args, prog_name="cats")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_valid_file_is_ok_in_one_line() -> None:
    """Status 0 and one short line; warnings stand apart."""
    status, out, err = run("check", str(FLEET))

    assert 0 == status
    assert f"{FLEET}: ok (3 sites, 2 services, 3 instances)\n" == out
    assert err.startswith(f"warning: {FLEET}:")


def test_every_fault_of_every_file_is_one_line(tmp_path: Path) -> None:
    """Status 2, and no file is left unread because of another."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("version: 2\nsites: []\n")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xe4")

    status, out, _ = run("check", str(broken), str(latin), str(FLEET))

    lines = out.splitlines()
    assert 2 == status
    assert f"{broken}:1:1: models: missing; add 'models'," in lines[0]
    assert f"{broken}:1:10: version: 2 is not known; write 1" in lines
    assert f"{latin}:1:4: byte 0xe4 is not UTF-8; save the file as UTF-8" in lines
    assert f"{FLEET}: ok (3 sites, 2 services, 3 instances)" == lines[-1]


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """Status 2 and the name, no traceback."""
    status, _, err = run("check", str(tmp_path / "none.yaml"))

    assert 2 == status
    assert "none.yaml" in err


def test_the_schema_is_printed_as_json() -> None:
    """What ``cats schema`` prints can be saved and used."""
    status, out, _ = run("schema")

    assert 0 == status
    assert "fleet.yaml" == json.loads(out)["title"]
