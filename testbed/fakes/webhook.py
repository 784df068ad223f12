"""A receiver of the webhook that starts instances: `instances[].wake.url`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

PATH = "/wake"


@dataclass(frozen=True, slots=True)
class WakeCall:
    """One call as it came."""

    document: Any
    authorization: str
    """The header; empty without one."""


class WebhookReceiver:
    """A running receiver; an asynchronous context manager.

    Attributes:
        calls: what came so far.
        statuses: what the next calls are answered, in order; then 202.
        location: where redirects lead.
        hangs: whether it answers nothing.
    """

    def __init__(
        self,
        start: Callable[[str], Awaitable[None]] | None = None,
        *,
        statuses: Sequence[int] = (),
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.calls: list[WakeCall] = []
        self.statuses = list(statuses)
        self.location = ""
        self.hangs = False
        self._start = start
        self._port = port
        self._tls = tls
        app = web.Application()
        app.add_routes([web.post(PATH, self._wake)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls).start()
        self._port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Return where it is called."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}{PATH}"

    async def _wake(self, request: web.Request) -> web.Response:
        document = await request.json()
        self.calls.append(WakeCall(document, request.headers.get("Authorization", "")))
        if self.hangs:
            await asyncio.Event().wait()
        status = self.statuses.pop(0) if self.statuses else 202
        if status < 300 and self._start is not None:
            await self._start(document["instance"])
        return web.Response(status=status, headers={"Location": self.location})
