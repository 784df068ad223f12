"""Engines are found on ports of loopback by the names of their metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web

from controlplane.agent.discovery import discover
from controlplane.agent.settings import Discovery
from controlplane.config import Engine
from testbed.fakes.web_servers import serving_routes
from testbed.processes.ports import free_port

LLAMACPP = """\
llamacpp:requests_processing 3
llamacpp:requests_deferred 1
llamacpp:prompt_tokens_total 10
llamacpp:tokens_predicted_total 20
"""


@pytest.fixture
async def ports() -> AsyncIterator[dict[str, int]]:
    """Serve pages at /metrics, or at trtllm-serve's own path, on a port each."""
    pages = {
        "llamacpp": ("/metrics", LLAMACPP),
        "trtllm": ("/prometheus/metrics", "trtllm_num_requests_running 1\n"),
        "other": ("/metrics", "node_load1 0.5\n"),
        "web": ("/", "<html>"),
    }
    found = {"closed": free_port()}
    async with AsyncExitStack() as ends:
        for name, (path, page) in pages.items():
            route = web.get(path, _answering(page))
            found[name] = await ends.enter_async_context(serving_routes(route))
        yield found


def _answering(page: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=page)

    return answer


async def test_engines_are_named_by_the_template_and_others_are_left_alone(
    ports: dict[str, int],
) -> None:
    """An exporter, a web page and a closed port are no engines."""
    settings = Discovery(ports=tuple(ports.values()), name="{agent}-{engine}-{port}")
    async with aiohttp.ClientSession() as session:
        found = await discover(settings, agent="n", session=session)
        taken = f"http://127.0.0.1:{ports['llamacpp']}/metrics"
        rest = await discover(settings, agent="n", session=session, taken=[taken])

    llamacpp, trtllm = ports["llamacpp"], ports["trtllm"]
    assert {
        (f"n-llamacpp-{llamacpp}", Engine.LLAMACPP, f"http://127.0.0.1:{llamacpp}/metrics"),
        (f"n-trtllm-{trtllm}", Engine.TRTLLM, f"http://127.0.0.1:{trtllm}/prometheus/metrics"),
    } == {(one.name, one.engine, one.scrape.url) for one in found}
    assert [Engine.TRTLLM] == [one.engine for one in rest]
