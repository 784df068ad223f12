"""vLLM, by ``v1/metrics/loggers.py``; also its Rust front end and llm-d's simulator.

Those two create a series with the first request that it counts, and call the reason of an end
``finish_reason``.
"""

from __future__ import annotations

from dataclasses import replace

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Expected,
    Loaded,
    Merge,
    Readiness,
    mean,
    rule,
)
from controlplane.telemetry.engines.machine import dialect

FINISHED = ("finished_reason", "finish_reason")
_ERRORS = frozenset({"error"})
_ENDED = Alias("vllm:request_success_total", labels=FINISHED)

RULES = (
    rule(Signal.RUNNING, "vllm:num_requests_running", expected=Expected.ALWAYS),
    rule(Signal.WAITING, "vllm:num_requests_waiting", expected=Expected.ALWAYS),
    rule(
        Signal.KV_USE,
        "vllm:kv_cache_usage_perc",
        Alias("vllm:gpu_cache_usage_perc", was="before 0.9"),
        merge=Merge.MAX,
        expected=Expected.ALWAYS,
    ),
    rule(Signal.COMPLETED, replace(_ENDED, but=_ERRORS), expected=Expected.USED),
    rule(Signal.FAILED, replace(_ENDED, values=_ERRORS)),
    *mean(
        Signal.LATENCY_SUM,
        Signal.LATENCY_COUNT,
        "vllm:e2e_request_latency_seconds",
        expected=Expected.USED,
    ),
    *mean(
        Signal.TTFT_SUM,
        Signal.TTFT_COUNT,
        "vllm:time_to_first_token_seconds",
        expected=Expected.USED,
    ),
    *mean(
        Signal.QUEUE_SUM,
        Signal.QUEUE_COUNT,
        "vllm:request_queue_time_seconds",
        Alias("vllm:time_in_queue_requests", was="before 0.7"),
    ),
    rule(Signal.PROMPT_TOKENS, "vllm:prompt_tokens_total", expected=Expected.USED),
    rule(Signal.OUTPUT_TOKENS, "vllm:generation_tokens_total", expected=Expected.USED),
    rule(
        Signal.PREFIX_QUERIES,
        "vllm:prefix_cache_queries_total",
        Alias("vllm:gpu_prefix_cache_queries_total", was="before 0.9"),
    ),
    rule(
        Signal.PREFIX_HITS,
        "vllm:prefix_cache_hits_total",
        Alias("vllm:gpu_prefix_cache_hits_total", was="before 0.9"),
    ),
)

VLLM = dialect(
    RULES,
    (Readiness("vllm:engine_sleep_state", "it sleeps", "sleep_state", "awake", every=True),),
    marks=("vllm:", "ray_vllm_", "ray_vllm:", "vllm_num_requests_running"),
    loaded=Loaded(
        "vllm:lora_requests_info", ("running_lora_adapters", "waiting_lora_adapters"), "max_lora"
    ),
)
