"""Metric levels: golden vectors, and the laws of scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.telemetry.levels import (
    BY_NAME,
    METRICS,
    Advice,
    Category,
    Levels,
    Metric,
    advise,
    grade,
    to_score,
)

GOLDEN = [
    pytest.param(
        [{"utilisation": 0.0, "load": 0.0, "rtt": 0.0, "latency": 0.0, "delay": 0.0}],
        {"computing": 10, "communication": 10, "service": 10, "composed": 10}, 10,
        id="perfect",
    ),
    pytest.param(
        [{"utilisation": 1.0, "load": 5.0, "rtt": 1.0, "latency": 60.0, "delay": 61.0}],
        {"computing": 0, "communication": 0, "service": 0, "composed": 0}, 0,
        id="beyond_every_bound",
    ),
    # computing (0.6 + 0.75) / 2 = 0.675; communication 0.9; service 0.8; composed 0.798
    pytest.param(
        [{"utilisation": 0.4, "load": 0.5, "rtt": 0.02, "latency": 2.0, "delay": 2.02}],
        {"computing": 7, "communication": 9, "service": 8, "composed": 8}, 8,
        id="typical",
    ),
    # The window's mean counts, not the last value: 0.5 busy, 0.1 s away.
    pytest.param(
        [{"utilisation": 0.0, "rtt": 0.05}, {"utilisation": 1.0, "rtt": 0.15}],
        {"computing": 5, "communication": 5}, 5,
        id="window",
    ),
    # bandwidth 25 MB/s of 125: 0.2; rtt 0.9; mean 0.55 rounds half up
    pytest.param(
        [{"rtt": 0.02, "bandwidth": 25e6}], {"communication": 6}, 6, id="half_up",
    ),
    # failures 2 % of 10: 0.8; ttft 0.5 s of 2: 0.75; latency 1 s of 10: 0.9
    pytest.param(
        [{"failures": 0.02, "ttft": 0.5, "latency": 1.0}], {"service": 8}, 8, id="service",
    ),
    pytest.param([{"training": 0.6, "kv_use": 0.8}], {"computing": 3}, 3, id="training"),
    pytest.param([{"unknown": 1.0}], {}, None, id="nothing_known"),
    pytest.param([], {}, None, id="no_sample"),
]  # fmt: skip


@pytest.mark.parametrize(("samples", "l1", "l2"), GOLDEN)
def test_golden_vectors(
    samples: list[dict[str, float]], l1: dict[str, int], l2: int | None
) -> None:
    """What any other implementation with these bounds must get."""
    graded = grade(samples)

    assert l1 == {category.value: score for category, score in graded.l1.items()}
    assert l2 == graded.l2


@pytest.mark.parametrize(
    ("score", "advice"),
    [(0, Advice.NOT_RECOMMENDED), (3, Advice.NOT_RECOMMENDED), (4, Advice.OPTIONAL),
     (7, Advice.OPTIONAL), (8, Advice.PREFERRED), (10, Advice.PREFERRED)],
)  # fmt: skip
def test_scores_advise(score: int, advice: Advice) -> None:
    """0-3, 4-7 and 8-10."""
    assert advice is advise(score)
    assert advice is Levels(l2=score).advice


def test_every_category_has_a_metric_and_every_bound_two_ends() -> None:
    """A metric whose ends meet would divide by zero."""
    assert set(Category) == {metric.category for metric in METRICS}
    assert all(metric.worst != metric.best for metric in METRICS)
    assert len(METRICS) == len(BY_NAME)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(BY_NAME)), st.floats(0, 1e12)), max_size=5))
def test_scores_stay_between_0_and_10(samples: list[dict[str, float]]) -> None:
    """Whatever the raw values."""
    graded = grade(samples)

    scores = [*graded.l1.values(), *([] if graded.l2 is None else [graded.l2])]
    assert all(0 <= score <= 10 for score in scores)


@given(metric=st.sampled_from(METRICS), a=st.floats(0, 1e9), b=st.floats(0, 1e9))
def test_a_better_value_never_scores_less(metric: Metric, a: float, b: float) -> None:
    """Scores are higher-is-better, whichever way the raw metric goes."""
    better, worse = (min, max) if metric.best < metric.worst else (max, min)

    assert to_score(metric.normalise(better(a, b))) >= to_score(metric.normalise(worse(a, b)))
