"""TensorRT-LLM's own server, by its Prometheus page, and NVIDIA NIM, which uses bare names."""

from __future__ import annotations

from dataclasses import replace

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Expected, Merge, mean, rule
from controlplane.telemetry.engines.machine import dialect

_BARE = "before the trtllm_ prefix"
_NIM = "NIM's"
_REASON = ("finished_reason", "finish_reason")
_ERRORS = frozenset({"error", "abort", "aborted", "cancelled"})


def _ended(name: str, was: str = "") -> Alias:
    return Alias(name, was=was, labels=_REASON, but=_ERRORS)


def _with_bare(name: str, *nim: str) -> tuple[Alias, ...]:
    """Return today's name, that without its prefix, and NIM's."""
    own = (Alias(f"trtllm_{name}"), Alias(name, was=_BARE))
    return own + tuple(Alias(each, was=_NIM) for each in nim)


TRTLLM = dialect(
    (
        rule(Signal.RUNNING, *_with_bare("num_requests_running"), expected=Expected.ALWAYS),
        rule(Signal.WAITING, *_with_bare("num_requests_waiting"), expected=Expected.ALWAYS),
        rule(
            Signal.KV_USE,
            *_with_bare("kv_cache_utilization", "gpu_cache_usage_perc", "kv_cache_usage_perc"),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        rule(Signal.SLOTS, *_with_bare("max_num_active_requests", "num_request_max")),
        rule(
            Signal.COMPLETED,
            _ended("trtllm_request_success_total"),
            _ended("request_success_total", _BARE),
            _ended("request_finish_total", _NIM),
            Alias("trtllm_e2e_request_latency_seconds_count"),
            expected=Expected.USED,
        ),
        rule(
            Signal.FAILED,
            *_with_bare("request_error_total", "request_failure_total"),
            replace(Alias("request_finish_total", was=_NIM), labels=_REASON, values=_ERRORS),
        ),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            *_with_bare("e2e_request_latency_seconds"),
            expected=Expected.USED,
        ),
        *mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            *_with_bare("time_to_first_token_seconds"),
        ),
        *mean(
            Signal.QUEUE_SUM,
            Signal.QUEUE_COUNT,
            *_with_bare("request_queue_time_seconds"),
        ),
        rule(Signal.PROMPT_TOKENS, *_with_bare("prompt_tokens_total")),
        rule(Signal.OUTPUT_TOKENS, *_with_bare("generation_tokens_total")),
    ),
    marks=("trtllm_", "num_requests_running", "num_request_max"),
)
