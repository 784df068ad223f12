"""Texts for a terminal: what does not fit is shortened where it hurts least."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

ELLIPSIS = "…"
WIDE, TALL = 200, 60
"""Columns and rows of what is no terminal."""
ASSUMED = frozenset({"assumed", "default", "prior", "unknown"})
"""Sources of values that nobody measured or wrote."""
LEGEND = "~ assumed, because nothing measured it"
_UNLISTED = re.compile(r"runs \S+, which the service does not list")
_MILLISECONDS = re.compile(r"(\d+(?:\.\d+)?) ms")


def screen() -> tuple[int, int]:
    """Return columns and rows to write for: the terminal's, or plenty where there is none."""
    size = shutil.get_terminal_size((WIDE, TALL))
    if sys.stdout.isatty():
        return size.columns, size.lines
    return size.columns if "COLUMNS" in os.environ else WIDE, TALL


def echo(line: str = "", **style: Any) -> None:
    """Print a line, in colour on a terminal unless NO_COLOR is set."""
    text = click.style(line, **style) if style and line else line
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def shorten(name: str, width: int) -> str:
    """Return *name*, shortened in its middle to *width* columns: names differ at their ends."""
    if len(name) <= width:
        return name
    if width < 3:
        return name[:width]
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}{ELLIPSIS}{name[len(name) - tail :]}"


def milliseconds(seconds: float | None) -> str:
    """Write a duration in milliseconds, never in powers of ten."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    if abs(value) >= 10 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 0.1 else f"{value:.2f}"


def number(value: float | None) -> str:
    """Write a rate or a cost with about three digits, never in powers of ten."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def percent(share: float) -> str:
    """Write a share; what is little is not written as nothing."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{share:.0%}" if share >= 0.9995 else f"{share:.1%}"


def mark(text: str, *, assumed: bool) -> str:
    """Write ``~`` before a value that is assumed; see `LEGEND`."""
    return f"~{text}" if assumed else text


def align(
    rows: Sequence[Sequence[str]], *, right: Iterable[int] = (), indent: str = ""
) -> list[str]:
    """Return *rows* as lines of aligned columns, two spaces apart; columns *right* end even."""
    if not rows:
        return []
    ends = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        indent
        + "  ".join(
            cell.rjust(width) if i in ends else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def wrap(words: Iterable[str], width: int, *, first: str = "", rest: str = "    ") -> list[str]:
    """Break *words*, none of which is ever cut, into lines of at most *width* columns.

    A single word wider than the terminal keeps its line.
    """
    lines, line, empty = [], first, True
    for word in words:
        if not empty and len(line) + 1 + len(word) > width:
            lines.append(line)
            line, empty = rest, True
        line = f"{line}{word}" if empty else f"{line} {word}"
        empty = False
    if not empty or line.strip():
        lines.append(line.rstrip())
    return lines


def group_reasons(excluded: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return reason -> names, most names first; reasons that differ in a duration only are one."""
    groups: dict[str, list[tuple[str, list[float]]]] = {}
    unlisted: list[str] = []
    for item in excluded:
        if _UNLISTED.fullmatch(item["reason"]):
            unlisted.append(item["instance"])
            continue
        found = [float(value) for value in _MILLISECONDS.findall(item["reason"])]
        groups.setdefault(_MILLISECONDS.sub("{} ms", item["reason"]), []).append(
            (item["instance"], found)
        )
    grouped = []
    for reason, members in groups.items():
        ranges = [_range(column) for column in zip(*(values for _, values in members), strict=True)]
        text = reason
        for between in ranges:
            text = text.replace("{} ms", f"{between} ms", 1)
        grouped.append((text, [name for name, _ in members]))
    grouped.sort(key=lambda group: -len(group[1]))
    if unlisted:  # last: it is what an operator meant
        grouped.append(("the service does not list its model", unlisted))
    return grouped


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in
                 (min(values), max(values)))  # fmt: skip
    return low if low == high else f"{low} to {high}"


def name_list(names: Sequence[str], *, most: int = 5) -> str:
    """Write the first *most* names and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
