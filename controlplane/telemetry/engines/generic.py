"""Servers that use our names or common ones, and Ollama, which has none of its own."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Expected, Merge, Rule, mean, rule
from controlplane.telemetry.engines.machine import dialect

_STATUS = ("status", "code", "status_code", "http_status", "http_response_status_code")
_SERVER_ERRORS = frozenset(str(code) for code in range(500, 600)) | {"5xx", "5XX"}
_CLIENT_ERRORS = frozenset(str(code) for code in range(400, 500)) | {"4xx", "4XX"}
_CATS = (
    rule(
        Signal.RUNNING,
        "cats_requests_running",
        "requests_running",
        "num_requests_running",
        "http_requests_in_progress",
        "http_requests_inprogress",
        "http_requests_in_flight",
        expected=Expected.ALWAYS,
    ),
    rule(
        Signal.WAITING,
        "cats_requests_waiting",
        "requests_waiting",
        "num_requests_waiting",
        "queue_size",
    ),
    rule(Signal.KV_USE, "cats_kv_use", merge=Merge.MAX),
    rule(
        Signal.THROUGHPUT,
        "cats_requests_per_second",
    ),
    rule(
        Signal.COMPLETED,
        "cats_requests_completed_total",
        "cats_request_latency_seconds_count",
        Alias("http_requests_total", labels=_STATUS, but=_SERVER_ERRORS | _CLIENT_ERRORS),
        "http_request_duration_seconds_count",
        expected=Expected.USED,
    ),
    rule(
        Signal.FAILED,
        "cats_requests_failed_total",
        Alias("http_requests_total", labels=_STATUS, values=_SERVER_ERRORS),
    ),
    *mean(
        Signal.LATENCY_SUM,
        Signal.LATENCY_COUNT,
        "cats_request_latency_seconds",
        "http_request_duration_seconds",
        expected=Expected.USED,
    ),
    *mean(Signal.TTFT_SUM, Signal.TTFT_COUNT, "cats_time_to_first_token_seconds"),
    *mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "cats_queue_time_seconds"),
    rule(Signal.PROMPT_TOKENS, "cats_prompt_tokens_total"),
    rule(Signal.OUTPUT_TOKENS, "cats_output_tokens_total"),
)
GENERIC = dialect(_CATS, distinct=False)
# Ollama writes no metrics of its own; an exporter beside it may use our names.
OLLAMA = dialect((Rule(rule.signal, rule.aliases, rule.merge) for rule in _CATS), distinct=False)
