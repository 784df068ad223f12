"""The frame of the ``cats`` command."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from controlplane import __version__
from controlplane.cli import COMMANDS, cats


def run(*args: str) -> tuple[int, str, str]:
    """Give status, standard output and standard error of ``cats ARGS``."""
    result = CliRunner().invoke(cats, args, prog_name="cats")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_page_with_an_example(name: str) -> None:
    """An operator learns each command from its help page."""
    status, out, _ = run(name, "--help")

    assert 0 == status
    assert f"Usage: cats {name}" in out
    assert "Examples:\n" in out
    assert f"  cats {name}" in out.split("Examples:")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_the_version(name: str) -> None:
    """The version is one flag away everywhere."""
    assert (0, f"cats {__version__}\n", "") == run(name, "--version")


def test_the_help_page_lists_every_command() -> None:
    """``cats --help`` is the table of contents."""
    status, out, _ = run("--help")

    assert 0 == status
    assert all(f"  {name}" in out and line in out for name, line in COMMANDS.items())


def test_the_help_page_loads_nothing_heavy() -> None:
    """``cats --help`` must answer at once, so only the frame and click are imported."""
    script = (
        "import sys, controlplane.cli\n"
        "try: controlplane.cli.cats(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'grpc', 'numpy', 'yaml', 'aiohttp', 'rich', 'google.protobuf'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert "[]\n" == done.stderr


def test_a_misspelt_command_is_answered_with_the_near_one() -> None:
    """A typing mistake costs one look, and status 2."""
    status, _, err = run("schem")

    assert 2 == status
    assert "no command 'schem'; did you mean 'schema'?" in err


def test_python_dash_m_is_the_same_command() -> None:
    """``python -m controlplane`` works where the console script is not on the PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "controlplane", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )

    assert f"cats {__version__}\n" == done.stdout


def test_every_command_of_the_table_is_a_click_command() -> None:
    """The table and the modules agree."""
    context = click.Context(cats)

    assert all(isinstance(cats.get_command(context, name), click.Command) for name in COMMANDS)
