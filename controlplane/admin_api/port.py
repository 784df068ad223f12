"""The admin port's connections: few enough to leave files for Envoys, and none that waits for ever.

aiohttp has no bound on connections and no deadline for a request's head, so each connection is
guarded: when all seats are taken, the one that has been idle longest makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator

from aiohttp import web

MAX_CONNECTIONS = 256
"""At a time; browsers, scrapers, probes and scripts of the people who operate one fleet.
`controlplane.runtime.open_files.RESERVED` leaves room for them."""
REQUEST_WITHIN = 10.0
"""Seconds from a connection to the head of its first request, and for a TLS handshake."""
_BACKLOG = 64


class Guard(asyncio.Protocol):
    """Passes a connection's events on to aiohttp's protocol, and knows whether it is in use."""

    def __init__(self, inner: asyncio.Protocol, port: AdminSite) -> None:
        self._inner = inner
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._requests = 0

    @property
    def idle(self) -> bool:
        """Whether no request of it is being answered, and it can be closed."""
        return self._requests == 0 and self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport, and start the wait for a request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- a stream's is one
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._port.request_within, self.abort)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the port's count."""
        self._end_wait()
        self._port.leave(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the end of the client's side on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Mark the connection as in use while a request is answered."""
        self._end_wait()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._port.touch(self)

    def _end_wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def guard_of(request: web.Request) -> Guard | None:
    """Return the guard of a request's connection; None where the port is not guarded."""
    transport = request.transport
    protocol = None if transport is None else transport.get_protocol()
    return protocol if isinstance(protocol, Guard) else None


class AdminSite(web.BaseSite):
    """The listening socket of the admin port.

    Args:
        runner: of the admin application.
        host: address to bind.
        port: 0 takes a free one.
        tls: None serves clear text.
        most: connections at a time.
        request_within: seconds that a connection may take to ask for something.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        most: int = MAX_CONNECTIONS,
        request_within: float = REQUEST_WITHIN,
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=_BACKLOG)
        self.request_within = request_within
        self._address = (host, port)
        self._tls = tls
        self._most = most
        self._guards: dict[Guard, None] = {}
        """The longest idle first."""

    def __len__(self) -> int:
        return len(self._guards)

    @property
    def name(self) -> str:
        """Return the address as a URL."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            *self._address,
            ssl=self._tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=None if self._tls is None else self.request_within,
        )

    def _accept(self) -> Guard:
        if len(self._guards) >= self._most:
            self._make_room()
        server = self._runner.server
        if server is None:
            raise AssertionError("a site that listens has a server")
        guard = Guard(server(), self)
        self._guards[guard] = None
        return guard

    def _make_room(self) -> None:
        for guard in self._guards:
            if guard.idle:
                del self._guards[guard]
                guard.abort()
                return
        raise ConnectionAbortedError("all connections of the admin port are in use")

    def touch(self, guard: Guard) -> None:
        """Count *guard* as the one that was used last."""
        if guard in self._guards:
            del self._guards[guard]
            self._guards[guard] = None

    def leave(self, guard: Guard) -> None:
        """Forget a connection that has ended."""
        self._guards.pop(guard, None)
