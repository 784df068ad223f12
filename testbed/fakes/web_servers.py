"""Handlers of HTTP requests on a port of loopback."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.web_routedef import AbstractRouteDef


@asynccontextmanager
async def serving_routes(
    *routes: AbstractRouteDef,
    application: web.Application | None = None,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    cancels: bool = False,
) -> AsyncIterator[int]:
    """Serve *routes* within the block, or a whole *application*; yield the port.

    *port* 0 takes a free one. With *cancels*, a client that hangs up cancels its handler.
    """
    if application is None:
        application = web.Application()
        application.add_routes(routes)
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=cancels, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
