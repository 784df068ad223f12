"""Triton, by its metrics guide and the README of its TensorRT-LLM backend."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Expected,
    Merge,
    rule,
)
from controlplane.telemetry.engines.machine import POWER, UTILISATION, dialect


def _request_type(value: str) -> Alias:
    return Alias("nv_trt_llm_request_metrics", label="request_type", values=frozenset({value}))


TRITON = dialect(
    (
        rule(Signal.RUNNING, _request_type("scheduled"), _request_type("active")),
        rule(
            Signal.WAITING,
            _request_type("waiting"),
            Alias("nv_inference_pending_request_count"),
            expected=Expected.ALWAYS,
        ),
        rule(Signal.SLOTS, _request_type("max")),
        rule(
            Signal.KV_USE,
            Alias(
                "nv_trt_llm_kv_cache_block_metrics",
                label="kv_cache_block_type",
                values=frozenset({"fraction"}),
            ),
            merge=Merge.MAX,
        ),
        rule(
            Signal.COMPLETED,
            "nv_inference_request_success",
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        rule(Signal.FAILED, "nv_inference_request_failure", merge=Merge.MODEL),
        rule(
            Signal.LATENCY_SUM,
            Alias("nv_inference_request_duration_us", scale=1e-6),
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.LATENCY_COUNT,
            "nv_inference_request_success",
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.QUEUE_SUM,
            Alias("nv_inference_queue_duration_us", scale=1e-6),
            merge=Merge.MODEL,
        ),
        rule(Signal.QUEUE_COUNT, "nv_inference_request_success", merge=Merge.MODEL),
        rule(
            Signal.TTFT_SUM,
            Alias("nv_inference_first_response_histogram_ms_sum", scale=1e-3),
            merge=Merge.MODEL,
        ),
        rule(
            Signal.TTFT_COUNT,
            "nv_inference_first_response_histogram_ms_count",
            merge=Merge.MODEL,
        ),
        rule(Signal.UTILISATION, "nv_gpu_utilization", *UTILISATION, merge=Merge.MAX),
        rule(Signal.POWER, "nv_gpu_power_usage", *POWER),
    ),
)
