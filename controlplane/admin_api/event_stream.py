"""The stream of events: states as they change, and what happened, to browsers and terminals."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from controlplane.admin_api.answers import COMPRESS_IN_THREAD, add_headers, encode_large, json_error
from controlplane.admin_api.live import STATE
from controlplane.admin_api.served import DOCUMENTS
from controlplane.admin_api.shared_answers import ANSWERS, WRITES
from controlplane.admin_api.values import Document
from controlplane.admin_api.view import AdminView
from controlplane.controller.events import ALL_STATES, Watcher, WatcherReplaced

HEARTBEAT = 15.0
"""Seconds of silence after which an event stream gets a comment, so that proxies keep it open."""
WRITE_TIMEOUT = 30.0
"""Seconds a watcher may take to read what was sent before it is let go."""

STREAMS: web.AppKey[set[asyncio.Task[None]]] = web.AppKey("streams")


async def serve_events(request: web.Request) -> web.StreamResponse:
    """Send events until the client or the server ends."""
    documents = request.app[DOCUMENTS]
    states: dict[str, Callable[[], Awaitable[Document | None]]] = {
        "config": documents.config_document,
        "fleet": documents.fleet_document,
        "plan": documents.plan_document,
        "envoys": documents.envoys_document,
        "overview": documents.overview_document,
    }
    kinds = frozenset(filter(None, request.query.get("kinds", "").split(","))) or ALL_STATES
    if unknown := kinds - {*states, STATE}:
        return json_error(400, f"no kind '{min(unknown)}'; known: {', '.join((*states, STATE))}")
    watcher = documents.events.watch(kinds, peer=request.remote or "")
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a request is served by a task")
    streams = request.app[STREAMS]
    streams.add(task)
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    add_headers(stream.headers)
    deflate = None
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        stream.headers["Content-Encoding"] = "gzip"
        deflate = zlib.compressobj(level=3, wbits=zlib.MAX_WBITS | 16)
    try:
        await stream.prepare(request)
        for kind, make in states.items():
            if kind not in kinds:
                continue
            content = await request.app[ANSWERS].get(f"event {kind}", partial(_encode, make))
            if content is not None:
                event = b"event: %b\ndata: %b\n\n" % (kind.encode(), content)
                await request.app[WRITES].take(len(event))
                await _send(stream, event, deflate)
        await _follow(stream, watcher, documents, deflate)
    except (ConnectionError, TimeoutError, WatcherReplaced):
        pass
    finally:
        streams.discard(task)
        documents.events.forget(watcher)
    return stream


async def _encode(make: Callable[[], Awaitable[Document | None]]) -> bytes | None:
    document = await make()
    return None if document is None else await encode_large(document)


async def _follow(
    stream: web.StreamResponse, watcher: Watcher, documents: AdminView, deflate: Any
) -> None:
    """Send what comes; the overview whole at first, then as differences to what was sent."""
    live = STATE in watcher.kinds
    seen = await documents.live_overview() if live else None
    if seen is not None:
        await _send(stream, await asyncio.to_thread(seen.event_after, None), deflate)
    while True:
        pending = b": still here\n\n"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT):
                pending = await watcher.next_bytes()
        if live and (newest := documents.live) is not None:
            pending += await asyncio.to_thread(newest.event_after, seen)
            seen = newest
        if pending:
            await _send(stream, pending, deflate)


async def _send(stream: web.StreamResponse, content: bytes, deflate: Any) -> None:
    if deflate is not None:

        def compress() -> bytes:
            packed: bytes = deflate.compress(content) + deflate.flush(zlib.Z_SYNC_FLUSH)
            return packed

        large = len(content) > COMPRESS_IN_THREAD
        content = await asyncio.to_thread(compress) if large else compress()
    async with asyncio.timeout(WRITE_TIMEOUT):
        await stream.write(content)


async def end_streams(application: web.Application) -> None:
    """End all streams, since the server ends."""
    streams = application[STREAMS]
    for task in tuple(streams):
        task.cancel()
