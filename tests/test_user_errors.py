"""Every mistake that an operator can make at the command line ends with what to do about it.

Faults inside a configuration are listed in tests/config/test_faults.py, wrong overrides in
tests/app/test_wheel.py, the doctor's findings in tests/app/test_doctor.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from controlplane.cli import COMMANDS, cats
from testbed.ports import free_ports

FLEET = "examples/quickstart/fleet.yaml"
AWAY = f"http://127.0.0.1:{free_ports(1)[0]}"

MISTAKES = [
    pytest.param("serv", 2, "did you mean 'serve'?", id="misspelt command"),
    pytest.param("check nowhere.yaml", 2, "does not exist", id="no file"),
    pytest.param("check WRONG", 2, "polcy", id="unknown key"),
    pytest.param("serve", 2, "Missing option '-c'", id="no configuration"),
    pytest.param(f"serve -c {FLEET} --xds 18000", 2, "such as 127.0.0.1:18000", id="no host"),
    pytest.param(f"serve -c {FLEET} --admin ::1:80", 2, "in brackets", id="bare IPv6"),
    pytest.param("serve -c WRONG", 2, "polcy", id="wrong configuration"),
    pytest.param(f"bootstrap -c {FLEET} --id a", 2, "'--site'", id="no site"),
    pytest.param(
        f"bootstrap -c {FLEET} --site office --id a --cert c.pem", 2, "come together", id="half TLS"
    ),
    pytest.param(f"plan -c {FLEET} --policy best", 2, "known: optimal", id="no such policy"),
    pytest.param(f"plan -c {FLEET} --reports WRONG", 2, "WRONG:1:1", id="wrong reports"),
    pytest.param("replay .", 2, "--policy nearest", id="nothing to compare"),
    pytest.param("replay . --policy nearest", 1, "cats serve --record", id="no recording"),
    pytest.param("explain chat", 2, "'--from'", id="no client site"),
    pytest.param(f"explain chat --from a --admin {AWAY}", 1, "is 'cats serve' running", id="away"),
    pytest.param("top --once --admin localhost", 2, "such as http://", id="no URL"),
    pytest.param(f"top --once --admin {AWAY}", 1, "is 'cats serve' running", id="top away"),
    pytest.param("doctor", 2, "say what to look at", id="doctor of nothing"),
    pytest.param("override add --instance a --drain", 2, "'--for'", id="override for ever"),
    pytest.param("override remove file-0", 2, "remove it there", id="override of the file"),
    pytest.param(
        "override add --site a --max-share lots --for 1m --reason x", 2, "such as 30%", id="share"
    ),
    pytest.param("simulate nowhere.yaml", 2, "does not exist", id="no scenario"),
]


@pytest.mark.parametrize(("line", "status", "remedy"), MISTAKES)
def test_a_mistake_is_told_with_its_remedy(
    line: str, status: int, remedy: str, tmp_path: Path
) -> None:
    """One message, the right status, no traceback."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("polcy: optimal\n", encoding="utf-8")
    words = [word.replace("WRONG", str(wrong)) for word in line.split()]

    result = CliRunner().invoke(cats, words, prog_name="cats")

    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert status == result.exit_code, result.output
    assert remedy.replace("WRONG", str(wrong)) in " ".join(result.output.split())


def test_every_command_is_in_the_list() -> None:
    """A new command brings its mistakes; `schema` takes nothing, an agent's are told elsewhere."""
    lines = [str(item.values[0]) for item in MISTAKES]
    assert set() == set(COMMANDS) - {line.split()[0] for line in lines} - {"schema", "agent"}
