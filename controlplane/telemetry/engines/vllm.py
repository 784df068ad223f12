"""vLLM, by ``v1/metrics/loggers.py``."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Expected,
    Merge,
    Readiness,
    mean,
    rule,
)
from controlplane.telemetry.engines.machine import dialect

VLLM = dialect(
    (
        rule(Signal.RUNNING, "vllm:num_requests_running", expected=Expected.ALWAYS),
        rule(Signal.WAITING, "vllm:num_requests_waiting", expected=Expected.ALWAYS),
        rule(
            Signal.KV_USE,
            "vllm:kv_cache_usage_perc",
            Alias("vllm:gpu_cache_usage_perc", was="before 0.9"),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.COMPLETED,
            Alias("vllm:request_success_total", label="finished_reason", but=frozenset({"error"})),
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.FAILED,
            Alias(
                "vllm:request_success_total", label="finished_reason", values=frozenset({"error"})
            ),
        ),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "vllm:e2e_request_latency_seconds",
            expected=Expected.ALWAYS,
        ),
        *mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            "vllm:time_to_first_token_seconds",
            expected=Expected.ALWAYS,
        ),
        *mean(
            Signal.QUEUE_SUM,
            Signal.QUEUE_COUNT,
            "vllm:request_queue_time_seconds",
            Alias("vllm:time_in_queue_requests", was="before 0.7"),
        ),
        rule(Signal.PROMPT_TOKENS, "vllm:prompt_tokens_total", expected=Expected.ALWAYS),
        rule(Signal.OUTPUT_TOKENS, "vllm:generation_tokens_total", expected=Expected.ALWAYS),
    ),
    (
        Readiness("vllm:engine_healthy", "an engine of it is unhealthy"),
        Readiness("vllm:engine_sleep_state", "it sleeps", "sleep_state", "awake", every=True),
    ),
)
