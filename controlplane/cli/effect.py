"""What a plan would change against another, as a table."""

from __future__ import annotations

from typing import Any

from controlplane.cli.text import number


def print_effect(effect: dict[str, Any]) -> None:
    """Print what a plan would change against another."""
    from rich.console import Console  # noqa: PLC0415 -- takes a tenth of a second to load
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=None if Console().is_terminal else 160)
    if not effect["pairs"]:
        console.print("no share moves")
        return
    table = Table(box=None)
    for name in ("service", "from", "moves", "latency ms", "shares"):
        table.add_column(name, no_wrap=name != "shares")
    for pair in effect["pairs"][:40]:
        shares = (f"{escape(n)} {a:.0%} -> {b:.0%}" for n, (a, b) in pair["shares"].items())
        table.add_row(
            escape(pair["service"]),
            escape(pair["from"]),
            f"{pair['moved']:.1%}",
            _change(pair["latency"], 1000),
            "  ".join(shares) + (f"  [yellow]{escape(pair['note'])}[/]" if pair["note"] else ""),
        )
    console.print(table)
    left = len(effect["pairs"]) - 40 + effect["pairs_left_out"]
    if left > 0:
        console.print(f"... and {left} pairs more")
    console.print(f"mean predicted latency: {_change(effect['latency'], 1000)} ms")
    console.print(f"predicted cost: {_change(effect['cost'], 1)} s of delay per s")
    for key, text in (
        ("money_per_hour", "per hour"),
        ("carbon_grams_per_hour", "g of CO2 per hour"),
    ):
        if any(effect[key]):
            console.print(f"predicted {key.split('_')[0]}: {_change(effect[key], 1)} {text}")


def _change(values: list[float | None], factor: float) -> str:
    before, after = (number(None if each is None else each * factor) for each in values)
    return f"{before} -> {after}"
