"""What the demo prints at its end: a line per phase, then which claims held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from testbed.demo.screen import new_table, seconds_text, shares_text
from testbed.demo.script import Cell, Chapter, Claim
from testbed.demo.world import World


def build_closing(
    world: World,
    table: Mapping[tuple[str, str], Mapping[str, Cell]],
    chapters: Sequence[Chapter],
    claims: Sequence[Claim],
) -> RenderableType:
    """Draw, for each service and client site, a line per phase; then which claims held."""
    parts: list[RenderableType] = []
    for service, site in sorted(table, key=lambda pair: (world.services.index(pair[0]), pair[1])):
        figures = new_table(f"{service} from {site}")
        figures.add_column("phase", no_wrap=True)
        for name in ("sent", "failed", "mean ms", "p99 ms"):
            figures.add_column(name, justify="right", no_wrap=True)
        figures.add_column("answered by")
        for chapter in chapters:
            cell = table[service, site].get(chapter.phase.name)
            if cell is not None:
                unfinished = " ..." if chapter.ended_at is None else ""
                figures.add_row(f"{chapter.phase.name}{unfinished}", *_cell_texts(cell))
        parts.append(figures)
    verdict = new_table("Claims")
    for name in ("", "claim", "figures"):
        verdict.add_column(name)
    for claim in claims:
        verdict.add_row(_verdict(claim), claim.text, claim.figures)
    return Group(*parts, verdict)


def _cell_texts(cell: Cell) -> tuple[Text | str, ...]:
    summary = cell.summary
    return (
        str(cell.sent),
        Text(str(cell.failed), style="bold red" if cell.failed else "dim"),
        seconds_text(summary.mean),
        seconds_text(summary.p99),
        shares_text(summary.shares),
    )


def _verdict(claim: Claim) -> Text:
    if claim.held:
        return Text("held", style="green")
    return Text("FAILED", style="bold red") if claim.hard else Text("short", style="yellow")
