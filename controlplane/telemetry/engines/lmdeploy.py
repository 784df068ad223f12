"""LMDeploy, by ``lmdeploy/metrics/loggers.py``; some versions write vLLM's names."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Expected, Merge, Rule, mean, rule
from controlplane.telemetry.engines.machine import dialect
from controlplane.telemetry.engines.vllm import RULES as VLLM_RULES

_OWN = (
    rule(Signal.RUNNING, "lmdeploy:num_requests_running", expected=Expected.ALWAYS),
    rule(
        Signal.WAITING,
        Alias("lmdeploy:num_requests_waiting", also=("lmdeploy:num_api_requests_waiting",)),
        expected=Expected.ALWAYS,
    ),
    rule(
        Signal.KV_USE,
        "lmdeploy:gpu_cache_usage_perc",
        "lmdeploy:kv_cache_usage_perc",
        merge=Merge.MAX,
    ),
    rule(
        Signal.COMPLETED,
        "lmdeploy:request_success_total",
        "lmdeploy:e2e_request_latency_seconds_count",
        expected=Expected.USED,
    ),
    rule(Signal.FAILED, "lmdeploy:num_requests_failed", "lmdeploy:request_failure_total"),
    *mean(Signal.LATENCY_SUM, Signal.LATENCY_COUNT, "lmdeploy:e2e_request_latency_seconds"),
    *mean(Signal.TTFT_SUM, Signal.TTFT_COUNT, "lmdeploy:time_to_first_token_seconds"),
    *mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "lmdeploy:request_queue_time_seconds"),
    rule(Signal.PROMPT_TOKENS, "lmdeploy:prompt_tokens_total"),
    rule(Signal.OUTPUT_TOKENS, "lmdeploy:generation_tokens_total"),
)
_OF_VLLM = {each.signal: each.aliases for each in VLLM_RULES}

LMDEPLOY = dialect(
    (
        Rule(each.signal, each.aliases + _OF_VLLM[each.signal], each.merge, each.expected)
        for each in _OWN
    ),
    marks=("lmdeploy:",),
)
