"""The reference of all commands, made from the commands themselves.

docs/commands.md is `reference` of this module; a test keeps it so.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from controlplane.cli import COMMANDS, cats

WIDTH = 96
"""Columns of the help texts, whatever the terminal."""


def reference() -> str:
    """Return docs/commands.md."""
    lines = [
        "# Commands",
        "",
        "What `cats COMMAND --help` says; written by `python -m testbed.tools.references`.",
        "A user's mistake is reported in one line and ends with status 2, other failures with 1.",
    ]
    root = click.Context(cats, info_name="cats", terminal_width=WIDTH, max_content_width=WIDTH)
    for name in COMMANDS:
        command = cats.get_command(root, name)
        if command is None:
            raise AssertionError(f"{name} is in the table and cannot be loaded")
        lines += _describe(command, root, name)
    return "\n".join(lines) + "\n"


def _describe(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    title = context.command_path
    yield from ("", f"## {title}", "", "```", command.get_help(context).rstrip(), "```")
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from _describe(found, context, below)
