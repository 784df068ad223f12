"""One connection on asyncio: a thin front that moves bytes and hands events to receivers.

TLS of a server is `MemoryTls` here rather than asyncio's own layer: a handshake is then counted and
bounded like everything else, and what waits for the socket waits unencrypted, as shared bytes.
"""

from __future__ import annotations

import asyncio
import fcntl
import ssl
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Protocol, cast

from controlplane.grpc_transport.calls import Call
from controlplane.grpc_transport.connection import Connection, Event, Kind
from controlplane.grpc_transport.limits import Cut
from controlplane.grpc_transport.status import StatusCode
from controlplane.grpc_transport.turns import Turns
from controlplane.runtime.memory_tls import MemoryTls

JOIN = 1 << 16
"""Bytes of output that are joined for one write; larger pieces are shared, and written as such."""
ENCRYPTED = 1 << 15
"""Bytes that are encrypted at once: no more than that wait for a socket in encrypted form."""
LINGER = 5.0
"""Seconds that a peer has for closing its side once ours is closed."""
FILLS = 4
"""Times that a socket which takes everything is written to before the others are served."""
SEND_QUEUE = struct.Struct("i")

MakeConnection = Callable[[str, tuple[str, ...], float], Connection]
"""Peer, its certificate's names, now -> one side of a connection."""


class Owner(Protocol):
    """Who a front belongs to: a server or a client."""

    def ready(self, front: Front) -> None:
        """Record that the peer's settings have arrived."""

    def opened(self, call: Call) -> None:
        """Serve a call of the peer's."""

    def lost(self, front: Front, reason: str) -> None:
        """Record that the connection is gone."""


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Return the peer's address as gRPC names it."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return f"unix:{peer or ''}"
    host, port = str(peer[0]).partition("%")[0], peer[1]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _joined(output: Iterable[bytes]) -> Iterator[memoryview]:
    """Join pieces to blocks of at most `JOIN` bytes; larger pieces stay as they are, shared."""
    block: list[bytes] = []
    size = 0
    for piece in output:
        if block and size + len(piece) > JOIN:
            yield memoryview(b"".join(block))
            block, size = [], 0
        block.append(piece)
        size += len(piece)
    if block:
        yield memoryview(block[0] if len(block) == 1 else b"".join(block))


