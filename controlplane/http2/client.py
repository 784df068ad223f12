"""A gRPC client for a few long streams: dials one server, and nothing behind the caller's back.

It balances nothing, retries nothing and keeps no pool: who dials again, and when, is the caller's.
Beside grpcio's it costs a tenth of the memory, which is what counts at the far edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import unquote

from controlplane.http2 import frames
from controlplane.http2.connection import Connection, Limits
from controlplane.http2.frames import ConnectionFault, ErrorCode, Setting, StreamFault
from controlplane.http2.status import StatusCode, parse_status, status_of_http, status_of_reset
from controlplane.http2.stream import Stream

CLIENT_LIMITS = Limits(
    max_message=1 << 20,
    stream_window=1 << 18,
    connection_window=1 << 20,
    max_unsent=1 << 26,
    # gRPC's servers send clients away that ping an idle connection more than once in five minutes
    # (gRFC A8); whoever expects answers sooner waits for them with a timeout.
    keepalive_period=310.0,
    keepalive_timeout=20.0,
)
DIAL_WITHIN = 10.0
"""Seconds for the address to be resolved, the connection made and the server's settings read."""
SWEEP_PERIOD = 1.0
CLOSE_WITHIN = 1.0
"""Seconds in which a connection may close in good order."""
MAX_UNREAD = 16
"""Messages that wait for `Call.read` before the server may send no more."""
MAX_TEXT = 1_000
"""Characters of a server's words that are kept."""


class CallFailedError(Exception):
    """A call ended, with a status other than OK."""

    def __init__(self, code: StatusCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}" if text else code.name)
        self.code = code
        self.text = text


class Call(Stream):
    """One call to a server; its own receiver."""

    __slots__ = ("_answered", "_messages", "_over", "_status", "_text", "_wake", "_writable")

    def __init__(self, connection: ClientConnection, stream_id: int, headers: bytes) -> None:
        super().__init__(connection, stream_id)
        self.receiver = self
        self._messages: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._over = asyncio.Event()
        self._answered = False
        self._status: StatusCode | None = None
        self._text = ""
        self._headers_sent = True
        connection.write(frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, headers))

    # -- for the caller ---------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Tell whether the call has ended; messages may still wait to be read."""
        return self._over.is_set()

    async def until_over(self) -> None:
        """Wait for the end, whatever it is."""
        await self._over.wait()

    async def write(self, message: bytes) -> None:
        """Send a message and wait until it has left.

        Raises:
            CallFailedError: the call is over.
        """
        if self.is_over:
            raise CallFailedError(self._status or StatusCode.UNKNOWN, self._text)
        self._writable.clear()
        self.send(message)
        while not self.is_drained and not self.is_over:
            self._writable.clear()
            await self._writable.wait()

    def write_no_more(self) -> None:
        """Tell the server that no more messages come."""
        self.finish(StatusCode.OK)

    async def read(self) -> bytes | None:
        """Give the next message; none when the server has ended the call well.

        Raises:
            CallFailedError: it has ended otherwise.
        """
        while not self._messages:
            if self.is_over:
                if self._status is StatusCode.OK:
                    return None
                raise CallFailedError(self._status or StatusCode.UNKNOWN, self._text)
            self._wake.clear()
            await self._wake.wait()
        message = self._messages.popleft()
        if not self.auto_credit and len(self._messages) < MAX_UNREAD // 2:
            self.auto_credit = True
            self.credit()
        return message

    def cancel(self) -> None:
        """End the call from this side; a call that is over stays as it ended."""
        self.refuse(StatusCode.CANCELLED, "cancelled here")

    # -- receiver ---------------------------------------------------------------------------

    def message_received(self, message: bytes) -> None:
        """Keep a message for the caller."""
        self._messages.append(message)
        self.auto_credit = len(self._messages) < MAX_UNREAD
        self._wake.set()

    def half_closed(self) -> None:
        """Never come: a server ends a call as a whole."""

    def closed(self) -> None:
        """Let the caller know that the call is over."""
        self.settle(StatusCode.UNKNOWN, "the call ended without a status")

    def drained(self) -> None:
        """Let the caller write on."""
        self._writable.set()

    # -- for the connection -----------------------------------------------------------------

    def settle(self, code: StatusCode, text: str) -> None:
        """Note how the call ended; what was noted first stays."""
        if self._status is None:
            self._status, self._text = code, text[:MAX_TEXT]
            self._over.set()
            self._wake.set()
            self._writable.set()

    def fields_received(self, fields: dict[str, str], *, last: bool) -> None:
        """Take the header block that begins or ends the answer.

        Raises:
            StreamFault: it has no place here.
        """
        status = fields.get(":status", "")
        if not self._answered and status.startswith("1") and not last:
            return  # informational (RFC 9113, section 8.1)
        if not self._answered:
            self._answered = True
            grpc = fields.get("content-type", "").startswith("application/grpc")
            if status != "200" or not (grpc or "grpc-status" in fields):
                self.refuse(status_of_http(status), f"the server answers HTTP {status[:3]}")
                return
        elif not last:
            raise StreamFault(self.stream_id, ErrorCode.PROTOCOL_ERROR)
        if last:
            text = unquote(fields.get("grpc-message", "")[: 3 * MAX_TEXT], errors="replace")
            if "grpc-status" in fields:
                self.settle(parse_status(fields["grpc-status"]), text)
            self.end_received()

    def end_received(self) -> None:
        """Take END_STREAM: the call is over, since the server has the last word."""
        self.remote_closed = True
        if self._inbox:
            self.settle(StatusCode.INTERNAL, "the stream ended within a message")
        if not self.local_closed and self._ending is None:
            # The server needs no more of us, and must not wait for it.
            self.connection.write(frames.reset(self.stream_id, ErrorCode.NO_ERROR))
        self.local_closed = True
        self.connection.forget(self)

    def refuse(self, code: StatusCode, message: str) -> None:
        """End the call from this side, at once."""
        if self.local_closed or self.is_over:
            return
        self.settle(code, message)
        self.local_closed = True
        self.connection.write(frames.reset(self.stream_id, ErrorCode.CANCEL))
        self.connection.forget(self)

    def _opening(self) -> bytes:
        return b""

    def _end(self, code: StatusCode, message: str) -> None:
        # Kept, so that nothing is sent after it.
        self._ending = (code, message)
        self.connection.write(frames.frame(frames.DATA, frames.END_STREAM, self.stream_id))


