"""TensorRT-LLM's own server, by its Prometheus page."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Expected,
    Merge,
    mean,
    rule,
)
from controlplane.telemetry.engines.machine import dialect

_UNPREFIXED = "before the trtllm_ prefix"
TRTLLM = dialect(
    (
        rule(
            Signal.RUNNING,
            "trtllm_num_requests_running",
            Alias("num_requests_running", was=_UNPREFIXED),
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.WAITING,
            "trtllm_num_requests_waiting",
            Alias("num_requests_waiting", was=_UNPREFIXED),
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.KV_USE,
            "trtllm_kv_cache_utilization",
            Alias("kv_cache_utilization", was=_UNPREFIXED),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.COMPLETED,
            "trtllm_request_success_total",
            Alias("request_success_total", was=_UNPREFIXED),
            Alias("trtllm_e2e_request_latency_seconds_count"),
            expected=Expected.USED,
        ),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "trtllm_e2e_request_latency_seconds",
            Alias("e2e_request_latency_seconds", was=_UNPREFIXED),
            expected=Expected.USED,
        ),
        *mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            "trtllm_time_to_first_token_seconds",
            Alias("time_to_first_token_seconds", was=_UNPREFIXED),
        ),
        *mean(
            Signal.QUEUE_SUM,
            Signal.QUEUE_COUNT,
            "trtllm_request_queue_time_seconds",
            Alias("request_queue_time_seconds", was=_UNPREFIXED),
        ),
    ),
)
