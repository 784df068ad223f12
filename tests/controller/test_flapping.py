"""An instance that changes back and forth fills neither log nor events, and nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.controller.flapping import MOST_CHANGES, PERIOD, Flapping


def test_the_first_changes_are_reported_and_then_one_count_a_minute() -> None:
    """At a change a second for ten minutes; a quiet minute ends it."""
    flapping = Flapping()
    lines, counted = 0, 0
    for second in range(600):
        lines += not flapping.leaves_out("a", now=float(second))
        found = [*flapping.due({"a"}, now=float(second))]
        counted += sum(count for _, count in found)
        lines += len(found)
    late = [found for second in range(600, 800) for found in flapping.due({"a"}, now=second)]
    counted += sum(count for _, count in late)

    assert MOST_CHANGES + 10 >= lines
    assert 600 == MOST_CHANGES + counted
    assert 1 == len(late)
    assert not flapping.leaves_out("a", now=800.0)


def test_changes_that_are_few_are_all_reported() -> None:
    """As of an instance that goes and returns, and of others beside one that flaps."""
    flapping = Flapping()

    assert not any(flapping.leaves_out("a", now=12.0 * n) for n in range(100))
    for second in range(30):
        flapping.leaves_out("b", now=1200.0 + second)
    assert not flapping.leaves_out("a", now=1230.0)


def test_what_is_gone_is_forgotten() -> None:
    """Pods have new names each time."""
    flapping = Flapping()
    for second in range(20):
        flapping.leaves_out("a", now=float(second))

    assert [] == [*flapping.due(set(), now=100.0)]
    assert not flapping._changes
    assert not flapping._left_out


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 30.0)), max_size=80))
def test_each_change_is_in_one_report(steps: list[tuple[str, float]]) -> None:
    """By itself or in a count, whenever it comes."""
    flapping = Flapping()
    now, reported = 0.0, 0
    for name, wait in steps:
        now += wait
        reported += not flapping.leaves_out(name, now=now)
        reported += sum(count for _, count in flapping.due("ab", now=now))
    for _ in range(3):
        now += PERIOD
        reported += sum(count for _, count in flapping.due("ab", now=now))

    assert len(steps) == reported
