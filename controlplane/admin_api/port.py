"""The admin port's connections: few enough to leave files for Envoys, and none that waits for ever.

aiohttp has no bound on connections and no deadline for a request's head, so each connection is
guarded: when all seats are taken, one makes room that waits for its client: the one that has been
idle longest, else the one whose client has not read its answer for longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from functools import partial

from aiohttp import web

from controlplane.runtime.acceptor import Acceptor, report_exhausted
from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.log import get_logger

MAX_CONNECTIONS = 256
"""At a time; browsers, scrapers, probes and scripts of the people who operate one fleet.
`controlplane.runtime.open_files.RESERVED` leaves room for them."""
REQUEST_WITHIN = 10.0
"""Seconds from a connection to the head and body of its first request, and for a TLS handshake."""
MAX_UNREAD = 64 * 2**20
"""Bytes of answers that clients have asked for and not read; a document may have some megabytes."""
STALLED = 30.0
"""Seconds without a byte read by its client after which an answer's connection is closed."""


class Guard(asyncio.Protocol):
    """Passes a connection's events on to aiohttp's protocol, and knows what it waits for."""

    def __init__(self, inner: asyncio.Protocol, port: AdminSite) -> None:
        self._inner = inner
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = loop.call_later(
            port.request_within, self.abort
        )
        self._stall: asyncio.TimerHandle | None = None
        self._requests = 0

    @property
    def idle(self) -> bool:
        """Whether no request of it is being answered, and it can be closed."""
        return self._requests == 0

    @property
    def unread(self) -> int:
        """Return the bytes of answers that its client has not read, if more than a few."""
        if self._stall is None or self._transport is None:
            return 0
        return self._transport.get_write_buffer_size()

    async def shake_hands(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Open the connection that was accepted; leave the port's count if that fails."""
        self._handshake = asyncio.current_task()
        within = None if tls is None else self._port.request_within
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self, accepted, ssl=tls, ssl_handshake_timeout=within
            )
        except OSError:  # what is no handshake, or never ends, is nothing to report
            accepted.close()
        finally:
            self._handshake = None
            if self._transport is None:
                self._end_wait()
                self._port.leave(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport; the wait for a request goes on."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- a stream's is one
        self._transport = transport
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count one connection less."""
        self._end_wait()
        self._end_stall()
        self._port.leave(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the end of the client's side on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on; the client reads more slowly than it is sent to."""
        self._inner.pause_writing()
        self._wait_for_reader(2**63)
        self._port.bound_unread(self)

    def resume_writing(self) -> None:
        """Pass it on."""
        self._end_stall()
        self._inner.resume_writing()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        elif self._handshake is not None:
            self._handshake.cancel()

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

    def _wait_for_reader(self, before: int) -> None:
        """Close the connection if its client has read nothing since *before* bytes were left."""
        if self._transport is None:
            return
        left = self._transport.get_write_buffer_size()
        if left >= before:
            self.abort()
            return
        loop = asyncio.get_running_loop()
        self._stall = loop.call_later(STALLED, self._wait_for_reader, left)

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def guard_of(request: web.Request) -> Guard | None:
    """Return the guard of a request's connection; None where the port is not guarded."""
    transport = request.transport
    protocol = None if transport is None else transport.get_protocol()
    return protocol if isinstance(protocol, Guard) else None


class AdminSite(web.BaseSite):
    """The listening socket of the admin port.

    Args:
        runner: of the application, which counts its answers (`protection.count_answers`).
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
        super().__init__(runner, ssl_context=tls)
        self.request_within = request_within
        self._address = (host, port)
        self._tls = tls
        self._most = most
        self._guards: dict[Guard, None] = {}
        """The longest idle first."""
        self._slow: dict[Guard, None] = {}
        """Those whose clients do not read, the first to stop first."""
        self._opening: set[asyncio.Task[None]] = set()
        self._log = ClientLog(get_logger(part="admin"), clock=asyncio.get_running_loop().time)
        self._acceptor = Acceptor(
            self._take, has_room=self._has_room, on_exhausted=partial(report_exhausted, self._log)
        )
        self.bound_port = 0
        """The port that it listens on; 0 before it does."""

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
        self.bound_port = await self._acceptor.listen(*self._address, tls=self._tls)

    async def stop(self) -> None:
        """Accept no more; connections that are open are the runner's to close."""
        self._acceptor.close()
        for task in self._opening:
            task.cancel()
        await super().stop()

    def _take(self, accepted: socket.socket, _host: str, tls: ssl.SSLContext | None) -> None:
        server = self._runner.server
        if server is None:
            raise AssertionError("a site that listens has a server")
        guard = Guard(server(), self)
        self._guards[guard] = None
        task = asyncio.get_running_loop().create_task(guard.shake_hands(accepted, tls))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _has_room(self) -> bool:
        """Decide whether to accept now; one that waits for its client makes room."""
        if len(self._guards) < self._most:
            return True
        idle = next((guard for guard in self._guards if guard.idle), None)
        leaving = next(iter(self._slow), None) if idle is None else idle
        if leaving is None:
            return False
        self.leave(leaving)
        leaving.abort()
        return True

    def bound_unread(self, guard: Guard) -> None:
        """Note that *guard*'s client does not read; close the first of all such beyond a bound."""
        self._slow[guard] = None
        self._slow = {each: None for each in self._slow if each.unread}
        unread = sum(each.unread for each in self._slow)
        for each in list(self._slow):
            if unread <= MAX_UNREAD:
                return
            unread -= each.unread
            del self._slow[each]
            each.abort()

    def touch(self, guard: Guard) -> None:
        """Count *guard* as the one that was used last."""
        if guard in self._guards:
            del self._guards[guard]
            self._guards[guard] = None

    def leave(self, guard: Guard) -> None:
        """Forget a connection that has ended."""
        self._guards.pop(guard, None)
        self._slow.pop(guard, None)
