"""``cats explain``: why each weight is what it is, as a table in milliseconds."""

from __future__ import annotations

import json
from typing import Any

import click

from controlplane.cli import examples
from controlplane.cli.api import fetch
from controlplane.cli.options import admin_option

TERMS = ("rtt", "transfer", "service", "queueing", "penalty", "energy", "crowding")
"""Columns, in the order of the request's way and then what is weighed beside it."""


@click.command(
    epilog=examples(
        "cats explain chat --from edge-north",
        "cats explain chat --from edge-north --json | jq '.instances[0].terms'",
    )
)
@click.argument("service")
@click.option("--from", "site", required=True, metavar="SITE", help="The clients' site.")
@admin_option
@click.option("--json", "as_json", is_flag=True, help="Print the API's document.")
def command(service: str, site: str, admin_url: str, *, as_json: bool) -> None:
    """Explain where the requests of SERVICE go from a client site, and why."""
    document = fetch(admin_url, "/api/v1/explain", {"service": service, "from": site})
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    print_explanation(document)


def print_explanation(document: dict[str, Any]) -> None:
    """Print ``/api/v1/explain`` for people."""
    from rich.console import Console  # noqa: PLC0415 -- takes a tenth of a second to load
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=None if Console().is_terminal else 200)
    console.print(
        f"[bold]{escape(document['service'])}[/] from [bold]{escape(document['from'])}[/]:"
        f" policy {document['policy']}, demand {document['demand']:.2f}/s, plan {document['plan']}"
        f"{', held' if document['held'] else ''}"
    )
    if document["note"]:
        console.print(f"[yellow]{escape(document['note'])}[/]")
    table = Table(caption="times in milliseconds; (n) marks a fallback priority", box=None)
    table.add_column("instance", no_wrap=True)
    table.add_column("site", no_wrap=True)
    for name in ("share", "was", "weight", *TERMS, "latency", "cost", "load", "known"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("limits")
    for item in document["instances"]:
        table.add_row(*_row(item))
    console.print(table)
    for item in document["excluded"]:
        console.print(
            f"[dim]{escape(item['instance'])} at {escape(item['site'])} gets nothing:"
            f" {escape(item['reason'])}[/]"
        )
    if proposed := document.get("proposed"):
        first = [each for each in proposed if not each["priority"]]
        split = ", ".join(f"{each['instance']} {each['share']:.1%}" for each in first)
        console.print(f"[bold]without observe mode[/] it would be: {escape(split)}")
    if document.get("canary"):
        console.print(canary_words(document["canary"]))
    lagging = [envoy["id"] for envoy in document["envoys"] if not envoy["acknowledged"]]
    known = len(document["envoys"])
    console.print(
        f"{known - len(lagging)} of {known} connected Envoys of {escape(document['from'])} hold"
        f" these weights" + (f"; not yet: {escape(', '.join(lagging[:10]))}" if lagging else "")
    )


def canary_words(canary: dict[str, Any]) -> str:
    """Say what a canary does, and what the standing policy would do in its place."""
    from rich.markup import escape  # noqa: PLC0415

    standing = canary["standing"]
    first = [each for each in standing["instances"] if not each["priority"]]
    split = ", ".join(f"{each['instance']} {each['share']:.1%}" for each in first)
    times = (canary["predicted_latency"], standing["predicted_latency"])
    return (
        f"[bold]canary[/]: {escape(canary['service'])} from {escape(canary['from'])} is decided by"
        f" {canary['policy']}; elsewhere {standing['policy']} decides, here it would be:"
        f" {escape(split) or 'not known'};"
        f" predicted {_milliseconds(times[0])} ms instead of {_milliseconds(times[1])} ms"
    )


def _row(item: dict[str, Any]) -> list[str]:
    from rich.markup import escape  # noqa: PLC0415

    mark = f" ({item['priority']})" if item["priority"] else ""
    row = [escape(item["instance"]) + mark, escape(item["site"]), f"{item['share']:.1%}"]
    if "terms" not in item:
        return [*row, "", str(item["weight"])]
    load = item["arrival_rate"] / item["capacity"] if item["capacity"] else 0.0
    return [
        *row,
        f"{item['previous_share']:.1%}",
        str(item["weight"]),
        *(_milliseconds(item["terms"][term]) for term in TERMS),
        _milliseconds(item["predicted_latency"]),
        _milliseconds(item["marginal_cost"]),
        f"{load:.0%}",
        f"{item['confidence']:.0%}",
        escape(", ".join(item["limits"])),
    ]


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
