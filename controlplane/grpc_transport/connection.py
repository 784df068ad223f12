"""One HTTP/2 connection without sockets or clocks: bytes and instants in, bytes and events out.

Framing, stream states, HPACK and flow control are h2's; see `stream` for the hot path beside it.
Here are gRPC's mapping on HTTP/2, the bounds on what a peer may do, and what h2 leaves out: GOAWAY
in two steps, frames on idle streams, and streams beyond the limit refused one by one.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import HPACKError

from controlplane.grpc_transport import limits as frames
from controlplane.grpc_transport.limits import Budget, Cut, Limits, Pool, price
from controlplane.grpc_transport.status import CallError, StatusCode, status_of_reset
from controlplane.grpc_transport.stream import Stream, frame_header

# hpack would log every header at debug level, tokens included.
logging.getLogger("hpack").setLevel(logging.WARNING)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_SIZE = 16_384
"""Largest frame that we accept, HTTP/2's own default."""
HIGHEST_STREAM = 2**31 - 1
MAX_TEXT = 1_000
"""Characters of a peer's status text that are kept."""
FILL = 1 << 17
"""Bytes written at once of what waits, before the socket is asked whether it takes more."""

Fields = list[tuple[str, str]]


class Kind(Enum):
    """What happened on a connection."""

    READY = "peer's settings received"
    OPENED = "call opened by the peer"
    MESSAGE = "message received"
    HALF_CLOSED = "peer sends no more messages"
    DRAINED = "everything sent has left"
    CLOSED = "call over"


class Event(NamedTuple):
    """One thing that happened, on a call if it is about one."""

    kind: Kind
    stream: Stream | None = None
    message: bytes = b""


def _nothing() -> None:
    """Wake nothing."""


RESPONSE: Fields = [(":status", "200"), ("content-type", "application/grpc")]


