"""A newcomer's questions have one answer each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (?!to add)([^|]+) \| ([^|]+) \|$",
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
"""Question and where to go."""


@pytest.mark.parametrize(("question", "answer"), ROWS)
def test_a_question_leads_to_one_place_that_exists(question: str, answer: str) -> None:
    """To a module, or to a folder whose modules are one for each thing that is asked for."""
    places = re.findall(r"`(controlplane/[^`]+)`", answer)

    assert 1 == len(places), question
    assert (ROOT / places[0]).exists(), f"{places[0]} is gone; say where {question} went"
    assert places[0].endswith("/") == (", one module a" in answer), question


def test_no_place_answers_two_questions() -> None:
    """Else one of the rows is of no use, or a module has two subjects."""
    places = [answer for _, answer in ROWS]

    assert 9 <= len(places) == len(set(places))