class ClientConnection(Connection):
    """The client's side of one HTTP/2 connection."""

    def __init__(self, authority: str, limits: Limits = CLIENT_LIMITS) -> None:
        super().__init__(limits)
        self.authority = authority
        self._next_stream_id = 1
        self._reason = ""
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closed = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    def call(self, path: str, metadata: Iterable[tuple[str, str]] = ()) -> Call:
        """Begin a call.

        Args:
            path: ``/package.Service/Method``.
            metadata: names in lower case, and values in ASCII.

        Raises:
            CallFailedError: the connection is lost, or the server wants no more calls on it.
        """
        if self.transport is None or self.draining or self._next_stream_id > frames.MAX_WINDOW:
            raise CallFailedError(StatusCode.UNAVAILABLE, self._reason or "no connection")
        if len(self._streams) >= self.peer_max_streams:
            raise CallFailedError(StatusCode.UNAVAILABLE, "the server takes no more calls at once")
        stream_id = self._next_stream_id
        self._next_stream_id += 2
        secure = self.transport.get_extra_info("ssl_object") is not None
        block = self.table_update() + frames.request_headers(
            path, self.authority, secure=secure, metadata=metadata
        )
        if len(block) > min(self.limits.max_header_list, self.peer_frame_size):
            raise CallFailedError(StatusCode.RESOURCE_EXHAUSTED, "too much metadata")
        call = Call(self, stream_id, block)
        self._streams[stream_id] = call
        return call

    async def ready(self) -> None:
        """Wait for the server's settings.

        Raises:
            OSError: there is no gRPC server, or it went away.
        """
        await self._ready

    async def shut(self) -> None:
        """Close in good order if that is possible soon."""
        for stream in list(self._streams.values()):
            stream.refuse(StatusCode.CANCELLED, "cancelled here")
        self.write(frames.goaway(0, ErrorCode.NO_ERROR))
        self.close()
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._closed.wait()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()

    # -- connection -------------------------------------------------------------------------

    def _greet(self) -> None:
        self.write(
            frames.PREFACE
            + frames.settings(
                {
                    Setting.ENABLE_PUSH: 0,
                    Setting.INITIAL_WINDOW_SIZE: self.limits.stream_window,
                    Setting.MAX_HEADER_LIST_SIZE: self.limits.max_header_list,
                }
            )
            + frames.window_update(0, self.limits.connection_window - frames.DEFAULT_WINDOW)
        )
        self._sweeper = self._loop.call_later(SWEEP_PERIOD, self._look)

    def _look(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_PERIOD, self._look)
        self.sweep(now=self.now())

    def _lost(self, error: Exception | None) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        reason = self._reason or (str(error) if error else "the server closed the connection")
        self._reason = reason
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(reason))
            self._ready.exception()  # told, or nobody waits any more
        for stream in self._streams.values():
            if isinstance(stream, Call):
                stream.settle(StatusCode.UNAVAILABLE, reason)
        self._closed.set()

    def _cut(self, reason: str) -> None:
        self._reason = self._reason or f"the server is given up: {reason}"

    def _take_preface(self, data: bytes) -> int:
        # The server's preface is its SETTINGS (RFC 9113, section 3.4).
        if data[:5] == b"HTTP/"[: len(data[:5])]:
            if len(data) < 5:
                return 0
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "it speaks HTTP/1, not gRPC")
        if len(data) < frames.HEADER_SIZE:
            return 0
        if data[3] != frames.SETTINGS or data[4] & frames.ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "it does not speak HTTP/2")
        self.greeted = True
        return 0

    def _settings_taken(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id % 2 == 0 or stream_id >= self._next_stream_id

    def _check_number(self, stream_id: int) -> None:
        if self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "an answer to no call")

    def _take_fields(self, stream_id: int, flags: int, fields: Iterable[tuple[str, str]]) -> None:
        stream = self._streams.get(stream_id)
        if isinstance(stream, Call):
            stream.fields_received(dict(fields), last=bool(flags & frames.END_STREAM))

    def _take_goaway(self, _flags: int, _stream_id: int, payload: bytes) -> None:
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY of the wrong form")
        last, code = (int.from_bytes(payload[at : at + 4], "big") for at in (0, 4))
        self.draining = True
        words = payload[8 : 8 + MAX_TEXT].decode("utf-8", "replace")
        self._reason = "the server is going away"
        if code:
            self._reason += f" ({_name(code)}: {words})" if words else f" ({_name(code)})"
        # Calls that it will not serve (RFC 9113, section 6.8) can be made again elsewhere.
        for stream in list(self._streams.values()):
            if stream.stream_id > last & frames.MAX_WINDOW and isinstance(stream, Call):
                stream.settle(StatusCode.UNAVAILABLE, self._reason)
                stream.local_closed = True
                self.forget(stream)

    def _dropped(self, stream: Stream, code: int) -> None:
        if isinstance(stream, Call):
            stream.settle(status_of_reset(code), f"the call was reset ({_name(code)})")


