"""Dynamo's HTTP front end, by its metrics guide: a pool of engines behind one address.

Its requests in flight run from arrival to the end of the answer, and its queued ones from arrival
to the first token, so the latter are some of the former and are taken off.
"""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Expected, Merge, mean, rule
from controlplane.telemetry.engines.machine import dialect

_FRONT = "dynamo_frontend"
_ERRORS = frozenset({"error", "failed", "failure", "cancelled"})

DYNAMO = dialect(
    (
        rule(
            Signal.RUNNING,
            Alias(f"{_FRONT}_inflight_requests", less=f"{_FRONT}_queued_requests"),
            expected=Expected.ALWAYS,
        ),
        rule(Signal.WAITING, f"{_FRONT}_queued_requests", expected=Expected.ALWAYS),
        rule(
            Signal.KV_USE,
            "dynamo_component_kvstats_gpu_cache_usage_percent",
            "dynamo_component_gpu_cache_usage_percent",
            merge=Merge.MAX,
        ),
        rule(
            Signal.COMPLETED,
            Alias(f"{_FRONT}_requests_total", labels=("status",), but=_ERRORS),
            expected=Expected.USED,
        ),
        rule(
            Signal.FAILED,
            Alias(f"{_FRONT}_requests_total", labels=("status",), values=_ERRORS),
        ),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            f"{_FRONT}_request_duration_seconds",
            expected=Expected.USED,
        ),
        *mean(Signal.TTFT_SUM, Signal.TTFT_COUNT, f"{_FRONT}_time_to_first_token_seconds"),
        rule(Signal.PROMPT_TOKENS, f"{_FRONT}_input_sequence_tokens_sum"),
        rule(
            Signal.OUTPUT_TOKENS,
            f"{_FRONT}_output_tokens_total",
            f"{_FRONT}_output_sequence_tokens_sum",
        ),
    ),
    marks=(f"{_FRONT}_",),
)