class Front(asyncio.Protocol):
    """Drives one connection.

    Attributes:
        connection: None until the TLS handshake is complete.
        peer: see `Call.peer`.
        host: what a server counts the connection under.
        since: instant at which it was accepted.
    """

    def __init__(
        self,
        owner: Owner,
        make: MakeConnection,
        turns: Turns,
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float = 10.0,
    ) -> None:
        self._owner, self._make, self._turns = owner, make, turns
        self._loop = asyncio.get_running_loop()
        self._handshake_timeout = handshake_timeout
        self.connection: Connection | None = None
        self.transport: asyncio.Transport | None = None
        self.peer = self.host = ""
        self.since = self._loop.time()
        self.cut: Cut | None = None
        self.detail = ""
        self._tls = None if tls is None else MemoryTls(tls)
        self._queued = self._running = self._paused = self._ending = False
        self._sent = self._delivered = self._unread_replies = 0
        self._closes_at: float | None = None
        """Instant at which the wait for the peer's own end is over; None before ours."""
        self._unsent: deque[memoryview] = deque()
        """Output that the socket has no room for yet."""

    # -- asyncio ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer, or await its TLS handshake."""
        self.transport = cast("asyncio.Transport", transport)
        self.peer = peer_name(transport)
        self.transport.set_write_buffer_limits(high=1, low=0)
        if self._tls is None:
            self._start(())

    def data_received(self, data: bytes) -> None:
        """Receive bytes, and handle them unless others come first."""
        if self._ending or self._closes_at is not None:
            return  # nothing more is read, only what was written leaves
        if self._tls is not None:
            self._tls.receive(data)
        elif self.connection is not None:
            self.connection.receive(data, now=self._loop.time())
        if self._queued:
            return
        if self.connection is None or not self.connection.greeted:
            self._wait()
        else:
            self.turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every call."""
        self.transport = None
        self._unsent.clear()
        if self.connection is not None:
            self.connection.lost(self.detail or str(exc or "connection closed by the peer"))
            self._dispatch()
        self._owner.lost(self, str(exc or ""))

    def pause_writing(self) -> None:
        """Keep messages back until the socket takes more."""
        if self.connection is not None:
            self.connection.blocked = True

    def resume_writing(self) -> None:
        """Continue to write and read."""
        connection = self.connection
        if connection is None:
            return
        connection.blocked = False
        self._write(())
        if connection.blocked:
            return
        self._unread_replies = 0
        if self._ending:
            self._take_leave()
            return
        connection.resume()
        self._settle()
        if self._paused and not self._queued:
            self._wait()

    # -- turns ------------------------------------------------------------------------------

    def turn(self) -> None:
        """Handle what has arrived, for the time of one turn."""
        self._queued = False
        if self.transport is None:
            return
        if self._tls is not None and not self._decrypt(self._tls):
            return
        connection = self.connection
        if connection is None:
            self._read_on()
            return
        more = self._work(connection)
        self.flush()
        if more and (connection.events or connection.backlog) and not connection.closing:
            self._wait()
            return
        self._dispatch()
        if connection.congested and self._closes_at is None:
            self._pause()
        else:
            self._read_on()

    def _work(self, connection: Connection) -> bool:
        """Handle frames and events for one turn; return whether the turn ended before them."""
        limits, frames = self._turns.limits, 0
        now, end = self._loop.time(), time.perf_counter() + limits.turn_time
        self._running = True
        try:
            while True:
                if connection.events:
                    self._handle(connection.events.popleft())
                elif connection.congested or not connection.step(now=now):
                    return False
                else:
                    frames += 1
                if frames >= limits.turn_frames or time.perf_counter() > end:
                    return True
        finally:
            self._running = False

    def _pause(self) -> None:
        if self.transport is not None and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _wait(self) -> None:
        self._queued = True
        self._pause()
        self._turns.add(self)

    def _read_on(self) -> None:
        if self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def _settle(self) -> None:
        """Send and hand over what came of something other than a turn."""
        if not self._running:
            self.flush()
            if not self._queued:
                self._dispatch()

    def _dispatch(self) -> None:
        connection = self.connection
        if connection is None or self._running:
            return
        self._running = True
        while connection.events:
            self._handle(connection.events.popleft())
        self._running = False
        self.flush()

    def _handle(self, event: Event) -> None:
        stream = event.stream
        if stream is None:
            self._owner.ready(self)
        elif event.kind is Kind.CLOSED:
            receiver, stream.receiver = stream.receiver, None
            if receiver is not None:
                receiver.closed()
        elif stream.is_over:
            return
        elif event.kind is Kind.OPENED:
            self._owner.opened(stream)
            if stream.deadline is not None:
                self._loop.call_at(
                    stream.deadline,
                    stream.finish,
                    StatusCode.DEADLINE_EXCEEDED,
                    "deadline exceeded",
                )
        elif (receiver := stream.receiver) is None:
            return
        elif event.kind is Kind.MESSAGE:
            receiver.message_received(event.message)
        elif event.kind is Kind.HALF_CLOSED:
            receiver.half_closed()
        else:
            receiver.drained()

    # -- bytes out --------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the connection has to say, and what waits as far as the socket takes it."""
        connection = self.connection
        if connection is None or self.transport is None:
            return
        for _ in range(FILLS):
            if not connection.output:
                break
            output, connection.output = connection.output, []
            if connection.blocked:
                self._unread_replies += sum(map(len, output))
                if self._unread_replies > connection.limits.max_unsent:
                    self.abort(Cut.TOO_MUCH_UNSENT)
                    return
            self._write(output)
            if not connection.blocked:
                connection.pump_all()
        if connection.output:
            self._loop.call_soon(self._settle)
        elif connection.closing and self.transport is not None:
            self._take_leave()

    def _write(self, output: Iterable[bytes]) -> None:
        """Write *output* as far as the socket takes it; what is left waits."""
        unsent, transport = self._unsent, self.transport
        if transport is None or self.connection is None or transport.is_closing():
            return
        unsent.extend(_joined(output))
        while unsent and not self.connection.blocked:
            data = unsent.popleft()
            if self._tls is None:
                self._put(data)
                continue
            if len(data) > ENCRYPTED:
                unsent.appendleft(data[ENCRYPTED:])
            self._put(self._tls.encrypt(data[:ENCRYPTED]))

    def _put(self, data: bytes | memoryview) -> None:
        if data and self.transport is not None and self._closes_at is None:
            self._sent += len(data)
            self.transport.write(data)

    def _decrypt(self, tls: MemoryTls) -> bool:
        """Decrypt what has arrived, or go on with the handshake; return whether to go on."""
        data = tls.read()
        if tls.ready and self.connection is None:
            self._start(tls.peer_names)
        if self.connection is None or not self.connection.blocked:
            self._put(tls.encrypt(b""))
        if data and self.connection is not None:
            self.connection.receive(data, now=self._loop.time())
        if tls.ended:
            if not tls.ready:
                self.cut, self.detail = Cut.TLS, tls.error
            self.close()
        return not tls.ended

    def _start(self, names: tuple[str, ...]) -> None:
        self.connection = self._make(self.peer, names, self._loop.time())
        self.connection.wake = self._settle
        self.flush()

    # -- ends -------------------------------------------------------------------------------

    def sweep(self, *, now: float) -> None:
        """Cut a peer that is gone, does not read, or has not completed its handshake."""
        transport, connection = self.transport, self.connection
        if transport is None:
            return
        if connection is None or not connection.greeted:
            if now - self.since > self._handshake_timeout and self.awaits_peer:
                self.abort(Cut.NO_HANDSHAKE)
            return
        waiting = transport.get_write_buffer_size()
        if waiting or self._delivered < self._sent:
            waiting += self._in_kernel()
        self._delivered = self._sent - waiting
        cut = connection.check(now=now, delivered=self._delivered, waiting=waiting > 0)
        if cut is not None:
            self.abort(cut)
        elif self._closes_at is not None and now > self._closes_at:
            transport.close()
        else:
            self.flush()

    @property
    def awaits_peer(self) -> bool:
        """Whether the peer's next move is due: nothing of it waits to be handled here."""
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        if self._queued or sock is None or sock.fileno() < 0:
            return False
        with suppress(OSError):  # not a socket that knows
            waiting = SEND_QUEUE.unpack(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
            return not waiting
        return True

    def _in_kernel(self) -> int:
        """Return the bytes that the kernel has and the peer's has not acknowledged."""
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return 0
        with suppress(OSError):  # not a socket that knows
            return int(SEND_QUEUE.unpack(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])
        return 0

    def abort(self, cut: Cut) -> None:
        """Cut the connection now."""
        self.cut = self.cut or cut
        self.detail = self.detail or cut.value
        if self.connection is not None:
            self.connection.cut = self.cut
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close once everything written has left."""
        if (self._ends() or self._closes_at is not None) and self.transport is not None:
            self._closes_at = self._loop.time()
            self.transport.close()

    def _take_leave(self) -> None:
        """Close once everything written has left, and the peer has closed its own side or had time.

        A socket that is closed while bytes of the peer still arrive resets the connection, and the
        last answers may be lost with it (as RFC 9112, section 9.6, says of HTTP/1.1).
        """
        if self.connection is None or self.connection.cut is not None:
            self.close()
        elif self._ends() and self.transport is not None:
            self._closes_at = self._loop.time() + LINGER
            self.transport.write_eof()
            self._read_on()

    def _ends(self) -> bool:
        """Note why the connection ends; return whether its last byte has been written just now."""
        self._ending = bool(self._unsent)
        if self.connection is not None:
            self.cut = self.cut or self.connection.cut
            self.detail = self.detail or self.connection.reason
        transport = self.transport
        if transport is None or self._ending or self._closes_at is not None:
            return False
        if transport.is_closing():
            return False
        if self._tls is not None:
            self._put(self._tls.close())
        return True
