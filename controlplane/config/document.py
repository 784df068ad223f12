"""A document's values and their places in the text, for faults that name the place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.errors import ConfigError, Fault

Path = tuple[str | int, ...]
"""Keys and list positions from the root to a value."""
_PLAIN_KEY = re.compile(r"[\w-]+")


_PLAIN_SCALAR = re.compile(r"[^\s,\[\]{}\"'#]+")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text."""

    line: int
    """1-based."""
    column: int
    """1-based, in characters."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document's plain values and their places."""

    file: str
    tree: Any
    """Mappings, lists, text, numbers, booleans and None."""
    values: Mapping[Path, Mark]
    """Where each value begins."""
    keys: Mapping[Path, Mark]
    """Where the key of each value in a mapping begins."""
    faults: tuple[Fault, ...] = ()
    """What is wrong with the text though it can be read, such as a key given twice."""
    lines: tuple[str, ...] = ()
    """The text."""

    def line(self, path: Path) -> str:
        """Return the text from the beginning of a value to the end of its line."""
        mark = self.values.get(path)
        if mark is None or mark.line > len(self.lines):
            return ""
        return self.lines[mark.line - 1][mark.column - 1 :]

    def written(self, path: Path) -> str:
        """Return a plain scalar as it is written, such as 007 for the number 7; or nothing."""
        found = _PLAIN_SCALAR.match(self.line(path))
        return "" if found is None else found[0]

    def fault(self, path: Path, message: str, *, at_key: bool = False) -> Fault:
        """Return a fault at the value of *path*, or at its key, or at what should hold it."""
        places = self.keys if at_key else self.values
        mark = next(
            (found for found in (_up(path, places, self.values)) if found is not None), Mark(1, 1)
        )
        return Fault(self.file, mark.line, mark.column, dotted(path), one_line(message))


def _up(path: Path, first: Mapping[Path, Mark], then: Mapping[Path, Mark]) -> Iterator[Mark | None]:
    yield first.get(path)
    for length in range(len(path), -1, -1):
        yield then.get(path[:length])


def dotted(path: Path) -> str:
    """Return a path as operators read it: ``services[0].slo.ttft``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return one_line(text)


def one_line(text: str) -> str:
    """Make text from a file safe to print: one line, printable, not endless."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:600])
    return shown if len(text) <= 600 else shown + "..."


def refused(file: str, mark: Mark, message: str) -> ConfigError:
    """Return the error of a document that cannot be read, with the place."""
    return ConfigError([Fault(file, mark.line, mark.column, "", one_line(message))])
