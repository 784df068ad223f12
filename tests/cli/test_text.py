"""Lines for a terminal: what may stand at an end of a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cli import assignments
from controlplane.cli.text import shorten_all, wrap

WORDS = st.lists(st.sampled_from(["silent", "for", "20", "s", "1.5", "ms;", "a", "trial"]))


@given(WORDS, st.integers(12, 40))
def test_no_number_is_parted_from_its_unit_and_no_word_lost(words: list[str], width: int) -> None:
    """However narrow it is."""
    lines = wrap(words, width)

    assert words == " ".join(lines).split()
    assert all(len(line) <= width for line in lines)
    ends = [line.split()[-1] for line in lines[:-1]]
    begins = [line.split()[0] for line in lines[1:]]
    parted = [pair for pair in zip(ends, begins, strict=True)
              if pair[0][-1].isdigit() and pair[1] in ("s", "ms;")]  # fmt: skip
    assert [] == parted


def test_a_quiet_line_is_quiet_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is wrapped into as well; the next line is not."""
    written: list[tuple[str, bool]] = []
    monkeypatch.setattr(assignments, "echo", lambda line, *, dim=False: written.append((line, dim)))
    words = ["the", "service", "does", "not", "list", "its", "model"]
    lines = wrap(words, 40, first="no requests for 4: ")

    assignments.print_lines([*lines, "a 100%"])

    assert len(lines) > 1
    assert [*((line, True) for line in lines), ("a 100%", False)] == written


@pytest.mark.parametrize("width", range(9, 60))
def test_long_names_that_are_alike_can_be_distinguished(width: int) -> None:
    """What they share gives way."""
    names = [f"instance-on-a-machine-with-number-{n:04}.rack.example" for n in (3, 4, 13, 104)]
    short = shorten_all([*names, names[0]], width)

    assert all(len(name) <= width for name in short)
    assert 4 == len(set(short))
    assert short[0] == short[-1]


@given(
    names=st.lists(st.text("ab-.0", max_size=30), max_size=6), width=st.integers(3, 30),
    shared=st.sampled_from(["", "a-place-with-a-long-name-", "x"]),
)  # fmt: skip
def test_names_of_any_kind_fit(names: list[str], width: int, shared: str) -> None:
    """Equal names stay equal, those that fit stay as they are."""
    given_names = [shared + name for name in names]
    short = shorten_all(given_names, width)
    assert all(len(name) <= width for name in short)
    assert len(short) == len(given_names)
    for name, shown in zip(given_names, short, strict=True):
        assert shown == short[given_names.index(name)]
        assert len(name) > width or shown == name
