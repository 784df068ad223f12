"""SGLang, by ``metrics_collector.py``.

With prefill and decode apart, requests wait in queues of their own, each counted once: the
bootstrap or transfer of a request's cache is a wait like any other.
"""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Expected, Merge, mean, rule
from controlplane.telemetry.engines.machine import dialect

_QUEUES = (
    "sglang:num_grammar_queue_reqs",
    "sglang:num_paused_reqs",
    *(
        f"sglang:num_{role}_{stage}_queue_reqs"
        for role in ("prefill", "decode")
        for stage in ("bootstrap", "prealloc", "inflight", "transfer", "host_receive", "retracted")
    ),
)

SGLANG = dialect(
    (
        rule(Signal.RUNNING, "sglang:num_running_reqs", expected=Expected.ALWAYS),
        rule(
            Signal.WAITING,
            Alias("sglang:num_queue_reqs", also=_QUEUES),
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.KV_USE,
            "sglang:token_usage",
            "sglang:full_token_usage",
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        rule(Signal.COMPLETED, "sglang:num_requests_total", expected=Expected.USED),
        rule(Signal.FAILED, "sglang:num_aborted_requests_total"),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "sglang:e2e_request_latency_seconds",
            expected=Expected.USED,
        ),
        *mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            "sglang:time_to_first_token_seconds",
            expected=Expected.USED,
        ),
        *mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "sglang:queue_time_seconds"),
        rule(Signal.PROMPT_TOKENS, "sglang:prompt_tokens_total", expected=Expected.USED),
        rule(Signal.OUTPUT_TOKENS, "sglang:generation_tokens_total", expected=Expected.USED),
        # Every prompt is looked up, so what is looked up is what came in.
        rule(Signal.PREFIX_QUERIES, "sglang:prompt_tokens_total"),
        rule(Signal.PREFIX_HITS, "sglang:cached_tokens_total"),
    ),
    marks=("sglang:",),
)
