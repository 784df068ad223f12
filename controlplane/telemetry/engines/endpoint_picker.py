"""Endpoint pickers (Gateway API inference extension, llm-d) before a pool of engines.

A pool is one instance here: its averages times its endpoints. Requests that the picker itself
holds back wait too.
"""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Expected, Merge, Readiness, mean, rule
from controlplane.telemetry.engines.machine import dialect

_PREFIXES = ("llm_d_epp", "llm_d_router_epp", "llm_d_inference_scheduler", "inference_pool")
_REQUESTS = (
    *("llm_d_epp", "llm_d_router_epp", "llm_d_inference_scheduler"),
    *("inference_objective", "inference_model"),
)
_OLDER = "an older prefix"
_HELD = tuple(
    f"{prefix}_flow_control_queue_size" for prefix in (*_PREFIXES[:3], "inference_extension")
)


def _pool(name: str, also: tuple[str, ...] = ()) -> tuple[Alias, ...]:
    """Return the aliases of a pool's average, times the endpoints that it is of."""
    return tuple(
        Alias(
            f"{prefix}_{name}",
            was="" if prefix == _PREFIXES[0] else _OLDER,
            times=f"{prefix}_ready_endpoints"
            if prefix != "inference_pool"
            else "inference_pool_ready_pods",
            # Older prefixes are written beside the newest one, never instead of it.
            also=tuple(each for each in also if _beside(each, prefix)),
        )
        for prefix in _PREFIXES
    )


def _beside(held: str, prefix: str) -> bool:
    return held.startswith("inference_extension" if prefix == "inference_pool" else f"{prefix}_")


def _requests(*names: str) -> tuple[Alias, ...]:
    return tuple(
        Alias(f"{prefix}_{name}", was="" if prefix == _REQUESTS[0] else _OLDER)
        for name in names
        for prefix in _REQUESTS
    )


EPP = dialect(
    (
        rule(
            Signal.RUNNING,
            *_pool("average_running_requests"),
            *_requests("request_running", "running_requests"),
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.WAITING,
            *_pool("average_queue_size", _HELD),
            *(Alias(name) for name in _HELD),
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.KV_USE,
            *(Alias(alias.name, was=alias.was) for alias in _pool("average_kv_cache_utilization")),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        rule(
            Signal.COMPLETED,
            *_requests("request_duration_seconds_count", "request_total"),
            expected=Expected.USED,
        ),
        rule(Signal.FAILED, *_requests("request_error_total")),
        *mean(Signal.LATENCY_SUM, Signal.LATENCY_COUNT, *_requests("request_duration_seconds")),
        *mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            *_requests("request_ttft_seconds", "request_time_to_first_token_seconds"),
        ),
        rule(Signal.PROMPT_TOKENS, *_requests("input_tokens_sum", "request_input_tokens_sum")),
        rule(Signal.OUTPUT_TOKENS, *_requests("output_tokens_sum", "request_output_tokens_sum")),
    ),
    (
        *(
            Readiness(f"{prefix}_ready_endpoints", "its pool has no ready endpoint", every=True)
            for prefix in _PREFIXES[:3]
        ),
        Readiness("inference_pool_ready_pods", "its pool has no ready endpoint", every=True),
    ),
    marks=tuple(f"{prefix}_average_" for prefix in _PREFIXES),
)
