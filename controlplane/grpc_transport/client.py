"""A gRPC client for a few long streams: dials one server, and nothing behind the caller's back.

It balances nothing, retries nothing and keeps no pool: who dials again, and when, is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from controlplane.grpc_transport.calls import Call, Conversation
from controlplane.grpc_transport.dialled import ClientConnection
from controlplane.grpc_transport.front import Front
from controlplane.grpc_transport.limits import Limits, ServerLimits
from controlplane.grpc_transport.status import StatusCode
from controlplane.grpc_transport.turns import Turns

CLIENT_LIMITS = Limits(
    max_message=1 << 20,
    window=1 << 18,
    connection_window=1 << 20,
    # gRPC's servers close connections that ping an idle one more than once in five minutes
    # (gRFC A8); a caller that expects answers sooner waits for them with a timeout.
    keepalive_period=310.0,
    keepalive_timeout=20.0,
)
DIAL_TIMEOUT = 10.0
"""Seconds for the address to be resolved, the connection made and the server's settings read."""
SWEEP_PERIOD = 1.0
CLOSE_TIMEOUT = 1.0
"""Seconds in which a connection may close in good order."""


class Client:
    """One connection to a server."""

    def __init__(self, authority: str, limits: Limits) -> None:
        self._authority, self._limits = authority, limits
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closed = asyncio.Event()
        self._secure = False
        self.front = Front(self, self._make, Turns(ServerLimits()))

    @property
    def connection(self) -> ClientConnection:
        """The protocol's state."""
        connection = self.front.connection
        if not isinstance(connection, ClientConnection):
            raise ConnectionError("not connected")
        return connection

    @property
    def draining(self) -> bool:
        """Whether the server wants no more calls on this connection."""
        return self.connection.draining

    def call(self, path: str, metadata: Iterable[tuple[str, str]] = ()) -> Conversation:
        """Begin a call to ``/package.Service/Method``.

        Raises:
            CallError: the connection is lost, or the server wants no more calls on it.
        """
        stream = self.connection.open(path, self._authority, tuple(metadata), secure=self._secure)
        self.front.flush()
        return Conversation(stream)

    def _make(self, peer: str, names: tuple[str, ...], now: float) -> ClientConnection:
        return ClientConnection(self._limits, now=now, peer=peer, names=names)

    def ready(self, front: Front) -> None:
        """Let the dialler go on."""
        del front
        if not self._ready.done():
            self._ready.set_result(None)

    def opened(self, call: Call) -> None:
        """Never come: servers open no calls."""

    def lost(self, front: Front, reason: str) -> None:
        """Let everyone who waits see that the connection is gone."""
        reason = front.detail or reason or "the server closed the connection"
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(reason))
            self._ready.exception()  # reported, or nothing waits any more
        self._closed.set()

    async def dial(self, host: str, port: int, tls: ssl.SSLContext | None, name: str) -> None:
        """Connect.

        Raises:
            OSError: nothing answers there, or not as a gRPC server that *tls* trusts.
        """
        self._secure = tls is not None
        try:
            transport, _ = await self._loop.create_connection(
                lambda: self.front,
                host,
                port,
                ssl=tls,
                server_hostname=name if tls is not None else None,
                ssl_shutdown_timeout=CLOSE_TIMEOUT if tls is not None else None,
                happy_eyeballs_delay=0.25,
            )
        except ConnectionResetError as error:
            if tls is None or str(error):
                raise
            raise ConnectionResetError(
                "the server closed the connection within the TLS handshake;"
                " it may not trust our certificate"
            ) from error
        secured = transport.get_extra_info("ssl_object")
        # A server that names no protocol may still speak this one; one that names another not.
        if secured is not None and secured.selected_alpn_protocol() not in (None, "h2"):
            raise ConnectionError("the server does not offer HTTP/2")
        await self._ready

    async def watch(self) -> None:
        """Look after the connection until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_PERIOD)
            self.front.sweep(now=self._loop.time())

    async def close(self) -> None:
        """Close in good order if that is possible soon."""
        connection = self.front.connection
        if connection is None or self.front.transport is None:
            return
        for stream in list(connection.streams.values()):
            stream.finish(StatusCode.CANCELLED, "cancelled here")
        self.front.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._closed.wait()
        if self.front.transport is not None:
            self.front.transport.abort()


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, where an IPv6 host is in brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


@asynccontextmanager
async def dialled(
    address: str,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    limits: Limits = CLIENT_LIMITS,
) -> AsyncIterator[Client]:
    """Be connected to ``HOST:PORT`` for the duration of the block.

    Args:
        address: whom to dial; of several addresses of a name, the first that answers.
        tls: whom to trust and what to show; None speaks clear text.
        server_name: name in the server's certificate, if not its host.
        limits: what the connection may cost.

    Raises:
        OSError: nothing answers there, or not as a gRPC server that *tls* trusts.
    """
    host, port = split_address(address)
    if tls is not None:
        tls.set_alpn_protocols(["h2"])
    client = Client(server_name or address, limits)
    async with contextlib.AsyncExitStack() as ends:
        ends.push_async_callback(client.close)
        async with asyncio.timeout(DIAL_TIMEOUT):
            await client.dial(host, port, tls, server_name or host)
        watch = asyncio.create_task(client.watch(), name="grpc client sweep")
        ends.callback(watch.cancel)
        yield client
