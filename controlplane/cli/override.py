"""``cats override``: the operator's overrides, for a time and a reason."""

from __future__ import annotations

import getpass
import json
import time
import urllib.parse
from typing import Any

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.api import fetch
from controlplane.cli.effect import print_effect
from controlplane.cli.options import admin_option, complete_from_api

PATH = "/api/v1/overrides"


@click.group(
    epilog=examples(
        "cats override add --instance north-a --drain --for 10m --reason 'new driver'",
        "cats override add --service chat --site cloud-1 --max-share 30% --for 2h --reason cost"
        " --dry-run",
        "cats override list",
        "cats override remove 1f2e3d4c",
    )
)
def command() -> None:
    """Drain, pin, cap or weight instances and sites, for a limited time and with a reason.

    Permanent overrides belong in fleet.yaml, under 'overrides'.
    """


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


@command.command(
    epilog=examples("cats override add --instance north-a --drain --for 10m --reason 'new driver'")
)
@admin_option
@click.option(
    "--service",
    help="Only this service; all services by default.",
    shell_complete=complete_from_api,
)
@click.option("--instance", help="Instance to override.", shell_complete=complete_from_api)
@click.option("--site", help="Site whose instances to override.", shell_complete=complete_from_api)
@click.option("--drain", is_flag=True, help="Send it no requests.")
@click.option("--pin", is_flag=True, help="Send it all requests.")
@click.option("--max-share", metavar="SHARE", help="Maximum share, such as 30%.")
@click.option("--min-share", metavar="SHARE", help="Minimum share.")
@click.option(
    "--weight", type=click.IntRange(0, 1_000_000), help="Fixed weight; for policy static."
)
@click.option("--for", "lasts", required=True, metavar="TIME", help="Duration, such as 10m.")
@click.option("--reason", required=True, help="Reason, shown with the override.")
@click.option("--by", default=_who, help="Who.  [default: your login name]")
@click.option("--dry-run", is_flag=True, help="Only show the predicted effect.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON document.")
def add(admin_url: str, lasts: str, *, as_json: bool, dry_run: bool, **given: Any) -> None:
    """Add an override and show its predicted effect."""
    body = {name: value for name, value in given.items() if value not in (None, False)}
    for name in ("max_share", "min_share"):
        if name in body:
            body[name] = _share(body[name], f"--{name.replace('_', '-')}")
    answer = fetch(admin_url, PATH, method="POST", body={**body, "for": lasts, "dry_run": dry_run})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    if answer["effect"] is not None:
        print_effect(answer["effect"])
    if answer.get("left_alone"):
        names = ", ".join(answer["left_alone"])
        click.echo(f"leaves {names} alone: nothing there may serve them")
    if answer["added"]:
        click.echo(f"added {answer['added']}, ends in {lasts}")
        if not answer["lasting"]:
            click.echo("a restart ends it too: the server has no --state-dir", err=True)
    else:
        click.echo("dry run: nothing was changed")


def _share(text: str, option: str) -> str | float:
    if text.endswith("%"):
        return text
    try:
        return float(text)
    except ValueError as error:
        raise BadInput(f"{option}: '{text}' is not a share such as 30% or 0.3") from error


@command.command(name="list", epilog=examples("cats override list"))
@admin_option
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON document.")
def list_(admin_url: str, *, as_json: bool) -> None:
    """List all overrides: who, when, why, until when."""
    document = fetch(admin_url, PATH)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    from rich.console import Console  # noqa: PLC0415 -- takes a tenth of a second to load
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None)
    for name in ("id", "what", "why", "who", "since", "ends in"):
        table.add_column(name, no_wrap=name in ("id", "since"))
    for item in document["overrides"]:
        table.add_row(
            escape(item["id"]),
            escape(item["what"]),
            escape(item["reason"] or "-"),
            escape(item["by"] or "the file"),
            _clock(item["since"]),
            f"{max(0.0, item['expires'] - time.time()):.0f} s" if item["expires"] else "-",
        )
    if document["overrides"]:
        Console(width=None if Console().is_terminal else 160).print(table)
    else:
        click.echo("no active overrides")


def _clock(unix: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix)) if unix else "-"


@command.command(epilog=examples("cats override remove 1f2e3d4c"))
@admin_option
@click.argument("name", metavar="ID")
@click.option("--by", default=_who, help="Who.  [default: your login name]")
def remove(admin_url: str, name: str, by: str) -> None:
    """Remove an override before it expires."""
    if name.startswith("file-"):
        raise BadInput(f"{name} is in the configuration file; remove it there")
    path = f"{PATH}/{urllib.parse.quote(name, safe='')}"
    fetch(admin_url, path, {"by": by or "unknown"}, method="DELETE")
    click.echo(f"removed {name}")
