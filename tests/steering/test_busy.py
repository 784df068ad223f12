"""How many requests engines work on between two looks at them."""

from __future__ import annotations

import numpy as np

from controlplane.steering.busy import Intervals, busy_level, mean_busy, work_rate
from controlplane.steering.observation import REPORTED, Gauge, Seen
from controlplane.steering.token_rates import SLOWDOWNS


def pair(
    *, running: float, last: float, completed: float | None = 4.0, residence: float | None = None
) -> tuple[Gauge, Seen]:
    """Return an instance's gauge of a second ago and what is seen of it now."""
    now = Gauge(11.0, running, 0.0, REPORTED)
    seen = Seen(now, completed, 11.0, residence, None, None, 0.0, 1.0, output=50.0)
    return Gauge(10.0, last, 0.0, REPORTED), seen


PAIRS = [
    pair(running=3.0, last=5.0),
    pair(running=2.0, last=0.0, residence=1.5),
    pair(running=9.0, last=9.0, residence=40.0),
    pair(running=1.0, last=1.0, completed=None),
    pair(running=0.0, last=0.0, completed=0.0, residence=0.0),
]


def busy(*pairs: tuple[Gauge, Seen]) -> list[float]:
    """Return the mean number worked on in each, at half a second a request and eight slots."""
    seen, each = Intervals.of(pairs), np.ones(len(pairs))
    found = mean_busy(seen, each, inside=seen.inside(each), ratio=2.0 * each, slots=8.0 * each)
    return [float(number) for number in found]


def test_instances_together_are_as_busy_as_each_alone() -> None:
    """With and without a sum of latencies, full and idle."""
    assert busy(*PAIRS) == [number for each in PAIRS for number in busy(each)]
    assert all(0.0 <= number <= 8.0 for number in busy(*PAIRS))


def test_no_interval_is_nothing_to_learn_from() -> None:
    """While no instance has a new report."""
    assert not busy()


def test_no_more_were_inside_than_left_and_stayed() -> None:
    """A latency is reported when its request ends, however long before that it began."""
    inside = Intervals.of(PAIRS).inside(np.ones(len(PAIRS)))

    np.testing.assert_allclose(inside, [np.nan, 1.5, 13.0, np.nan, 0.0])


def test_a_level_is_the_load_at_which_so_many_are_inside() -> None:
    """By the same curve of a queue, below its slots."""
    level, slots = np.array([0.3, 5.0, 7.6]), np.full(3, 8.0)
    rho = level / slots

    found = busy_level(level + rho ** np.sqrt(2.0 * (slots + 1.0)) / (1.0 - rho), slots)

    np.testing.assert_allclose(found, level, atol=1e-5)


def test_a_batch_works_at_the_rate_of_its_slowdown() -> None:
    """One request at its own pace whatever the slowdown."""
    rate = work_rate(np.array([0.0, 0.5, 1.0, 5.0]))

    np.testing.assert_allclose(rate[:3], np.tile([[0.0], [0.5], [1.0]], len(SLOWDOWNS)))
    np.testing.assert_allclose(rate[3], 5.0 / (1.0 + 4.0 * SLOWDOWNS))
