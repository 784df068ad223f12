"""ORCA in all its forms, read as strictly as Envoy reads it."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from controlplane.errors import ReportError
from controlplane.model import Signal, Source
from controlplane.telemetry.orca import (
    MIN_UTILISATION,
    RATE_SCALE,
    build_orca_report,
    parse_metric_means,
    parse_orca_report,
)


@given(st.binary())
def test_whatever_bytes_come_out_of_band_nothing_is_raised_but_our_error(content: bytes) -> None:
    """As `controlplane.sources.orca` takes them."""
    with contextlib.suppress(ReportError, DecodeError):
        parse_orca_report(OrcaLoadReport.FromString(content), instance="a", at=0.0)


@pytest.mark.parametrize(
    ("report", "signals"),
    [
        pytest.param(
            OrcaLoadReport(named_metrics={"kv_cache_utilization": 0.5, "max_token_capacity": 9}),
            {Signal.KV_USE: 0.5}, id="triton",
        ),
        pytest.param(
            OrcaLoadReport(
                named_metrics={"kv_cache_usage_perc": 0.5, "num_requests_waiting": 3}
            ),
            {Signal.KV_USE: 0.5, Signal.WAITING: 3.0}, id="vllm",
        ),
        pytest.param(
            OrcaLoadReport(named_metrics={"vllm:num_requests_running": 2}),
            {Signal.RUNNING: 2.0}, id="prefixed",
        ),
        pytest.param(
            OrcaLoadReport(application_utilization=1.7, cpu_utilization=0.2, rps_fractional=3),
            {Signal.UTILISATION: 1.0, Signal.THROUGHPUT: 3.0}, id="overloaded",
        ),
        pytest.param(OrcaLoadReport(rps=7), {Signal.THROUGHPUT: 7.0}, id="deprecated_rps"),
        pytest.param(OrcaLoadReport(named_metrics={"x": 1}), {}, id="unknown_names"),
    ],
)  # fmt: skip
def test_signals_are_found_under_the_names_in_use(
    report: OrcaLoadReport, signals: dict[Signal, float]
) -> None:
    """Engines do not agree on names."""
    parsed = parse_orca_report(report, instance="a", at=5.0)

    assert (signals, Source.ORCA, 5.0) == (dict(parsed.signals), parsed.source, parsed.at)


def test_values_that_cannot_be_are_left_out_and_reported() -> None:
    """A percentage where a share belongs, for one."""
    report = OrcaLoadReport(named_metrics={"kv_cache_utilization": 57.0, "running": 2.0})

    parsed = parse_orca_report(report, instance="a", at=0.0)

    assert {Signal.RUNNING: 2.0} == parsed.signals
    assert ("kv_use (kv_cache_utilization) is 57",) == parsed.refused


def test_means_from_load_reports_become_signals() -> None:
    """What Envoys averaged over the answers of an interval."""
    parsed = parse_metric_means(
        [("named_metrics.kv_cache_usage_perc", 0.4), ("cpu_utilization", 0.3), ("other", 1.0)],
        instance="a",
        at=0.0,
    )

    assert {Signal.KV_USE: 0.4, Signal.UTILISATION: 0.3} == parsed.signals


def weight(report: OrcaLoadReport) -> float:
    """Return the weight that Envoy computes."""
    return float(report.rps_fractional / report.application_utilization / RATE_SCALE)


def test_the_normalised_report_makes_envoys_weight_a_capacity() -> None:
    """Eight slots of half a second serve sixteen requests a second."""
    busy = build_orca_report(
        {Signal.RUNNING: 4.0, Signal.WAITING: 0.0}, slots=8, rate=8.0, service_time=0.5
    )
    idle = build_orca_report({Signal.RUNNING: 0.0}, slots=8, rate=0.0, service_time=0.5)
    crowded = build_orca_report(
        {Signal.RUNNING: 8.0, Signal.WAITING: 24.0}, slots=8, rate=8.0, service_time=0.5
    )

    assert pytest.approx(16.0) == weight(busy) == weight(idle)
    assert pytest.approx(2.0) == weight(crowded)
    assert MIN_UTILISATION == idle.application_utilization
    assert (0.5, 4.0) == (busy.application_utilization, crowded.application_utilization)


@given(
    running=st.floats(0, 1e4), waiting=st.floats(0, 1e4), slots=st.floats(0, 1e4),
    rate=st.floats(0, 1e4), service=st.one_of(st.none(), st.floats(0, 1e3)),
)  # fmt: skip
def test_every_normalised_report_is_one_that_envoy_uses(
    running: float, waiting: float, slots: float, rate: float, service: float | None
) -> None:
    """Utilisation and rate are positive and finite, whatever is known."""
    report = build_orca_report(
        {Signal.RUNNING: running, Signal.WAITING: waiting}, slots=slots, rate=rate,
        service_time=service,
    )  # fmt: skip

    assert 0 < report.application_utilization < 1e9
    assert 0 < report.rps_fractional < 1e20
