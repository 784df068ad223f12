"""The kernel merges arrivals and events in the order of time."""

from __future__ import annotations

from controlplane.sim.kernel import Kernel


def test_arrivals_and_events_happen_in_the_order_of_time() -> None:
    """An event at the very time of an arrival comes before it."""
    kernel, seen = Kernel(), []
    for when in (3.0, 1.0, 2.0):
        kernel.at(when, lambda now, what: seen.append((now, what)), 10)

    kernel.run(5.0, [0.5, 2.0], lambda now, index: seen.append((now, index)))

    assert [(0.5, 0), (1.0, 10), (2.0, 10), (2.0, 1), (3.0, 10)] == seen
    assert 5.0 == kernel.now


def test_a_period_does_not_drift() -> None:
    """The n-th call comes at start + n * period, with no sum of roundings."""
    kernel = Kernel()
    seen: list[float] = []
    kernel.every(0.1, seen.append, start=0.0)

    kernel.run(100.05, [], lambda _now, _index: None)

    assert 1001 == len(seen)
    assert 70.0 == seen[700]


def test_nothing_beyond_the_end_happens() -> None:
    """Arrivals and events after the end are left alone."""
    kernel, seen = Kernel(), []
    kernel.at(2.0, lambda now, _: seen.append(now))

    kernel.run(1.0, [0.5, 1.5], lambda now, _: seen.append(now))

    assert [0.5] == seen
