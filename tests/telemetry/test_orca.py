"""ORCA in all its forms, read as strictly as Envoy reads it."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from controlplane.errors import ReportError
from controlplane.model import Signal, Source
from controlplane.telemetry.orca import (
    HEADERS,
    MAX_HEADER,
    MIN_UTILISATION,
    RATE_SCALE,
    build_orca_report,
    parse_metric_means,
    parse_orca_header,
    parse_orca_report,
)

WHOLE = OrcaLoadReport(
    cpu_utilization=0.5,
    mem_utilization=0.25,
    rps_fractional=12.5,
    named_metrics={"kv_cache_usage_perc": 0.75},
)
BINARY = base64.b64encode(WHOLE.SerializeToString()).decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(
            "endpoint-load-metrics",
            "TEXT cpu_utilization=0.5, mem_utilization=0.25, rps_fractional=12.5,"
            " named_metrics.kv_cache_usage_perc=0.75",
            id="text",
        ),
        pytest.param(
            "endpoint-load-metrics",
            "TEXT cpu_utilization:0.5,mem_utilization:0.25,rps_fractional:12.5,"
            "named_metrics.kv_cache_usage_perc:0.75",
            id="text_with_colons",
        ),
        pytest.param(
            "Endpoint-Load-Metrics",
            'JSON {"cpu_utilization": 0.5, "mem_utilization": 0.25, "rps_fractional": 12.5,'
            ' "named_metrics": {"kv_cache_usage_perc": 0.75}}',
            id="json",
        ),
        pytest.param(
            "endpoint-load-metrics",
            'JSON {"cpuUtilization": 0.5, "memUtilization": 0.25, "rpsFractional": 12.5,'
            ' "namedMetrics": {"kv_cache_usage_perc": 0.75}}',
            id="json_as_protobuf_writes_it",
        ),
        pytest.param("endpoint-load-metrics", f"BIN {BINARY}", id="bin"),
        pytest.param("endpoint-load-metrics-bin", BINARY.rstrip("="), id="grpc_without_padding"),
    ],
)
def test_every_form_of_the_header_says_the_same(name: str, value: str) -> None:
    """One report, six ways to write it."""
    assert WHOLE == parse_orca_header(name, value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param("", "TEXT, JSON or BIN", id="empty"),
        pytest.param("XML <a/>", "TEXT, JSON or BIN", id="another_form"),
        pytest.param("TEXT cpu_utilization", "not name=value", id="no_value"),
        pytest.param("TEXT cpu_utilization=", "no number", id="empty_value"),
        pytest.param("TEXT cpu_utilization=1_0", "no number", id="underscore"),
        pytest.param("TEXT cpu_utilization=nan", "is nan", id="nan"),
        pytest.param("TEXT cpu_utilization=inf", "is inf", id="infinity"),
        pytest.param("TEXT load=1", "not known", id="unknown_name"),
        pytest.param("TEXT named_metrics.=1", "not known", id="empty_inner_name"),
        pytest.param("TEXT eps=1,eps=2", "twice", id="twice"),
        pytest.param("JSON [1]", "no object", id="list"),
        pytest.param('JSON {"eps": 1, "eps": 2}', "twice", id="json_twice"),
        pytest.param('JSON {"eps": true}', "no number", id="json_boolean"),
        pytest.param("JSON {", "cannot be read", id="json_broken"),
        pytest.param("BIN ***", "cannot be read", id="not_base64"),
        pytest.param("BIN /////w==", "cannot be read", id="no_message"),
        pytest.param("TEXT " + "x" * MAX_HEADER, "at most", id="too_long"),
        pytest.param(
            "TEXT " + ",".join(f"named_metrics.m{n}=1" for n in range(300)), "more than", id="many"
        ),
    ],
)
def test_a_faulty_header_is_refused_with_its_reason(value: str, words: str) -> None:
    """What Envoy would not take, we do not take."""
    with pytest.raises(ReportError) as caught:
        parse_orca_header("endpoint-load-metrics", value)

    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


@given(name=st.sampled_from(HEADERS), form=st.sampled_from(["", "TEXT ", "JSON ", "BIN "]),
       rest=st.one_of(st.text(), st.binary().map(lambda b: base64.b64encode(b).decode()),
                      st.from_regex(r"[a-z_.]{1,20}[=:][0-9.e+-]{0,9}(,[a-z=:0-9]*)?",
                                    fullmatch=True)))  # fmt: skip
def test_whatever_a_header_holds_nothing_is_raised_but_our_error(
    name: str, form: str, rest: str
) -> None:
    """And what can be read becomes a report."""
    try:
        report = parse_orca_header(name, form + rest)
        parse_orca_report(report, instance="a", at=0.0)
    except ReportError:
        pass


@given(st.binary())
def test_whatever_bytes_come_out_of_band_nothing_is_raised_but_our_error(content: bytes) -> None:
    """As `controlplane.sources.orca` takes them."""
    header = base64.b64encode(content).decode()
    with contextlib.suppress(ReportError):
        parse_orca_report(parse_orca_header(HEADERS[1], header), instance="a", at=0.0)


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


def test_values_that_cannot_be_are_left_out_and_told() -> None:
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