def _name(code: int) -> str:
    return ErrorCode(code).name if code in frozenset(ErrorCode) else str(code)


def split_address(address: str) -> tuple[str, int]:
    """Give host and port of ``HOST:PORT``, where an IPv6 host stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


@asynccontextmanager
async def dialled(
    address: str,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    limits: Limits = CLIENT_LIMITS,
) -> AsyncIterator[ClientConnection]:
    """Be connected to ``HOST:PORT`` for the duration of the block.

    Args:
        address: whom to dial; a name may have several addresses, of which the first good one is.
        tls: whom to trust and what to show; none speaks clear text.
        server_name: name in the server's certificate, if not its host.
        limits: what the connection may cost.

    Raises:
        OSError: nobody answers there, or not as a gRPC server that *tls* trusts.
    """
    host, port = split_address(address)
    if tls is not None:
        tls.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as ends:
        async with asyncio.timeout(DIAL_WITHIN):
            try:
                transport, connection = await loop.create_connection(
                    lambda: ClientConnection(server_name or address, limits),
                    host,
                    port,
                    ssl=tls,
                    server_hostname=(server_name or host) if tls is not None else None,
                    ssl_shutdown_timeout=CLOSE_WITHIN if tls is not None else None,
                    happy_eyeballs_delay=0.25,
                )
            except ConnectionResetError as error:
                if tls is None or str(error):
                    raise
                # asyncio says nothing of an end within the handshake.
                raise ConnectionResetError(
                    "the server closed the connection within the TLS handshake;"
                    " it may not trust our certificate"
                ) from error
            ends.push_async_callback(connection.shut)
            secured = transport.get_extra_info("ssl_object")
            # A server that names no protocol may still speak this one; one that names another not.
            if secured is not None and secured.selected_alpn_protocol() not in (None, "h2"):
                raise ConnectionError("the server does not offer HTTP/2")
            await connection.ready()
        yield connection
