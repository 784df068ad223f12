"""Texts for a terminal: what does not fit is shortened where it hurts least."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

ELLIPSIS = "…"
WIDE, TALL = 200, 60
"""Columns and rows of what is no terminal."""
ASSUMED = frozenset({"assumed", "default", "prior", "unknown"})
"""Sources of values that no one measured or wrote."""
LEGEND = "~ assumed, because nothing measured it"
_UNITS = frozenset({"s", "ms", "min", "h", "MB", "more"})


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


def shorten_all(names: Sequence[str], width: int) -> list[str]:
    """Return *names*, shortened to *width* columns so that they can still be distinguished.

    Where they differ in their middles, what all begin and end with gives way.
    """
    made = {name: shorten(name, width) for name in names}
    if len(set(made.values())) < len(made):
        before = _whole_words(_common_start([*made]))
        rests = [name[: len(before) - 1 : -1] if before else name[::-1] for name in made]
        after = _whole_words(_common_start(rests))[::-1]
        around = {name: _around(name, before, after, width) for name in made}
        if len(set(around.values())) > len(set(made.values())):
            made = around
    return [made[name] for name in names]


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    size = min(len(first), len(last))
    same = next((place for place in range(size) if first[place] != last[place]), size)
    return first[:same]


def _whole_words(text: str) -> str:
    """Return *text* up to its last separator, so that no number of a name is cut."""
    while text and text[-1].isalnum():
        text = text[:-1]
    return text


def _around(name: str, before: str, after: str, width: int) -> str:
    """Return *name* with its own part whole, and what is left of the rest at both ends."""
    if len(name) <= width:
        return name
    own = name[len(before) : len(name) - len(after)]
    room = width - len(own) - 2
    if room < 0:
        return shorten(own, width)
    head = min(len(before), (room + 1) // 2)
    tail = min(len(after), room - head)
    head = min(len(before), room - tail)
    start = before if head == len(before) else f"{before[:head]}{ELLIPSIS}"
    end = after if tail == len(after) else f"{ELLIPSIS}{after[len(after) - tail :]}"
    return f"{start}{own}{end}"


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


def align(rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()) -> list[str]:
    """Return *rows* as lines of aligned columns, two spaces apart; columns *right* end even."""
    if not rows:
        return []
    ends = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i in ends else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def wrap(words: Iterable[str], width: int, *, first: str = "", rest: str = "    ") -> list[str]:
    """Break *words*, none of which is ever cut, into lines of at most *width* columns.

    A number stays on the line of its unit. A single word wider than the terminal keeps its line.
    """
    lines, line, empty = [], first, True
    for word in _with_units(words):
        headed = empty and line.strip() and line is first and len(line) + len(word) > width
        if headed and len(rest) + len(word) <= width:  # it fits on a line of its own
            lines.append(line.rstrip())
            line = rest
        elif not empty and len(line) + 1 + len(word) > width:
            lines.append(line)
            line, empty = rest, True
        line = f"{line}{word}" if empty else f"{line} {word}"
        empty = False
    if not empty or line.strip():
        lines.append(line.rstrip())
    return lines


def _with_units(words: Iterable[str]) -> Iterator[str]:
    """Join each number with the unit after it."""
    last = ""
    for word in words:
        if last[-1:].isdigit() and word.rstrip(".,;:)") in _UNITS:
            last += f" {word}"
            continue
        if last:
            yield last
        last = word
    if last:
        yield last


def name_list(names: Sequence[str], *, most: int = 5) -> str:
    """Write the first *most* names and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
