"""A gRPC server: connections in, calls to whoever serves their method.

A method is served by a receiver (see `stream`), which costs least, or by any generic handler
written for ``grpc.aio`` (see `calls`), so that one port serves both kinds and either server can
serve the same methods.
grpcio is imported only where such handlers are, who need it anyway: an agent does without.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from controlplane.http2.connection import Cut, Limits
from controlplane.http2.served import GrpcStream, ServedConnection
from controlplane.http2.status import StatusCode
from controlplane.http2.stream import Receiver

if TYPE_CHECKING:
    import grpc

    from controlplane.http2.calls import Call

log = structlog.get_logger("grpc")

MakeReceiver = Callable[[GrpcStream], Receiver | None]
"""Takes a new call; gives what serves it, or none after it has finished the call itself."""

SWEEP_PERIOD = 1.0
"""Seconds between looks for clients that are gone; small against every timeout."""


TOLD_PERIOD = 60.0
"""Seconds between two lines that say that there are too many connections."""


@dataclass(slots=True)
class Counts:
    """What the transport has seen since the start; for metrics."""

    connections: int = 0
    calls: int = 0
    cut: int = 0
    """Connections that were ended for what the client did or did not do."""
    refused: int = 0
    """Connections beyond the limit."""


class GrpcServer:
    """Serves gRPC on one or more addresses."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        max_connections: int = 20_000,
        on_refused: Callable[[], None] = lambda: None,
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = limits or Limits()
        self._on_refused = on_refused
        self._on_cut = on_cut
        self._told_at: float | None = None
        """When it was last logged that connections are refused."""
        self.counts = Counts()
        self._max_connections = max_connections
        self._methods: dict[str, MakeReceiver] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._make_call: Callable[[GrpcStream], Call | None] | None = None
        self._connections: dict[ServedConnection, float] = {}
        """Connection -> when it must be asked to move on."""
        self._servers: list[asyncio.Server] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._stopping = False
        self._emptied: asyncio.Event | None = None

    # -- set-up -----------------------------------------------------------------------------

    def add_method(self, path: str, make_receiver: MakeReceiver) -> None:
        """Serve ``/package.Service/Method`` with receivers."""
        self._methods[path] = make_receiver

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve what these handlers know, as ``grpc.aio.Server`` does."""
        from controlplane.http2.calls import call_maker  # noqa: PLC0415 -- see above

        self._generic.extend(handlers)
        self._make_call = call_maker(self._generic)

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Accept connections; give the port.

        Raises:
            OSError: the address cannot be bound.
        """
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        server = await asyncio.get_running_loop().create_server(
            lambda: ServedConnection(self, self.limits),
            host,
            port,
            ssl=tls,
            backlog=4096,
            reuse_address=True,
            ssl_handshake_timeout=self.limits.handshake_timeout if tls is not None else None,
        )
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="grpc sweep")
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace: float | None = None) -> None:
        """Take no more, let running calls end within *grace* seconds, then end them."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.drain()
        if self._connections and grace:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), grace)
        for connection in list(self._connections):
            connection.finish_streams(StatusCode.UNAVAILABLE, "the server is going away")
            connection.close()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        # A tick for the transports to say that they are closed, then no waiting for any.
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.abort(Cut.STOPPING)

    # -- what connections use ---------------------------------------------------------------

    def admit(self, connection: ServedConnection) -> bool:
        """Take a new connection into the books, unless there are too many."""
        if self._stopping or len(self._connections) >= self._max_connections:
            self.counts.refused += 1
            if not self._stopping:
                self._refuse(connection)
            return False
        self.counts.connections += 1
        spread = random.uniform(0.9, 1.1)  # noqa: S311 -- spreads reconnects, guards nothing
        self._connections[connection] = connection.opened_at + self.limits.max_age * spread
        return True

    def _refuse(self, connection: ServedConnection) -> None:
        self._on_refused()
        now = connection.opened_at
        if self._told_at is None or now - self._told_at >= TOLD_PERIOD:
            self._told_at = now
            log.warning(
                "connections refused",
                peer=connection.peer,
                most=self._max_connections,
                remedy="add replicas, or raise --max-connections and the limit of open files",
            )

    @property
    def connections(self) -> int:
        """Give how many connections are open."""
        return len(self._connections)

    def forget(self, connection: ServedConnection) -> None:
        """Take a lost connection out of the books."""
        self._connections.pop(connection, None)
        if not self._connections and self._emptied is not None:
            self._emptied.set()

    def cut(self, connection: ServedConnection, reason: str) -> None:
        """Account for a connection that is ended for cause."""
        if not self._stopping:
            self.counts.cut += 1
            self._on_cut()
            log.warning("connection cut", peer=connection.peer, reason=reason)

    def open(self, stream: GrpcStream) -> None:
        """Give a new call to whoever serves its method."""
        self.counts.calls += 1
        make_receiver = self._methods.get(stream.path)
        if make_receiver is not None:
            receiver = make_receiver(stream)
            if not stream.local_closed:
                stream.receiver = receiver
            elif receiver is not None:
                receiver.closed()
            return
        call = None if self._make_call is None else self._make_call(stream)
        if call is not None:
            stream.receiver = call
            task = asyncio.create_task(call.run(), name=f"call {stream.path}")
            call.task = task
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            return
        stream.finish(StatusCode.UNIMPLEMENTED, f"no method {stream.path[:200]}")

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_PERIOD)
            now = loop.time()
            for connection, move_on_at in list(self._connections.items()):
                connection.sweep(now=now)
                if now < move_on_at:
                    continue
                if not connection.draining:
                    connection.drain()
                elif now > move_on_at + self.limits.max_age_grace:
                    connection.finish_streams(
                        StatusCode.UNAVAILABLE, "connection is old; connect again"
                    )
