"""The frame of the ``cats`` command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from controlplane import __version__
from controlplane.cli import COMMANDS, cats


def run(*args: str) -> tuple[int, str, str]:
    """Return status, standard output and standard error of ``cats ARGS``."""
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
def test_every_command_reports_the_version(name: str) -> None:
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


EXAMPLE = Path(__file__).parents[2] / "examples" / "cloud-edge-device" / "fleet.yaml"
EDGES = ["edge-north", "edge-south", "edge-east"]


def complete(words: str) -> list[str]:
    """Return what Bash is offered for the last of *words*."""
    count = str(len(words.split(" ")) - 1)
    env = {"_CATS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    result = CliRunner(env=env).invoke(cats, [], prog_name="cats")
    return [line.split(",", 1)[1] for line in result.stdout.splitlines() if "," in line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("cats plan -c {} --service ch", ["chat"], id="service"),
        pytest.param("cats plan -c {} --from edge-", EDGES, id="site"),
        pytest.param("cats plan -c {} --instance so", ["south-a"], id="instance"),
        pytest.param("cats explain --admin http://127.0.0.1:9 ch", [], id="no control plane"),
    ],
)  # fmt: skip
def test_completion_offers_names(words: str, expected: list[str]) -> None:
    """Of the file that was named; nothing, and no error, where nothing can be asked."""
    assert expected == complete(words.format(EXAMPLE))


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["plan", "-c", "a", "-c", "b"], "--config"),
        (["explain", "chat", "--from", "a", "--from", "b"], "--from"),
        (["override", "add", "--for", "1m", "--for", "2m"], "--for"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_option_that_is_there_twice_is_an_error(arguments: list[str], option: str) -> None:
    """Its first value would be lost without a word."""
    result = CliRunner().invoke(cats, arguments, prog_name="cats")

    assert 2 == result.exit_code
    assert f"{option} is there 2 times" in result.stderr


def test_check_reads_standard_input() -> None:
    """``-`` is a file like others, and errors name it so."""
    text = EXAMPLE.read_text(encoding="utf-8")

    good = CliRunner().invoke(cats, ["check", "-"], input=text, prog_name="cats")
    bad = CliRunner().invoke(cats, ["check", "-"], input="sits: []\n", prog_name="cats")

    assert (0, "-: ok") == (good.exit_code, good.stdout[:5])
    assert 2 == bad.exit_code
    assert "-:1:1: sits: " in bad.stdout
