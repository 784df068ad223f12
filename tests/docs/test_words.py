"""The project is written in words that an operator need not translate.

Each word here has a standard term, or names no actor: who is "nobody", an Envoy or a person?
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AVOIDED = {
    "anew": "again, from scratch",
    "dear": "expensive",
    "everybody": "all, every client, everyone",
    "foretold": "predicted",
    "mend": "fix",
    "mended": "fixed",
    "nobody": "no client, nothing, no one",
    "of before": "previous",
    "somebody": "a client, someone",
    "tell": "report, say, show",
    "tells": "reports, says, shows",
    "told": "reported, logged, shown",
    "the wheel": "overrides",
    "wherever": "where",
    "whoever": "the client that, anyone who",
}
"""Word and what to write in its place."""
ALLOWED = {
    ("tests/", "nobody"): "the name of something unknown in a test's data",
}
"""(beginning of a path, word) and why it may stand there."""
NOT_OURS = ("CHANGELOG.md", "testbed/vendor", "controlplane/wire", "controlplane/sim/traces",
            "tests/docs/test_words.py", "protos")  # fmt: skip
LATER: tuple[str, ...] = ()
STARTS = ("Give", "Tell", "Take", "Learn")
"""Words that no docstring begins with: say Return, Report, Record, Raise, Start, Stop."""


def files(*suffixes: str) -> Iterator[Path]:
    """Return the files of the project that people write."""
    for folder in ("controlplane", "testbed", "benchmarks", "deploy", "docs", "examples", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in suffixes and not _is_foreign(path):
                yield path
    yield from (path for path in ROOT.glob("*.md") if ".md" in suffixes and not _is_foreign(path))


def _is_foreign(path: Path) -> bool:
    name = str(path.relative_to(ROOT))
    return name.startswith((*NOT_OURS, *LATER)) or "__pycache__" in name


def uses() -> Iterator[tuple[str, str, int]]:
    """Return (file, word, line) for every use of an avoided word in code, pages and texts."""
    pattern = re.compile(rf"(?<![\w./-])({'|'.join(AVOIDED)})(?![\w(-])", re.IGNORECASE)
    for path in files(".py", ".md", ".html", ".js", ".yaml"):
        name = str(path.relative_to(ROOT))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for found in pattern.findall(line):
                word = found.lower()
                if not any(name.startswith(p) and w == word for p, w in ALLOWED):
                    yield name, word, number


def test_avoided_words_are_not_used() -> None:
    """In code, pages, log events and help texts; the table says what to write."""
    found = [f"{name}:{line}: {word}: {AVOIDED[word]}" for name, word, line in uses()]
    assert [] == found


def test_the_list_of_exceptions_is_short() -> None:
    """At most thirty, and each is of a word that is avoided."""
    assert len(ALLOWED) <= 30
    assert {word for _, word in ALLOWED} <= set(AVOIDED)


@pytest.mark.parametrize("package", sorted(p.name for p in (ROOT / "controlplane").iterdir()
                                           if p.is_dir() and p.name not in ("wire", "__pycache__")
                                           and f"controlplane/{p.name}" not in LATER))  # fmt: skip
def test_docstrings_begin_with_what_is_done(package: str) -> None:
    """Return, Record, Report, Raise: what a caller gets, in the words of the language."""
    wrong = []
    for path in sorted((ROOT / "controlplane" / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                text = ast.get_docstring(node) or ""
                if text.split(" ", 1)[0] in STARTS:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text.splitlines()[0]}")
    assert [] == wrong
