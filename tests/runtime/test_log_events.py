"""Every log event is named as the others are, and every warning says what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PRODUCT = Path(__file__).parents[2] / "controlplane"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
REPORTS = {"report", "report_fault"}


@dataclass(frozen=True)
class Line:
    """One call that logs."""

    place: str
    method: str
    event: str
    fields: frozenset[str | None]


def lines() -> Iterator[Line]:
    """Return every call of a log or of the notifier whose event is written out."""
    for path in sorted(PRODUCT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            method, owner = node.func.attr, ast.unparse(node.func.value)
            if method not in REPORTS and not (method in LEVELS and "log" in owner):
                continue
            if node.args and isinstance(node.args[0], ast.Constant):
                yield Line(
                    f"{path.relative_to(PRODUCT)}:{node.lineno}",
                    method,
                    str(node.args[0].value),
                    frozenset(keyword.arg for keyword in node.keywords),
                )


LINES = list(lines())


def test_there_are_events_to_check() -> None:
    """The search finds the calls that it is meant to find."""
    assert len(LINES) > 60


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.place} {line.event}")
def test_an_event_is_a_noun_and_what_happened_to_it(line: Line) -> None:
    """No article, no sentence, no capital but that of a name, no end mark."""
    assert re.match(r"(an?|the) ", line.event) is None
    assert len(line.event) <= 75
    assert not line.event.endswith(".")


@pytest.mark.parametrize(
    "line",
    [line for line in LINES if line.method in ("warning", "report_fault")],
    ids=lambda line: f"{line.place} {line.event}",
)
def test_every_warning_has_a_remedy(line: Line) -> None:
    """Who reads it must know what to do; fields that are passed on as a whole may hold it."""
    assert line.fields & {"remedy", None}, f"{line.place}: add remedy="
