"""Triton, by its metrics guide and the README of its TensorRT-LLM backend.

Its own families count a decoupled model's request as done when it has been handed over, after a
fraction of a millisecond, so what a backend reports of its own (``vllm:*``, ``nv_trt_llm_*``) comes
first.
"""

from __future__ import annotations

from dataclasses import replace

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Dialect, Expected, Merge, Rule, rule
from controlplane.telemetry.engines.machine import POWER, UTILISATION, dialect
from controlplane.telemetry.engines.vllm import RULES as VLLM_RULES

_OF_VLLM = {each.signal: each.aliases for each in VLLM_RULES}


def _request_type(value: str) -> Alias:
    return Alias("nv_trt_llm_request_metrics", labels=("request_type",), values=frozenset({value}))


def _with_vllm(
    signal: Signal,
    *aliases: Alias | str,
    merge: Merge = Merge.SUM,
    expected: Expected = Expected.NEVER,
) -> Rule:
    """Return the rule of a signal that the vLLM backend reports better where it is present."""
    own = rule(signal, *aliases, merge=merge, expected=expected)
    better = tuple(
        replace(each, merge=each.merge or _MERGE.get(signal)) for each in _OF_VLLM[signal]
    )
    return replace(own, aliases=better + own.aliases)


_MERGE = {each.signal: each.merge for each in VLLM_RULES}
_SUCCESS, _FAILURE = "nv_inference_request_success", "nv_inference_request_failure"


def _dialect() -> Dialect:
    rules = (
        _with_vllm(Signal.RUNNING, _request_type("scheduled"), _request_type("active")),
        _with_vllm(
            Signal.WAITING,
            _request_type("waiting"),
            Alias("nv_inference_pending_request_count"),
            expected=Expected.ALWAYS,
        ),
        rule(Signal.SLOTS, _request_type("max")),
        _with_vllm(
            Signal.KV_USE,
            Alias(
                "nv_trt_llm_kv_cache_block_metrics",
                labels=("kv_cache_block_type",),
                values=frozenset({"fraction"}),
            ),
            merge=Merge.MAX,
        ),
        _with_vllm(
            Signal.COMPLETED,
            Alias("vllm:e2e_request_latency_seconds_count", merge=Merge.SUM),
            _SUCCESS,
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        rule(Signal.FAILED, _FAILURE, merge=Merge.MODEL),
        _with_vllm(
            Signal.LATENCY_SUM,
            Alias("nv_inference_request_duration_us", scale=1e-6),
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        _with_vllm(Signal.LATENCY_COUNT, _SUCCESS, merge=Merge.MODEL, expected=Expected.ALWAYS),
        _with_vllm(
            Signal.QUEUE_SUM,
            Alias("nv_inference_queue_duration_us", scale=1e-6),
            merge=Merge.MODEL,
        ),
        _with_vllm(Signal.QUEUE_COUNT, _SUCCESS, merge=Merge.MODEL),
        _with_vllm(
            Signal.TTFT_SUM,
            Alias("nv_inference_first_response_histogram_ms_sum", scale=1e-3),
            merge=Merge.MODEL,
        ),
        _with_vllm(
            Signal.TTFT_COUNT,
            "nv_inference_first_response_histogram_ms_count",
            merge=Merge.MODEL,
        ),
        rule(Signal.PROMPT_TOKENS, *_OF_VLLM[Signal.PROMPT_TOKENS][:1]),
        rule(Signal.OUTPUT_TOKENS, *_OF_VLLM[Signal.OUTPUT_TOKENS][:1]),
        rule(Signal.UTILISATION, "nv_gpu_utilization", *UTILISATION, merge=Merge.MAX),
        rule(Signal.POWER, Alias("nv_gpu_power_usage", merge=Merge.DEVICE), *POWER),
    )
    return dialect(rules, marks=("nv_inference_", "nv_trt_llm_"))


TRITON = _dialect()
