"""How long answers took, from the histograms that one Envoy streams to us.

Envoys count the answers of each service by time to the first and to the last byte; a message holds
what was added since the flush before it (``histogram_emit_mode: HISTOGRAM``; measured on Envoy
1.40).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from controlplane.errors import ReportError
from controlplane.model import LatencyReport
from controlplane.telemetry.envoy_stats import ABSENT, MAX_LABEL

LATENCY_TIMES = "cats.latency"
"""Histogram by service: microseconds to the last byte of answers."""
TTFT_TIMES = "cats.ttft"
"""Histogram by service: microseconds to the first byte."""

MAX_BUCKETS = 100
MAX_SERVICES = 1_000

_Counts = tuple[tuple[float, ...], tuple[float, ...]]
"""Bounds in seconds, and what is in each bucket and beyond the last."""


def parse_histograms(
    families: Iterable[Any], *, envoy: str, site: str, now: float
) -> list[LatencyReport]:
    """Return how long the answers of each service took that has any in a message.

    Args:
        families: ``MetricFamily`` of ``cats.envoy.v1``.
        envoy: node id.
        site: of its clients.
        now: when the message came.

    Raises:
        ReportError: nothing an Envoy could have counted.
    """
    found: dict[str, dict[str, _Counts]] = {}
    for family in families:
        if family.name not in {LATENCY_TIMES, TTFT_TIMES}:
            continue
        for metric in family.metric:
            service = {label.name: label.value for label in metric.label}.get("service", ABSENT)
            if service == ABSENT or not metric.histogram.sample_count:
                continue
            if len(service) > MAX_LABEL or len(found) >= MAX_SERVICES:
                raise ReportError(f"a name of more than {MAX_LABEL} characters, or too many names")
            found.setdefault(service, {})[family.name] = _read(metric.histogram)
    reports = []
    for service, times in found.items():
        latency, ttft = times.get(LATENCY_TIMES), times.get(TTFT_TIMES)
        if latency is not None and ttft is not None and latency[0] == ttft[0]:
            reports.append(LatencyReport(envoy, site, service, now, *latency, ttft[1]))
    return reports


def _read(histogram: Any) -> _Counts:
    if len(histogram.bucket) > MAX_BUCKETS:
        raise ReportError(f"a histogram of more than {MAX_BUCKETS} buckets")
    bounds = tuple(bucket.upper_bound * 1e-6 for bucket in histogram.bucket)
    totals = [float(bucket.cumulative_count) for bucket in histogram.bucket]
    totals.append(max(float(histogram.sample_count), totals[-1] if totals else 0.0))
    counts = tuple(
        after - before for before, after in zip([0.0, *totals[:-1]], totals, strict=True)
    )
    if any(count < 0 for count in counts):
        raise ReportError("a histogram whose counts fall")
    return bounds, counts
