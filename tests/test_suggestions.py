"""A misspelt name gets the same proposal in every place."""

from __future__ import annotations

import pytest

from controlplane.suggestions import closest, did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("modle", ["model", "site"], "did you mean 'model'?"),
        ("MODEL-A", ["model-a", "model-b"], "did you mean 'model-a'?"),
        ("zebra", ["model", "site"], "known: model, site"),
        ("zebra", ["a1", "b1", "c1"], "known: a1, b1, ..."),
        ("zebra", [], ""),
    ],
)
def test_what_is_proposed_is_the_nearest_name_or_what_is_known(
    word: str, known: list[str], expected: str
) -> None:
    """As an operator reads it after a semicolon."""
    assert did_you_mean(word, known, shown=2) == expected


def test_a_list_of_any_length_costs_little() -> None:
    """Names beyond the first thousand are not compared."""
    names = (f"name-{i}" for i in range(10**9))
    assert closest("name-5", names) == "name-5"
