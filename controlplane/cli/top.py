"""``cats top``: sites, instances, shares and Envoys, live in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from controlplane.cli import Failure, examples
from controlplane.cli.api import fetch
from controlplane.cli.options import admin_option

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {
    "live": "green",
    "starting": "cyan",
    "stale": "yellow",
    "unknown": "yellow",
    "expired": "red",
    "not_ready": "red",
    "quarantined": "red",
}


@click.command(epilog=examples("cats top", "cats top --once"))
@admin_option
@click.option(
    "--every", default=1.0, show_default=True, metavar="SECONDS", help="Time between looks."
)
@click.option("--once", is_flag=True, help="Print one picture and end.")
def command(admin_url: str, every: float, *, once: bool) -> None:
    """Show the fleet live: sites, instances, shares, Envoys."""
    from rich.console import Console  # noqa: PLC0415 -- takes a tenth of a second to load
    from rich.live import Live  # noqa: PLC0415

    console = Console()
    picture = _picture(admin_url)
    if once or not console.is_terminal:
        Console(width=None if console.is_terminal else 160).print(picture)
        return
    try:
        with Live(picture, console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(max(0.2, every))
                try:
                    live.update(_picture(admin_url), refresh=True)
                except Failure as error:
                    live.update(error.format_message(), refresh=True)
    except KeyboardInterrupt:
        return


def _picture(admin_url: str) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415

    fleet = fetch(admin_url, "/api/v1/fleet")
    plan = fetch(admin_url, "/api/v1/plan")
    envoys = fetch(admin_url, "/api/v1/envoys")
    return Group(_headline(fleet, plan, envoys), _instances(fleet), _shares(plan))


def _headline(fleet: dict[str, Any], plan: dict[str, Any], document: dict[str, Any]) -> str:
    from rich.markup import escape  # noqa: PLC0415

    envoys = document["envoys"]
    refused = [item["id"] for item in envoys if any(t["refused"] for t in item["types"].values())]
    parts = [f"plan {plan['version']}{' (held)' if plan['held'] else ''}", f"{len(envoys)} Envoys"]
    if refused:
        parts.append(f"[red]refusing: {', '.join(refused[:5])}[/]")
    if gone := document["gone"]:
        ago = document["at"] - gone[0]["gone_at"]
        count = len(gone) + document["gone_left_out"]
        parts.append(f"{count} left, {escape(gone[0]['id'])} {ago:.0f} s ago")
    if fleet["mode"] == "observe":
        parts.append("[yellow]observe mode: decided, not pushed[/]")
    else:
        parts.append(f"mode {fleet['mode']}")
    if canaries := plan["canaries"]:
        told = (f"{c['policy']} for {c['service']} from {c['from']}" for c in canaries[:3])
        parts.append(f"[yellow]canary: {escape(', '.join(told))}[/]")
    if fleet["frozen"]:
        parts.append("[red]frozen: every instance is silent[/]")
    if not fleet["config"]["ok"]:
        parts.append("[red]the newest configuration is refused[/]")
    return "  ".join(parts)


def _instances(fleet: dict[str, Any]) -> RenderableType:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, title="instances", title_justify="left")
    for name in ("site", "instance", "phase"):
        table.add_column(name, no_wrap=True)
    for name in ("age", "running", "waiting", "known"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for item in sorted(fleet["instances"], key=lambda item: (item["site"], item["name"])):
        colour = _COLOURS.get(item["phase"], "white")
        signals = item["signals"]
        ages = [s["age"] for s in signals.values() if s["age"] is not None]
        table.add_row(
            escape(item["site"]),
            escape(item["name"]),
            f"[{colour}]{item['phase']}[/]",
            f"{min(ages):.1f}s" if ages else "-",
            *(
                f"{signals[name]['value']:.0f}" if name in signals else "-"
                for name in ("running", "waiting")
            ),
            f"{item['confidence']:.0%}",
            escape(item["reason"]),
        )
    return table


def _shares(plan: dict[str, Any]) -> RenderableType:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, title="shares", title_justify="left")
    table.add_column("service", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("to")
    for service, entry in plan["services"].items():
        for site, allocations in entry["from"].items():
            first = sorted(
                (item for item in allocations if item["priority"] == 0),
                key=lambda item: -item["share"],
            )
            to = "  ".join(f"{escape(item['instance'])} {item['share']:.0%}" for item in first[:8])
            table.add_row(escape(service), escape(site), to or "[red]nobody[/]")
    return table
