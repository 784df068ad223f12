"""``cats doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.api import fetch, fetch_date
from controlplane.cli.options import FILE, read_config


@click.command(
    epilog=examples(
        "cats doctor -c fleet.yaml",
        "cats doctor -c fleet.yaml --admin http://127.0.0.1:18080",
        "cats doctor --admin http://127.0.0.1:18080 --json",
    )
)
@click.option(
    "-c", "--config", "config_file", type=FILE, metavar="FILE",
    help="Check its certificates, its instances' names and metrics, and its discovery, from here.",
)  # fmt: skip
@click.option(
    "--admin", "admin_url", metavar="URL",
    help="Check a running control plane: its clock, instances and Envoys.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(
    ctx: click.Context, config_file: Path | None, admin_url: str | None, *, as_json: bool
) -> None:
    """Diagnose common problems and suggest fixes.

    Checks certificates, DNS names, metrics pages, the Kubernetes API and clock skew, and looks for
    instances that are silent or implausible and for Envoys that lag or reject updates.
    Exits with status 0 if nothing is bad, else 1.
    """
    from controlplane.diagnostics.doctor import examine, unexamined  # noqa: PLC0415 -- loads everything

    if config_file is None and admin_url is None:
        raise BadInput("name what to check: -c fleet.yaml, --admin http://127.0.0.1:18080, or both")
    config = read_config(config_file) if config_file else None
    documents = (
        (
            fetch_date(admin_url),
            fetch(admin_url, "/api/v1/fleet"),
            fetch(admin_url, "/api/v1/envoys"),
        )
        if admin_url
        else ()
    )
    click.echo("examining ...", err=True)
    findings = asyncio.run(examine(config, documents))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.secho(f"{finding.level}: ", nl=False, fg=_COLOURS[finding.level])
            click.echo(f"{finding.what}\n    {finding.remedy}")
        click.echo(f"{len(findings)} findings" if findings else "nothing found")
        for left in unexamined(config, running=bool(documents)):
            click.echo(f"not examined: {left}")
    ctx.exit(1 if any(finding.level == "bad" for finding in findings) else 0)


_COLOURS = {"bad": "red", "warning": "yellow"}
