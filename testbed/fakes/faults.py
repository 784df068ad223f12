"""What instances do to requests when they are not well; for `EmulatedInstance.fault`.

Each fault comes before the engine, so that the instance's metrics stay those of an idle machine,
which is the worst case: by its own word it is the best choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count

from aiohttp import web

from testbed.fakes.instances import Fault

_PAGE = "<html><head><title>400</title></head><body><center>nginx</center></body></html>"


def answers(status: int, *, headers: Mapping[str, str] | None = None, body: str = "{}") -> Fault:
    """Answer *status* to everything, at once."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, text=body)

    return fault


def hangs(*, every: int = 1) -> Fault:
    """Accept, and never answer each *every*-th request."""
    number = count(1)

    async def fault(_request: web.Request) -> web.StreamResponse | None:
        if next(number) % every == 0:
            await asyncio.Event().wait()
        return None

    return fault


def hangs_after_headers() -> Fault:
    """Answer 200 and its headers at once, and never the rest: no time-out of an attempt sees it."""

    async def fault(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        await asyncio.Event().wait()
        return stream

    return fault


def resets(*, after: int = 2) -> Fault:
    """Reset the connection *after* that many events of a stream."""

    async def fault(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        for _ in range(after):
            await stream.write(b'data: {"choices": []}\n\n')
            await asyncio.sleep(0.02)
        if request.transport is not None:
            request.transport.abort()
        return stream

    return fault


FAULTS: Mapping[str, Fault] = {
    "answers 404": answers(404),
    "answers 401": answers(401),
    "answers 400 with an HTML page": answers(
        400, headers={"content-type": "text/html"}, body=_PAGE
    ),
    "answers 500": answers(500),
    "answers 503": answers(503),
    "answers 429": answers(429, headers={"retry-after": "1"}),
    "answers 429 without Retry-After": answers(429),
    "hangs": hangs(),
    "hangs for 1 %": hangs(every=100),
    "hangs after its headers": hangs_after_headers(),
    "resets streams half-way": resets(),
}
