"""Endpoint pickers (Gateway API inference extension, llm-d) before a pool of engines."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Expected,
    Merge,
    Readiness,
    rule,
)
from controlplane.telemetry.engines.machine import dialect

_EPP_PREFIXES = ("llm_d_epp", "llm_d_router_epp", "inference_pool")


def _pool(name: str) -> tuple[Alias, ...]:
    """Give the aliases of a pool's average, times the endpoints that it is of."""
    return tuple(
        Alias(
            f"{prefix}_{name}",
            was="" if prefix == _EPP_PREFIXES[0] else "an older prefix",
            times=f"{prefix}_ready_endpoints"
            if prefix != "inference_pool"
            else "inference_pool_ready_pods",
        )
        for prefix in _EPP_PREFIXES
    )


# A pool behind an endpoint picker is one instance here: its averages times its endpoints.
EPP = dialect(
    (
        rule(Signal.RUNNING, *_pool("average_running_requests"), expected=Expected.ALWAYS),
        rule(Signal.WAITING, *_pool("average_queue_size"), expected=Expected.ALWAYS),
        rule(
            Signal.KV_USE,
            *(Alias(alias.name, was=alias.was) for alias in _pool("average_kv_cache_utilization")),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
    ),
    (
        Readiness("llm_d_epp_ready_endpoints", "its pool has no ready endpoint", every=True),
        Readiness("inference_pool_ready_pods", "its pool has no ready endpoint", every=True),
    ),
)
