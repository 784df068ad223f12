"""A gRPC server: connections in, calls to what serves their method."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog
from h2.errors import ErrorCodes

from controlplane.grpc_transport.calls import Call, OpenCall
from controlplane.grpc_transport.front import Front
from controlplane.grpc_transport.limits import GOAWAY, SETTINGS, Cut, Limits, Pool, ServerLimits
from controlplane.grpc_transport.served import ServerConnection
from controlplane.grpc_transport.status import StatusCode
from controlplane.grpc_transport.stream import frame_header
from controlplane.grpc_transport.turns import Turns
from controlplane.runtime.acceptor import Acceptor, report_exhausted
from controlplane.runtime.client_log import ClientLog

log = structlog.get_logger("grpc")

SWEEP_PERIOD = 1.0
"""Seconds between looks for clients that are gone; small against every timeout."""
FULL_FOR = 0.5
"""Seconds between two pauses because all connections are taken."""
LOOKED_AT = 16
"""Of the oldest unfinished handshakes, when one has to give way."""
TOO_MANY = (
    frame_header(0, SETTINGS, 0, 0)  # comes first in any case (RFC 9113, section 3.4)
    + frame_header(28, GOAWAY, 0, 0)
    + struct.pack(">II", 0, ErrorCodes.ENHANCE_YOUR_CALM)
    + b"too many connections"
)
"""What a client reads that is not accepted, if it speaks clear text."""
LINES_PER_MINUTE = 60
"""Lines of the log that all clients together can cause."""


class GrpcServer:
    """Serves gRPC on one or more addresses.

    Args:
        limits: what one connection may cost.
        server_limits: what all together may cost.
        on_refused: called for each connection that is not accepted.
        on_cut: called for each connection that is ended for what the client did or did not do.

    Attributes:
        accepted: connections accepted since the start.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        server_limits: ServerLimits | None = None,
        on_refused: Callable[[], None] = lambda: None,
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = limits or Limits()
        self.server_limits = server_limits or ServerLimits()
        self._on_refused, self._on_cut = on_refused, on_cut
        self.accepted = 0
        self._methods: dict[str, OpenCall] = {}
        self._fronts: dict[Front, float] = {}
        """Front -> instant at which its client is asked to move on."""
        self._handshakes: dict[Front, None] = {}
        """Those that have not completed their handshake, the oldest first."""
        self._per_host: Counter[str] = Counter()
        self._pool = Pool(self.server_limits.max_held)
        self._log = ClientLog(log, lines_per_minute=LINES_PER_MINUTE)
        self._acceptor = Acceptor(
            self._take, has_room=self._has_room, on_exhausted=partial(report_exhausted, self._log)
        )
        self._accepting: set[asyncio.Task[object]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._turns: Turns | None = None
        self._stopping = False
        self._full_at = -math.inf
        self._emptied = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many connections are open, unfinished handshakes included."""
        return len(self._fronts)

    def add_method(self, path: str, open_call: OpenCall) -> None:
        """Serve ``/package.Service/Method``."""
        self._methods[path] = open_call

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Accept connections; return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._turns = self._turns or Turns(self.server_limits)
        bound = await self._acceptor.listen(host, port, tls=tls)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="grpc sweep")
        return bound

    async def stop(self, grace: float | None = None) -> None:
        """Accept no more, let running calls end within *grace* seconds, then end them."""
        self._stopping = True
        self._acceptor.close()
        for front in list(self._fronts):
            self._drain(front)
        if self._fronts and grace:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._emptied.wait()
        for front in list(self._fronts):
            if isinstance(front.connection, ServerConnection):
                front.connection.finish_all(StatusCode.UNAVAILABLE, "the server is going away")
            front.close()
        tasks = [*self._accepting, *((self._sweeper,) if self._sweeper is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sweeper = None
        # A tick for the transports to report that they are closed.
        await asyncio.sleep(0)
        for front in list(self._fronts):
            front.abort(Cut.STOPPING)

    # -- connections ------------------------------------------------------------------------

    def _take(self, accepted: socket.socket, host: str, tls: ssl.SSLContext | None) -> None:
        if not self._admits(host):
            if tls is None:
                with contextlib.suppress(OSError):
                    accepted.send(TOO_MANY)
            accepted.close()
            return
        loop = asyncio.get_running_loop()
        front = Front(
            self,
            self._make,
            self._turns or Turns(self.server_limits),
            tls=tls,
            handshake_timeout=self.limits.handshake_timeout,
        )
        front.host = host
        spread = random.uniform(0.9, 1.1)  # noqa: S311 -- spreads reconnects
        self._fronts[front] = front.since + self.limits.max_age * spread
        self._handshakes[front] = None
        self.accepted += 1
        self._per_host[host] += 1
        task = loop.create_task(loop.connect_accepted_socket(lambda: front, accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    def _has_room(self) -> bool:
        """Decide whether to accept now; what may make room first is waited for.

        A client that has had half of its time, and whose own move is due, gives way to a newer
        one; where all are young, or wait for this server, it accepts later. A limit that is
        reached is looked at twice, since clients that have left may not have been noticed.
        """
        limits = self.server_limits
        if len(self._handshakes) >= limits.max_handshakes:
            oldest = itertools.islice(self._handshakes, LOOKED_AT)
            before = asyncio.get_running_loop().time() - self.limits.handshake_timeout / 2
            idle = next((f for f in oldest if f.since < before and f.awaits_peer), None)
            if idle is None:
                return False
            del self._handshakes[idle]
            idle.abort(Cut.NO_HANDSHAKE)
        now = asyncio.get_running_loop().time()
        if len(self._fronts) >= limits.max_connections and now - self._full_at > FULL_FOR:
            self._full_at = now
            return False
        return True

    def _admits(self, host: str) -> bool:
        """Decide on a new connection."""
        limits = self.server_limits
        most, count, what = limits.max_connections, len(self._fronts), "in all"
        if limits.max_per_address and self._per_host[host] >= limits.max_per_address:
            most, count, what = limits.max_per_address, self._per_host[host], "of one address"
        if count >= most:
            self._on_refused()
            self._log.warning(
                "connections refused", host, address=host, limit=most, reason=f"limit {what}",
                remedy="add replicas, or raise --max-connections and the open-file limit",
            )  # fmt: skip
            return False
        return True

    def _make(self, peer: str, names: tuple[str, ...], now: float) -> ServerConnection:
        return ServerConnection(self.limits, now=now, peer=peer, names=names, pool=self._pool)

    def ready(self, front: Front) -> None:
        """Count a handshake as complete."""
        self._handshakes.pop(front, None)

    def lost(self, front: Front, reason: str) -> None:
        """Remove a lost connection from the count."""
        del reason
        if self._fronts.pop(front, None) is None:
            return
        self._handshakes.pop(front, None)
        self._per_host[front.host] -= 1
        if not self._per_host[front.host]:
            del self._per_host[front.host]
        if not self._fronts:
            self._emptied.set()
        if front.cut is not None and not self._stopping:
            self._on_cut()
            self._log.warning(
                "connection cut", front.host, peer=front.peer, reason=str(front.cut),
                detail=front.detail[:200], remedy="check what it sends, and whether it reads",
            )  # fmt: skip

    # -- calls ------------------------------------------------------------------------------

    def opened(self, call: Call) -> None:
        """Hand a new call to what serves its method."""
        open_call = self._methods.get(call.path)
        if open_call is None:
            call.finish(StatusCode.UNIMPLEMENTED, f"no method {call.path[:200]}")
            return
        receiver = open_call(call)
        if not call.is_over:
            call.receiver = receiver
        elif receiver is not None:
            receiver.closed()

    # -- time -------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_PERIOD)
            now = loop.time()
            for number, (front, move_on_at) in enumerate(list(self._fronts.items())):
                front.sweep(now=now)
                if now > move_on_at + self.limits.max_age_grace:
                    if isinstance(front.connection, ServerConnection):
                        front.connection.finish_all(
                            StatusCode.UNAVAILABLE, "connection is old; connect again"
                        )
                        front.flush()
                elif now > move_on_at:
                    self._drain(front)
                if number % 256 == 255:
                    await asyncio.sleep(0)
            self._relieve()

    def _drain(self, front: Front) -> None:
        if isinstance(front.connection, ServerConnection):
            front.connection.drain()
            front.flush()
        else:
            front.close()

    def _relieve(self) -> None:
        """Cut who holds most while all together hold too much."""
        if self._pool.full:
            held = {front: front.connection.held for front in self._fronts if front.connection}
            if held:
                max(held, key=lambda front: held[front]).abort(Cut.TOO_MUCH_HELD)
