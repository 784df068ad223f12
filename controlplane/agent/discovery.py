"""Finds engines on loopback: asks ports for metrics, and knows each engine by its names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp

from controlplane.agent.settings import Discovery, LocalInstance, MetricsPage
from controlplane.config.engine import Engine
from controlplane.errors import ReportError
from controlplane.telemetry.engines import recognise_engine
from controlplane.telemetry.exposition import decode_exposition

ASK_WITHIN = 2.0
"""Seconds that a port gets to answer."""
MAX_PAGE = 2**20
PATHS = ("/metrics", "/prometheus/metrics", "/v1/metrics")
"""Where metrics are: TensorRT-LLM has the second, NIM the third."""


async def discover(
    settings: Discovery,
    *,
    agent: str,
    session: aiohttp.ClientSession,
    taken: Iterable[str] = (),
    period: float = 1.0,
) -> tuple[LocalInstance, ...]:
    """Ask every port once.

    Args:
        settings: which ports, and what the found are called.
        agent: the agent's id.
        session: for the questions.
        taken: URLs that are scraped already.
        period: at which the found shall be scraped.
    """
    known = set(taken)
    found = await asyncio.gather(*(_ask(session, port, known) for port in settings.ports))
    instances: dict[str, LocalInstance] = {}
    for port, answer in zip(settings.ports, found, strict=True):
        if answer is None:
            continue
        engine, url = answer
        name = settings.name.format(agent=agent, engine=engine.value, port=port)[:63]
        scrape = MetricsPage(url, period)
        instances.setdefault(name, LocalInstance(name=name, engine=engine, scrape=scrape))
    return tuple(instances.values())


async def _ask(
    session: aiohttp.ClientSession, port: int, known: set[str]
) -> tuple[Engine, str] | None:
    for path in PATHS:
        url = f"http://127.0.0.1:{port}{path}"
        if url in known:
            return None
        try:
            async with session.get(
                url, timeout=aiohttp.ClientTimeout(total=ASK_WITHIN), allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    continue
                body = await answer.content.read(MAX_PAGE)
                while len(body) < MAX_PAGE and (more := await answer.content.read(MAX_PAGE)):
                    body += more
            engine = recognise_engine(decode_exposition(body))
        except (aiohttp.ClientError, OSError, ReportError):
            continue
        if engine is not None:
            return engine, url
    return None
