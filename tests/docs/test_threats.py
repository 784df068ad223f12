"""What docs/threats.md and docs/faults.md say of tests, metrics and log lines is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAD = ["refused", "answer", "log line", "metric", "test"]


def rows() -> list[list[str]]:
    """Return the cells of the table of refusals, row by row."""
    text = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
    section = text.split("## What is refused\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert HEAD == cells[0]
    return cells[2:]


def names_in(cell: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def all_tests() -> set[str]:
    """Return the names of all tests."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    return found


def test_every_refusal_has_its_tests() -> None:
    """Each row names one at least, and each name is a test's."""
    known = all_tests()
    for row in rows():
        assert len(HEAD) == len(row), row
        assert names_in(row[4]), row[0]
        assert set() == set(names_in(row[4])) - known, row[0]


@pytest.mark.parametrize("page", ["docs/threats.md", "docs/faults.md", "docs/deploying.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """Tests are renamed, and pages forget it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set() == set(re.findall(r"`(test_\w+)`", text)) - all_tests()
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_metrics_and_log_lines_are_those_of_the_code() -> None:
    """An operator who searches for one finds it."""
    metrics = set(
        re.findall(r"^\| `(cats_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    )
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "controlplane").rglob("*.py")
    )
    for row in rows():
        assert set() == set(names_in(row[3])) - metrics, row[0]
        for line in names_in(row[2]):
            assert f'"{line}"' in code, line
