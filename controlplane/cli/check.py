"""``cats check``."""

from __future__ import annotations

from pathlib import Path

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.options import FILE_OR_STDIN, read_file_or_stdin
from controlplane.errors import ConfigError


@click.command(
    epilog=examples(
        "cats check fleet.yaml", "cats check examples/*/fleet.yaml", "cat fleet.yaml | cats check -"
    )
)
@click.argument("files", nargs=-1, required=True, type=FILE_OR_STDIN, metavar="FILE...")
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...]) -> None:
    """Validate configurations: one line for each fault on standard output.

    A fault reads FILE:LINE:COL: dotted.path: what is wrong, and what would be right.
    Warnings, on standard error, tell what is allowed but hardly meant.
    FILE may be -, which is standard input.
    Status 0 if every file is right, 2 if not.
    """
    from controlplane.config import check_config  # noqa: PLC0415 -- loads pydantic

    right = True
    for path in files:
        try:
            checked = check_config(read_file_or_stdin(path), file=str(path))
        except ConfigError as error:
            right = False
            for fault in error.faults:
                click.echo(str(fault))
            continue
        for warning in checked.warnings:
            click.echo(f"warning: {warning}", err=True)
        config = checked.config
        counts: tuple[tuple[int, str], ...] = (
            (len(config.sites), "site"),
            (len(config.services), "service"),
            (len(config.instances), "instance"),
        )
        if config.discovery is not None:
            counts += ((len(config.discovery.rules), "discovery rule"),)
        told = ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
        click.echo(f"{path}: ok ({told})")
    ctx.exit(0 if right else BadInput.exit_code)
