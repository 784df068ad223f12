"""Envoys' histograms to reports of how long answers took."""

from __future__ import annotations

import pytest

from controlplane.errors import ReportError
from controlplane.resources import names
from controlplane.telemetry.envoy_histograms import (
    LATENCY_TIMES,
    MAX_BUCKETS,
    TTFT_TIMES,
    parse_histograms,
)
from controlplane.wire.cats.envoy.v1 import metrics_pb2


def family(
    name: str, totals: list[int], *, service: str = "chat", count: int = 0
) -> metrics_pb2.MetricFamily:
    """Return a histogram whose buckets end at 1 ms, 2 ms and so on."""
    buckets = [
        metrics_pb2.Bucket(cumulative_count=total, upper_bound=1000.0 * (n + 1))
        for n, total in enumerate(totals)
    ]
    histogram = metrics_pb2.Histogram(sample_count=count or totals[-1], bucket=buckets)
    label = [metrics_pb2.LabelPair(name="service", value=service)]
    metric = metrics_pb2.Metric(label=label, histogram=histogram)
    return metrics_pb2.MetricFamily(name=name, type=metrics_pb2.HISTOGRAM, metric=[metric])


def test_the_names_are_those_that_the_loggers_are_built_with() -> None:
    """What Envoys are informed to count is what is read."""
    assert f"{names.STATS_PREFIX}.{names.STAT_LATENCY_HISTOGRAM}" == LATENCY_TIMES
    assert f"{names.STATS_PREFIX}.{names.STAT_TTFT_HISTOGRAM}" == TTFT_TIMES


def test_buckets_are_counts_in_seconds_with_what_lies_beyond() -> None:
    """Envoy's are cumulative, in microseconds, and know nothing above the last bound."""
    (report,) = parse_histograms(
        [family(LATENCY_TIMES, [1, 3], count=7), family(TTFT_TIMES, [5, 5], count=7)],
        envoy="e",
        site="edge",
        now=3.0,
    )
    assert report.bounds == pytest.approx((0.001, 0.002))
    assert report.latency == (1.0, 2.0, 4.0)
    assert report.ttft == (5.0, 0.0, 2.0)
    assert (report.service, report.site, report.at) == ("chat", "edge", 3.0)


def test_a_service_without_answers_has_no_report() -> None:
    """Envoys send every histogram that ever counted, at each flush."""
    empty = [family(LATENCY_TIMES, [0, 0]), family(TTFT_TIMES, [0, 0])]
    assert parse_histograms(empty, envoy="e", site="edge", now=0.0) == []


@pytest.mark.parametrize(
    "families",
    [
        [family(LATENCY_TIMES, [3, 1])],
        [family(LATENCY_TIMES, list(range(1, MAX_BUCKETS + 2)))],
        [family(LATENCY_TIMES, [1], service="x" * 200)],
    ],
)
def test_what_no_envoy_counts_is_refused(families: list[metrics_pb2.MetricFamily]) -> None:
    """With a reason."""
    with pytest.raises(ReportError):
        parse_histograms(families, envoy="e", site="edge", now=0.0)
