"""The metrics page of an emulated instance."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from controlplane.config import Engine
from controlplane.model import Signal
from controlplane.telemetry.engines import parse_metrics
from testbed.fakes.engine import BatchingEngine, Curve, Demand
from testbed.fakes.exposition import build_exposition


def make_samples() -> dict[tuple[str, str], float]:
    """Read the page of an engine that finished one request, runs one and has one waiting."""
    engine = BatchingEngine(Curve(base=0.4, crowding=0.0, slots=1), kv_tokens=1000, now=0.0)
    for _ in range(3):
        engine.submit(Demand(prompt_tokens=50, output_tokens=50), now=0.0)
    while (at := engine.next_at()) is not None and engine.completed < 1:
        engine.advance(now=at)
    engine.train(0.25, now=0.5)
    page = build_exposition(engine, model="m")
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.labels["model_name"] == "m" and sample.labels["engine"] == "0"
    }


def test_names_and_values_are_those_of_vllm() -> None:
    """A Prometheus client reads every series that a reader of vLLM asks for."""
    samples = make_samples()

    assert 1.0 == samples["vllm:num_requests_running", ""]
    assert 1.0 == samples["vllm:num_requests_waiting", ""]
    assert 0.1 == samples["vllm:kv_cache_usage_perc", ""]
    assert 50.0 == samples["vllm:prompt_tokens_total", ""]
    assert 50.0 == samples["vllm:generation_tokens_total", ""]
    assert 1.0 == samples["vllm:request_success_total", ""]
    assert 1.0 == samples["vllm:e2e_request_latency_seconds_count", ""]
    assert 0.2 < samples["vllm:e2e_request_latency_seconds_sum", ""] < 0.21
    assert 0.25 == samples["cats_training", ""]


def test_buckets_are_cumulative_and_end_with_the_count() -> None:
    """Each bucket holds those below it, and the last one holds everything."""
    samples = make_samples()

    for name, count in (
        ("vllm:time_to_first_token_seconds", 1.0),
        ("vllm:e2e_request_latency_seconds", 1.0),
        ("vllm:request_queue_time_seconds", 2.0),
    ):
        buckets = [value for (key, _), value in samples.items() if key == f"{name}_bucket"]
        assert sorted(buckets) == buckets
        assert count == buckets[-1] == samples[f"{name}_count", ""]


def test_the_control_plane_reads_the_page_and_misses_nothing() -> None:
    """Every signal that a vLLM should give is there, and the training job is noticed."""
    engine = BatchingEngine(Curve(base=0.4, crowding=0.0, slots=1), now=0.0)
    engine.train(0.25, now=0.0)
    page = build_exposition(engine, model="m")

    report = parse_metrics(page, engine=Engine.VLLM, instance="a", at=0.0)

    assert () == report.missing
    assert 0.25 == report.signals[Signal.TRAINING]
