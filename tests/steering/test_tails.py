"""The spread that is learned is the one that makes as many late as Envoys count."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.fleet.traffic_view import LatencyCounts
from controlplane.steering.latency import Array
from controlplane.steering.promise_tails import PromiseKind, Tail
from controlplane.steering.promises import late_parts
from controlplane.steering.tails import TailLearner
from tests.steering.test_promises import fleet, problem_of

BOUNDS = (0.5, 1.0, 1.5, 2.0, 3.0)


def counted(late: float, total: float, *, limit: float) -> LatencyCounts:
    """Return counts of *total* answers of which the part *late* took longer than *limit*."""
    place = BOUNDS.index(limit)
    counts = [0.0] * (len(BOUNDS) + 1)
    counts[place], counts[place + 1] = total * (1 - late), total * late
    return LatencyCounts(BOUNDS, tuple(counts), tuple(counts))


@pytest.mark.parametrize("late", [0.002, 0.01, 0.05])
def test_what_is_foreseen_comes_to_what_is_counted(late: float) -> None:
    """Within a tenth of the part that is late, after a minute of a hundred a second."""
    made = problem_of(fleet(1.5), 0.3)
    problem = made.problem(made.whole())
    shares: Array = np.full(len(problem.flow.row), 0.25)
    load = problem.flow.load(shares)
    learner = TailLearner()
    for second in range(60):
        learner.observe(
            [learner.tail(0, "chat", PromiseKind.LATENCY, 1.5)],
            {"chat": counted(late, 100.0 * (second + 1), limit=1.5)},
            problem=problem,
            shares=shares,
            load=load,
            now=float(second),
        )
    tail = learner.tail(0, "chat", PromiseKind.LATENCY, 1.5)
    assert late_parts(problem, shares, load, [tail])[0] == pytest.approx(late, rel=0.15)


def test_nothing_counted_leaves_the_prior() -> None:
    """A service without answers is as any."""
    tail = TailLearner().tail(0, "chat", PromiseKind.LATENCY, 1.0)
    assert tail == Tail(0, PromiseKind.LATENCY, 1.0)


def test_the_beginning_of_answers_has_a_scale_of_its_own() -> None:
    """Which is that of its mean to the mean of whole answers."""
    made = problem_of(fleet(), 0.5)
    problem = made.problem(made.whole())
    shares: Array = np.full(len(problem.flow.row), 0.25)
    learner = TailLearner()
    counts = LatencyCounts(BOUNDS, (0.0, 0.0, 100.0, 0, 0, 0), (100.0, 0.0, 0.0, 0, 0, 0))
    learner.observe(
        [learner.tail(0, "chat", PromiseKind.TTFT, 0.5)],
        {"chat": counts},
        problem=problem,
        shares=shares,
        load=problem.flow.load(shares),
        now=0.0,
    )
    assert learner.tail(0, "chat", PromiseKind.TTFT, 0.5).scale == pytest.approx(0.2)