def is_grpc(content_type: str) -> bool:
    """Return whether a content type is gRPC's, whatever its message format."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/grpc" or kind.startswith("application/grpc+")


def code_name(code: int) -> str:
    """Return the name of an HTTP/2 error code."""
    return ErrorCodes(code).name if code in frozenset(ErrorCodes) else str(code)


@lru_cache(maxsize=16)
def _settings(limits: Limits, client: bool) -> tuple[Settings, Settings]:
    """Return the settings that are announced, and those that h2 enforces.

    Nothing changes them, so that all connections share them.
    """
    values = {
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.INITIAL_WINDOW_SIZE: limits.window,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_list,
        SettingCodes.MAX_CONCURRENT_STREAMS: 0 if client else limits.max_streams,
    }
    enforced = values | {SettingCodes.MAX_CONCURRENT_STREAMS: HIGHEST_STREAM}
    return (
        Settings(client=client, initial_values=values),
        Settings(client=client, initial_values=enforced),
    )


class _Http2(H2Connection):
    MAX_CLOSED_STREAMS = 1_024  # the most that it remembers


class Connection(ABC):
    """One side of one connection.

    Attributes:
        events: what happened and was not taken yet.
        output: bytes to send, in order.
        blocked: whether the socket takes no more for now; set by who drives the connection.
        closing: whether nothing more is read; close once the output is sent.
        draining: whether no more calls may begin.
        greeted: whether the peer's first SETTINGS have arrived.
        cut: why this side ends the connection, with `reason` in words.
        wake: called when there is output or an event outside of `step`.
    """

    _client = False

    def __init__(
        self,
        limits: Limits,
        *,
        now: float,
        peer: str,
        names: tuple[str, ...] = (),
        pool: Pool | None = None,
    ) -> None:
        self.limits, self.peer, self.names = limits, peer, names
        self.events: deque[Event] = deque()
        self.output: list[bytes] = []
        self.streams: dict[int, Stream] = {}
        self.blocked = self.closing = self.draining = self.greeted = False
        self.cut: Cut | None = None
        self.reason = ""
        self.wake: Callable[[], None] = _nothing
        self.now = self.last_received = now
        self.held = 0
        self._partial = self._owed = self._granted = self._received = 0
        self._withheld = False
        self._waiting: dict[Stream, None] = {}
        """Streams with unsent messages, the next to be served first."""
        self._pool = pool or Pool()
        self._budget = Budget(limits, now=now)
        self._buffer, self._at = b"", 0
        self._block = 0
        """Bytes of a header block that is not complete; h2 alone handles frames within one."""
        self._pinged_at: float | None = None
        self._mark: tuple[float, int] | None = None
        self._sender_mark = (now, 0)
        self.h2 = _Http2(H2Configuration(client_side=self._client, header_encoding=None))
        self._greet()

    def _greet(self) -> None:
        owner = self.h2
        owner.local_settings, kept = _settings(self.limits, self._client)
        owner.initiate_connection()
        # h2 would end the connection of a client that opens one stream too many.
        owner.local_settings = kept
        owner.decoder.max_header_list_size = self.limits.max_header_list
        if not self._client:
            owner.incoming_buffer.add_data(PREFACE)
        owner.increment_flow_control_window(self.limits.connection_window - 65_535)
        self.collect()

    # -- bytes in ---------------------------------------------------------------------------

    def receive(self, data: bytes, *, now: float) -> None:
        """Receive bytes; `step` handles them."""
        self.last_received = now
        self._pinged_at = None
        self._buffer = self._buffer[self._at :] + data if self.backlog else data
        self._at = 0

    @property
    def congested(self) -> bool:
        """Whether so much waits for the socket that nothing more should be read."""
        if not self.blocked:
            return False
        return sum(len(stream.pending) for stream in self._waiting) > self.limits.max_pending

    @property
    def backlog(self) -> int:
        """Bytes received and not handled, an incomplete frame included."""
        return len(self._buffer) - self._at

    def step(self, *, now: float) -> bool:
        """Handle one frame; return whether there may be another."""
        data, at = self._buffer, self._at
        if self.closing or (not self.greeted and not self._begin(data)):
            return False
        at = self._at
        if len(data) - at < 9:
            return False
        size = int.from_bytes(data[at : at + 3], "big")
        end = at + 9 + size
        if size > FRAME_SIZE:
            self.fail(ErrorCodes.FRAME_SIZE_ERROR, f"frame of {size} bytes")
            return False
        if end > len(data):
            return False
        self.now, self._at = now, end
        kind, flags = data[at + 3], data[at + 4]
        stream_id = int.from_bytes(data[at + 5 : at + 9], "big") & HIGHEST_STREAM
        if kind == frames.DATA and size and not flags and not self._block:
            stream = self.streams.get(stream_id)
            if stream is not None and self._take_data(stream, data[at + 9 : end], size):
                return True
        self._take_frame(kind, flags, stream_id, data[at:end])
        return True

    def _take_data(self, stream: Stream, payload: bytes, size: int) -> bool:
        """Handle DATA without h2, but with its accounts; return whether h2 need not see it."""
        state = stream.h2
        window, ours = self.h2._inbound_flow_control_window_manager, state._inbound_window_manager  # noqa: SLF001
        if (
            stream.remote_closed
            or state._expected_content_length is not None  # noqa: SLF001
            or size > window.current_window_size
            or size > ours.current_window_size
        ):
            return False
        window.current_window_size -= size
        ours.current_window_size -= size
        state._actual_content_length += size  # noqa: SLF001
        self._owed += size
        self._received += size
        stream.take(payload, size)
        return True

    def _take_frame(self, kind: int, flags: int, stream_id: int, frame: bytes) -> None:
        size = len(frame) - 9
        if not self._budget.spend(price(kind, size, len(self.streams)), now=self.now):
            self.fail(ErrorCodes.ENHANCE_YOUR_CALM, "too many frames without messages")
            return
        if self._check(kind, flags, stream_id, frame):
            try:
                events = self.h2.receive_data(frame)
            except ProtocolError as error:
                self.h2.clear_outbound_data_buffer()
                code = error.error_code
                if isinstance(error.__cause__, HPACKError) and code == ErrorCodes.PROTOCOL_ERROR:
                    code = ErrorCodes.COMPRESSION_ERROR
                self.fail(code, str(error))
                return
            self.collect()
            for event in events:
                self._take_event(event)

    def _check(self, kind: int, flags: int, stream_id: int, frame: bytes) -> bool:
        """Check what h2 does not; return whether it should see the frame."""
        size = len(frame) - 9
        if not self.greeted:
            if kind != frames.SETTINGS or flags & 1:
                self.fail(ErrorCodes.PROTOCOL_ERROR, "the first frame is not SETTINGS")
                return False
            self.greeted = True
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._block = 0 if flags & 4 else self._block + size + 1
            if self._block > self.limits.max_header_list:
                self.fail(ErrorCodes.ENHANCE_YOUR_CALM, "header block too large")
                return False
        elif kind in (frames.RST_STREAM, frames.WINDOW_UPDATE) and self._is_idle(stream_id):
            self.fail(ErrorCodes.PROTOCOL_ERROR, "frame on an idle stream")
            return False
        elif kind == frames.SETTINGS and flags & 1 and size:
            self.fail(ErrorCodes.FRAME_SIZE_ERROR, "SETTINGS with ACK and a payload")
            return False
        elif kind == frames.GOAWAY and not self._block and not stream_id and size >= 8:
            # h2 would end every running call.
            last = int.from_bytes(frame[9:13], "big") & HIGHEST_STREAM
            self._take_goaway(last, int.from_bytes(frame[13:17], "big"), frame[17:])
            return False
        return True

    def _is_idle(self, stream_id: int) -> bool:
        owner = self.h2
        ours = stream_id % 2 == int(self._client)
        highest = owner.highest_outbound_stream_id if ours else owner.highest_inbound_stream_id
        return stream_id > highest

    def _take_event(self, event: H2Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, DataReceived):
            length = event.flow_controlled_length or 0
            self._owed += length
            self._received += length
            if stream is None:
                self._acknowledge(length, event.stream_id or 0)
                return
            stream.take(event.data or b"", length)
            if event.stream_ended is not None:
                self._end_received(stream)
        elif isinstance(event, WindowUpdated):
            self._granted += event.delta or 0
            self.pump_all()
        elif isinstance(event, RemoteSettingsChanged):
            self.events.append(Event(Kind.READY))
            self.pump_all()
        elif isinstance(event, StreamReset):
            if stream is not None:
                self.dropped(stream, int(event.error_code or 0))
        elif isinstance(event, PingAckReceived):
            self._take_pong(event.ping_data)
        elif isinstance(event, (RequestReceived, ResponseReceived, TrailersReceived)):
            self._take_headers(event, stream)

    def _take_headers(
        self,
        event: RequestReceived | ResponseReceived | TrailersReceived,
        stream: Stream | None,
    ) -> None:
        stream_id = event.stream_id or 0
        try:
            fields = [(str(name, "ascii"), str(value, "utf-8")) for name, value in event.headers]
        except UnicodeDecodeError:
            self.reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            if stream is not None:
                self.dropped(stream, ErrorCodes.PROTOCOL_ERROR)
            return
        self._take_fields(stream_id, stream, fields, last=event.stream_ended is not None)

    # -- accounts of what is received -------------------------------------------------------

    def received(self, stream: Stream, message: bytes) -> None:
        """Record a whole message."""
        self.events.append(Event(Kind.MESSAGE, stream, message))

    def hold(self, size: int, *, partial: bool = False) -> None:
        """Count bytes that are held for the peer, negative when they are released."""
        self.held += size
        self._pool.held += size
        if partial:
            self._partial += size
        if self._withheld and size < 0 and not self._is_full:
            self._withheld = False
            self._credit_all()

    @property
    def _is_full(self) -> bool:
        return self.held > self.limits.max_held or self._pool.full

    def credit(self, stream: Stream) -> None:
        """Grant the peer as much as it sent, in large steps, unless too much is held for it."""
        if stream.owed * 4 >= self.limits.window:
            self._credit(stream)
        elif self._owed * 4 >= self.limits.connection_window:
            self._credit_all()

    def _credit_all(self) -> None:
        for stream in list(self.streams.values()):
            self._credit(stream)

    def _credit(self, stream: Stream) -> None:
        if not stream.owed or stream.unread or len(stream.pending) > self.limits.max_pending:
            return
        if self._is_full:
            self._withheld = True
            return
        owed, stream.owed = stream.owed, 0
        self._acknowledge(owed, stream.stream_id)

    def _acknowledge(self, size: int, stream_id: int) -> None:
        self._owed -= size
        if not self.closing and size:
            self.h2.acknowledge_received_data(size, stream_id)
            self.collect()

    # -- bytes out --------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Add bytes to the output."""
        self.output.append(data)

    def collect(self) -> None:
        """Adopt what h2 wants to send."""
        data = self.h2.data_to_send()
        if data:
            self.output.append(data)

    def pump(self, stream: Stream) -> None:
        """Send what waits of one call, or put it in the queue."""
        if not self.blocked:
            stream.pump(FILL)
        if stream.pending:
            self._waiting[stream] = None
        else:
            self._waiting.pop(stream, None)

    def pump_all(self) -> None:
        """Send what waits, call by call, as far as windows and socket allow."""
        if self.blocked or self.closing:
            return
        left = FILL
        for stream in list(self._waiting):
            written = stream.pump(left)
            left -= written
            if not stream.pending:
                self._waiting.pop(stream, None)
                self._credit(stream)
                self.events.append(Event(Kind.DRAINED, stream))
            elif written:
                self._waiting[stream] = self._waiting.pop(stream)
            if left <= 0:
                break

    def resume(self) -> None:
        """Continue after the socket has taken everything."""
        self.blocked = False
        self.pump_all()
        if not self.output:
            for stream in self.streams.values():
                if not stream.pending:
                    self.events.append(Event(Kind.DRAINED, stream))

    def send_opening(self, stream: Stream) -> None:
        """Send the header block that comes before the first message."""
        stream.headers_sent = True
        self.send_headers(stream.stream_id, RESPONSE)

    def send_headers(
        self, stream_id: int, fields: Sequence[tuple[str, str]], *, last: bool = False
    ) -> None:
        """Send a header block through h2."""
        self.h2.send_headers(stream_id, fields, end_stream=last)
        self.collect()

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """Send RST_STREAM."""
        if not self.closing:
            self.h2.reset_stream(stream_id, code)
            self.collect()

    # -- ends -------------------------------------------------------------------------------

    def forget(self, stream: Stream, status: CallError) -> None:
        """Remove a call, and keep how it ended."""
        if self.streams.pop(stream.stream_id, None) is None:
            return
        stream.is_over, stream.cut = True, self.cut
        stream.status = stream.status or status
        stream.discard()
        self._waiting.pop(stream, None)
        owed, stream.owed = stream.owed, 0
        self._acknowledge(owed, stream.stream_id)
        self.events.append(Event(Kind.CLOSED, stream))
        if self.draining and not self.streams:
            self._idle()

    def dropped(self, stream: Stream, code: int) -> None:
        """Record that a call ended by RST_STREAM, of either side."""
        text = f"stream reset ({code_name(code)})"
        self.forget(stream, CallError(status_of_reset(code), text))

    def lost(self, reason: str) -> None:
        """Record that the socket is gone; every call is over."""
        self.reason = self.reason or reason
        self.closing = self.draining = True
        for stream in list(self.streams.values()):
            self.forget(stream, CallError(StatusCode.UNAVAILABLE, self.reason))
        self._pool.held -= self.held
        self.held = 0
        # Nothing may wait for the garbage collector: who reconnects fast would leave much of it.
        self._buffer, self._at, self.wake = b"", 0, _nothing
        self.output.clear()
        self.h2._frame_dispatch_table.clear()  # noqa: SLF001 -- bound methods, a cycle of h2's

    def fail(self, code: ErrorCodes, reason: str) -> None:
        """End the connection for what the peer did."""
        if not self.closing:
            self._goaway(self.h2.highest_inbound_stream_id, code, reason)
            self.closing = True
            self.cut, self.reason = Cut.PROTOCOL, reason

    def _goaway(self, last: int, code: int = 0, reason: str = "") -> None:
        # Not through h2, for which GOAWAY ends every stream.
        payload = last.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()[:256]
        self.write(frame_header(len(payload), frames.GOAWAY, 0, 0) + payload)

    def check(self, *, now: float, delivered: int, waiting: bool) -> Cut | None:
        """Return why the peer should be cut, if so; ping one that has been silent.

        Args:
            now: the instant.
            delivered: bytes of ours that the peer's system has taken since the start.
            waiting: whether bytes of ours wait for it.
        """
        limits = self.limits
        if waiting or self._waiting:
            mark = delivered + self._granted
            if self._mark is None or mark - self._mark[1] >= limits.min_progress:
                self._mark = (now, mark)
            elif now - self._mark[0] > limits.send_timeout:
                return Cut.SLOW_READER
        else:
            self._mark = None
        if (
            self._partial * 4 < limits.window
            or self._received - self._sender_mark[1] >= limits.min_progress
        ):
            self._sender_mark = (now, self._received)
        elif now - self._sender_mark[0] > limits.send_timeout:
            return Cut.SLOW_SENDER
        if waiting:
            return None  # progress is life, and its answer to a ping may wait unread
        if self._pinged_at is not None:
            return Cut.SILENT if now - self._pinged_at > limits.keepalive_timeout else None
        if now - self.last_received > limits.keepalive_period and not self.closing:
            self._pinged_at = now
            self.h2.ping(b"\0" * 8)
            self.collect()
        return None

    # -- what differs between the sides -----------------------------------------------------

    @abstractmethod
    def _begin(self, data: bytes) -> bool:
        """Look at the peer's first bytes; return whether frames may follow."""

    @abstractmethod
    def _take_fields(
        self, stream_id: int, stream: Stream | None, fields: Fields, *, last: bool
    ) -> None:
        """Receive a header block; *last* if it ends the stream."""

    @abstractmethod
    def _end_received(self, stream: Stream) -> None:
        """Receive the end of the peer's messages."""

    @abstractmethod
    def _take_goaway(self, last: int, code: int, text: bytes) -> None:
        """Begin no more calls."""

    @abstractmethod
    def end(self, stream: Stream, code: StatusCode, text: str) -> None:
        """End this side of a call now."""

    def _take_pong(self, payload: bytes) -> None:  # noqa: B027 -- a client need not know
        """Receive the answer to a ping."""

    def _idle(self) -> None:
        """Close: the last call of a draining connection is over."""
        self.closing = True
        self.reason = self.reason or "no calls left"
