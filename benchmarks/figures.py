"""What every benchmark gives, and how it is reported: a row, its targets, a table.

Each benchmark is a module with ``TITLE`` and ``run_all``, and runs alone as
``python -m benchmarks.NAME [--quick] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure."""

    figure: str
    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Return whether *value* is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        """Return it as ``<= 150``."""
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One case of one benchmark: its figures by name, each name with its unit."""

    case: str
    figures: dict[str, float]
    targets: tuple[Target, ...] = field(default=())

    def missed(self) -> tuple[Target, ...]:
        """Return the targets that are not met."""
        return tuple(t for t in self.targets if not t.met(self.figures[t.figure]))

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "case": self.case,
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
            "targets": [asdict(target) | {"met": target not in self.missed()}
                        for target in self.targets],
        }  # fmt: skip


def quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that *share* of all values do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def table(title: str, rows: Sequence[Row]) -> str:
    """Lay rows out as text; a figure with a target is followed by it."""
    heads = ["case", *dict.fromkeys(name for row in rows for name in row.figures)]
    lines = [heads]
    for row in rows:
        by_name = {target.figure: target for target in row.targets}
        cells = [row.case]
        for name in heads[1:]:
            value = row.figures.get(name)
            text = "" if value is None else f"{value:.4g}"
            if name in by_name and value is not None:
                text += f" ({by_name[name]}{'' if by_name[name].met(value) else ', SHORT'})"
            cells.append(text)
        lines.append(cells)
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    body = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return f"{title}\n{body}\n"


def main(title: str, run_all: Callable[..., list[Row]]) -> None:
    """Run one benchmark from the command line."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="small and short")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    rows = run_all(quick=given.quick)
    if given.json:
        print(json.dumps([row.document() for row in rows]))
    else:
        print(table(title, rows))
