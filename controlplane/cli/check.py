"""``cats check``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.options import FILE_OR_STDIN, read_config, read_file_or_stdin
from controlplane.errors import ConfigError
from controlplane.suggestions import did_you_mean


@click.command(
    epilog=examples(
        "cats check fleet.yaml",
        "cats check examples/*/fleet.yaml",
        "cat fleet.yaml | cats check -",
        "cats check --scrape http://10.1.0.10:8000/metrics --engine vllm",
        "cats check fleet.yaml --scrape page.txt --engine my-dialect",
    )
)
@click.argument("files", nargs=-1, type=FILE_OR_STDIN, metavar="FILE...")
@click.option(
    "--scrape", metavar="URL|FILE",
    help="Show what is read from a metrics page, one signal per line, then what is ignored.",
)  # fmt: skip
@click.option(
    "--engine", metavar="NAME",
    help="Engine that wrote the page, or one of telemetry.dialects in FILE.",
)  # fmt: skip
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE",
    help="Read only series with this label, as scrape.labels does; may be repeated.",
)  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    scrape: str | None,
    engine: str | None,
    labels: tuple[str, ...],
) -> None:
    """Validate configurations: one line for each error on standard output.

    An error reads FILE:LINE:COL: dotted.path: what is wrong, and how to fix it.
    Warnings, on standard error, point out what is allowed but probably a mistake.
    FILE may be - for standard input.
    Exits with status 0 if every file is valid, else 2; with --scrape, 1 if the page has no signal.
    """
    if scrape is not None:
        ctx.exit(_check_page(files, scrape, engine, labels))
    if engine is not None or labels:
        raise BadInput("--engine and --label go with --scrape URL|FILE")
    if not files:
        raise BadInput("name a file to check: cats check fleet.yaml")
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
        reported = ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
        click.echo(f"{path}: ok ({reported})")
    ctx.exit(0 if right else BadInput.exit_code)


def _check_page(
    files: tuple[Path, ...], scrape: str, engine: str | None, labels: tuple[str, ...]
) -> int:
    """Print what is read of one page; return the exit status."""
    from controlplane.config import Scrape  # noqa: PLC0415
    from controlplane.diagnostics.scrape_report import UnreadableError, format_report, report_page  # noqa: PLC0415 -- loads aiohttp
    from controlplane.telemetry.engines import TABLES  # noqa: PLC0415
    from controlplane.telemetry.engines.custom import build_dialects  # noqa: PLC0415

    tables = dict(TABLES)
    for path in files:
        tables |= build_dialects(read_config(path).telemetry.dialects)
    if engine not in tables:
        hint = did_you_mean(engine or "", tables, shown=len(tables))
        what = f"no engine '{engine}'" if engine else "name the engine of the page"
        raise BadInput(f"--engine: {what}; {hint}; a dialect needs its fleet.yaml")
    pairs = [label.partition("=") for label in labels]
    if not all(name and sign for name, sign, _ in pairs):
        raise BadInput("--label: write NAME=VALUE, such as ReplicaId=abc*")
    wanted = {name: value for name, _, value in pairs}
    source = Scrape.model_construct(url=scrape, timeout=5.0, labels=wanted)
    try:
        report = asyncio.run(report_page(source, engine, dialects=tables))
    except UnreadableError as error:
        click.echo(str(error))
        return 1
    for line in format_report(report):
        click.echo(line)
    if not report.signals:
        click.echo(f"nothing was read of {scrape} as {engine}", err=True)
    return 0 if report.signals else 1
