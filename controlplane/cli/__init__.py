"""The ``cats`` command: a table of commands, each loaded only when it is asked for.

A new command NAME is one line in `COMMANDS` and one module ``controlplane/cli/NAME.py`` that
defines a click command called ``command`` with an ``epilog`` from `examples`.
This module imports click and nothing heavier, so that ``cats --help`` answers at once.

What a user got wrong is reported in one line (`BadInput`, or a `ConfigError` with a line for each
fault) and ends with status 2; what failed on the way (`Failure`, or another error this package
raises on purpose) ends with status 1. Only a bug of ours shows a traceback.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter

import click

from controlplane import __version__
from controlplane.errors import ConfigError, ControlPlaneError
from controlplane.runtime.standard_streams import open_standard_streams
from controlplane.suggestions import closest

# Steering solves many small systems a second. numpy's linear algebra would split each over all
# processors and wait for the last: thirty times the time where others use the machine, too.
# It reads the setting once, when it is imported, which is after this module.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS = {
    "serve": "Run the control plane.",
    "agent": "Run the agent of a site: instances, machine, network.",
    "check": "Validate configurations; report every error with its line.",
    "bootstrap": "Print the bootstrap of an Envoy that follows this control plane.",
    "simulate": "Simulate a fleet: the decision code against baselines.",
    "plan": "Print the plan for given reports: a dry run.",
    "replay": "Replay recorded reports under another policy: gain and loss.",
    "doctor": "Diagnose common problems and suggest fixes.",
    "explain": "Explain why each weight is what it is.",
    "top": "Show the fleet live in a terminal.",
    "override": "Override shares for a limited time: drain, pin, cap or weight.",
    "schema": "Print the JSON Schema of the configuration, for editors.",
}
"""Name of each command and the line that ``cats --help`` shows, in the order of that page."""


class BadInput(click.ClickException):
    """Something the user gave is wrong; status 2."""

    exit_code = 2


class Failure(click.ClickException):
    """Something went wrong that is not in the user's input; status 1."""

    exit_code = 1


def examples(*lines: str) -> str:
    """Return the ``epilog`` of a command: what a user would type, one example a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class _LazyCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click calls it so
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            near = closest(cmd_name, COMMANDS)
            remedy = f"did you mean '{near}'?" if near else "see cats --help"
            ctx.fail(f"no command '{cmd_name}'; {remedy}")
        command: click.Command = importlib.import_module(f"controlplane.cli.{cmd_name}").command
        command.name = cmd_name
        if not any("--version" in param.opts for param in command.params):
            _with_version(command)
        _take_options_once(command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for fault in error.faults:
                click.echo(str(fault), err=True)
            ctx.exit(BadInput.exit_code)
        except ControlPlaneError as error:
            raise Failure(str(error)) from error


def _take_options_once(command: click.Command) -> None:
    """Make a repeated option an error: its first value would be lost without a word."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _take_options_once(inner)
    parse = command.parse_args

    def parse_once(ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # completion of a line that is not finished
            return parse(ctx, args)
        _, _, order = command.make_parser(ctx).parse_args(list(args))
        counts = Counter(
            param.opts[-1]
            for param in order
            if isinstance(param, click.Option) and not param.multiple and not param.is_flag
        )
        for name, count in counts.items():
            if count > 1:
                ctx.fail(f"{name} is there {count} times; it takes one value")
        return parse(ctx, args)

    command.parse_args = parse_once  # type: ignore[method-assign]


_with_version = click.version_option(__version__, prog_name="cats", message="%(prog)s %(version)s")


@_with_version
@click.group(
    cls=_LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "cats check fleet.yaml", "cats serve -c fleet.yaml", "cats explain chat --from edge-north"
    ),
)
def cats() -> None:
    """Steer AI inference requests to the best place to serve them, through unmodified Envoys."""


def main() -> None:
    """Run the command line."""
    open_standard_streams()
    cats(prog_name="cats")
