"""Metrics of instances under a steady load, without the instances: pages that only depend on time.

For tests of what a control plane does while nothing happens in the fleet.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from testbed.fakes.web_servers import serving_routes


@dataclass(frozen=True, slots=True)
class Load:
    """What an instance reports."""

    rate: float
    """Requests a second."""
    latency: float
    """Seconds, each."""
    waiting: float = 0.0


def build_page(load: Load, *, elapsed: float) -> str:
    """Write vLLM's metrics after *elapsed* seconds of *load*."""
    labels = '{engine="0",model_name="m"}'
    done = load.rate * elapsed
    return "".join(
        f"{name}{labels} {value}\n"
        for name, value in {
            "vllm:num_requests_running": load.rate * load.latency,
            "vllm:num_requests_waiting": load.waiting,
            "vllm:kv_cache_usage_perc": 0.2,
            "vllm:request_success_total": done,
            "vllm:e2e_request_latency_seconds_count": done,
            "vllm:e2e_request_latency_seconds_sum": done * load.latency,
            "vllm:time_to_first_token_seconds_count": done,
            "vllm:time_to_first_token_seconds_sum": done * load.latency / 4,
        }.items()
    )


@asynccontextmanager
async def serving_pages(loads: Mapping[str, Load]) -> AsyncIterator[int]:
    """Serve ``/NAME/metrics`` for each of *loads* on loopback; yield the port."""
    began = time.monotonic()

    async def page(request: web.Request) -> web.Response:
        load = loads[request.match_info["name"]]
        return web.Response(text=build_page(load, elapsed=time.monotonic() - began))

    async with serving_routes(web.get("/{name}/metrics", page)) as port:
        yield port
