"""One HTTP/2 connection: frames to streams, flow control, and the bounds on what a peer may do.

Not here: what differs between the sides (`served`, `client`), and clocks beyond the loop's.
The peer is not trusted: header lists, frames without messages, streams, resets and unread bytes
are bounded, as the reports on HTTP/2 floods teach (CVE-2019-9512 to 9518, CVE-2023-44487).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import hpack

from controlplane.http2 import frames
from controlplane.http2.frames import ConnectionFault, ErrorCode, Setting, StreamFault
from controlplane.http2.stream import Stream


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost."""

    max_message: int = 4 << 20
    """Bytes of one message from the peer; gRPC's own default."""
    max_streams: int = 100
    """Calls at once; RFC 9113 advises no fewer than 100."""
    max_header_list: int = 16 << 10
    """Bytes of a call's headers."""
    stream_window: int = 1 << 20
    """Bytes the peer may send on one call before they are taken."""
    connection_window: int = 4 << 20
    control_rate: float = 100.0
    """Frames without a message (pings, resets, settings, empty data) a second, on average."""
    control_burst: float = 1_000.0
    send_timeout: float = 20.0
    """Seconds without progress after which a peer that does not read is cut off."""
    max_unsent: int = 256 << 20
    """Bytes that may wait for the peer."""
    keepalive_period: float = 30.0
    keepalive_timeout: float = 10.0
    handshake_timeout: float = 10.0
    """Seconds until the first frame."""
    max_age: float = 1_800.0
    """Seconds after which a client is asked to connect anew, a tenth more or less."""
    max_age_grace: float = 10.0


class Cut(StrEnum):
    """Why this side ended a connection."""

    SLOW_READER = "it does not read"
    TOO_MUCH_UNSENT = "too much waits for it"
    SAYS_NOTHING = "it says nothing"
    SILENT = "it answers no ping"
    BROKE_PROTOCOL = "it broke HTTP/2"
    STOPPING = "the server is going away"


class Connection(asyncio.Protocol, ABC):
    """One side of one HTTP/2 connection."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.peer = ""
        self.peer_window = frames.DEFAULT_WINDOW
        self.peer_frame_size = frames.DEFAULT_FRAME_SIZE
        self.peer_max_streams = frames.MAX_WINDOW
        self.send_window = frames.DEFAULT_WINDOW
        self.last_received = 0.0
        self.opened_at = 0.0
        self.draining = False
        """Whether no more calls may begin."""
        self.greeted = False
        """Whether the peer has shown that it speaks HTTP/2."""
        self.ended_for: Cut | None = None
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._buffer = b""
        self._decoder: hpack.Decoder | None = None
        self._headers: tuple[int, int, bytes] | None = None
        """Stream, flags and fragments of a header block that is not whole yet."""
        self._unacknowledged = 0
        self._shrink_table = False
        self._paused_at: float | None = None
        self._unsent: deque[bytes] = deque()
        self._unsent_size = 0
        self._ping_sent_at: float | None = None
        self._control_budget = limits.control_burst
        self._control_at = 0.0

    # -- asyncio ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer."""
        self._transport = cast("asyncio.Transport", transport)
        self.opened_at = self.last_received = self._control_at = self.now()
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "unix")
        # With 0, asyncio's TLS transport would pause when nothing waits.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._greet()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every call."""
        self._transport = None
        self._unsent.clear()
        self._lost(exc)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.over()

    def pause_writing(self) -> None:
        """Keep what follows until the socket takes more."""
        self._paused_at = self.now()

    def resume_writing(self) -> None:
        """Write what was kept."""
        self._paused_at = None
        while self._unsent and self._paused_at is None and self._transport is not None:
            piece = self._unsent.popleft()
            self._unsent_size -= len(piece)
            self._transport.write(piece)
        if self.is_drained:
            for stream in list(self._streams.values()):
                if stream.is_drained and stream.receiver is not None:
                    stream.receiver.drained()

    def data_received(self, data: bytes) -> None:
        """Take bytes: every whole frame is acted on at once."""
        self.last_received = self.now()
        self._ping_sent_at = None
        if self._buffer:
            data = self._buffer + data
        try:
            consumed = self._take_frames(data)
        except ConnectionFault as fault:
            self._fail(fault)
            return
        self._buffer = data[consumed:] if consumed < len(data) else b""

    # -- what streams use -------------------------------------------------------------------

    @property
    def is_drained(self) -> bool:
        """Tell whether everything written is with the kernel."""
        return self._paused_at is None and not self._unsent

    @property
    def transport(self) -> asyncio.Transport | None:
        """Give the transport; none once the connection is lost."""
        return self._transport

    def write(self, data: bytes) -> None:
        """Write *data*, or keep it while the socket takes no more."""
        if not data or self._transport is None:
            return
        if self._paused_at is None:
            self._transport.write(data)
            return
        self._unsent.append(data)
        self._unsent_size += len(data)
        if self._unsent_size > self.limits.max_unsent:
            self.abort(Cut.TOO_MUCH_UNSENT)

    def table_update(self) -> bytes:
        """Give the notice that our headers use no table, where the peer made its own smaller.

        RFC 7541, section 4.2: the change must be signalled in the next header block.
        """
        if not self._shrink_table:
            return b""
        self._shrink_table = False
        return b"\x20"

    def forget(self, stream: Stream) -> None:
        """Take a finished call out of the books."""
        if self._streams.pop(stream.stream_id, None) is not None:
            stream.over()
        if self.draining and not self._streams:
            self.close()

    def abort(self, why: Cut) -> None:
        """Cut the connection."""
        self.ended_for = why
        self._cut(why)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close once everything written has left."""
        if self._transport is not None:
            self._transport.close()

    def sweep(self, *, now: float) -> None:
        """Look for a peer that is gone, does not read or never spoke."""
        limits = self.limits
        stalls = [s.stalled_at for s in self._streams.values() if s.stalled_at is not None]
        if self._paused_at is not None:
            stalls.append(self._paused_at)
        if stalls and now - min(stalls) > limits.send_timeout:
            self.abort(Cut.SLOW_READER)
        elif not self.greeted and now - self.opened_at > limits.handshake_timeout:
            self.abort(Cut.SAYS_NOTHING)
        elif self._ping_sent_at is not None:
            if now - self._ping_sent_at > limits.keepalive_timeout:
                self.abort(Cut.SILENT)
        elif now - self.last_received > limits.keepalive_period:
            self._ping_sent_at = now
            self.write(frames.frame(frames.PING, 0, 0, b"\0" * 8))

    # -- frames -----------------------------------------------------------------------------

    def _take_frames(self, data: bytes) -> int:
        """Act on each whole frame; give the number of bytes used."""
        offset = 0
        if not self.greeted:
            offset = self._take_preface(data)
            if not self.greeted:
                return 0
        available = len(data)
        while available - offset >= frames.HEADER_SIZE:
            length = int.from_bytes(data[offset : offset + 3], "big")
            if length > frames.DEFAULT_FRAME_SIZE:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = offset + frames.HEADER_SIZE + length
            if end > available:
                break
            kind = data[offset + 3]
            flags = data[offset + 4]
            stream_id = int.from_bytes(data[offset + 5 : offset + 9], "big") & frames.MAX_WINDOW
            payload = data[offset + frames.HEADER_SIZE : end]
            offset = end
            try:
                if self._headers is not None and kind != frames.CONTINUATION:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is cut off")
                if kind == frames.DATA:
                    self._take_data(stream_id, flags, payload)
                else:
                    self._take_other(kind, flags, stream_id, payload)
            except StreamFault as fault:
                self._reset(fault.stream_id, fault.code)
            if self._transport is None or self._transport.is_closing():
                return available
        return offset

    def _take_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        stream = self._streams.get(stream_id)
        if stream is None and self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on an idle stream")
        self._unacknowledged += size
        if self._unacknowledged > self.limits.connection_window:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more than the window")
        if flags & frames.PADDED:
            payload = _unpad(payload)
        if not payload and not flags & frames.END_STREAM:
            self._spend(1)
        if self._unacknowledged * 2 > self.limits.connection_window:
            self.write(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        if stream is None:
            # Sent before our reset or trailers arrived (RFC 9113, section 5.1, "closed").
            return
        if payload:
            stream.data_received(payload, size)
        if flags & frames.END_STREAM:
            stream.end_received()

    def _take_other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        take = _TAKERS.get(kind)
        if take is None:
            # PRIORITY and unknown kinds are ignored (RFC 9113, sections 5.3.2 and 5.5).
            self._spend(1)
        else:
            take(self, flags, stream_id, payload)

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 8 or stream_id:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PING of the wrong form")
        if not flags & frames.ACK:
            self._spend(1)
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _take_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a RST_STREAM of the wrong form")
        if self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of an idle stream")
        self._spend(1)
        self._drop(stream_id, int.from_bytes(payload, "big"))

    def _take_push(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        # A client never may, and ours tells servers that they may not.
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "nobody may push here")

    def _take_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE of the wrong form")
        increment = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if stream_id == 0:
            self._widen(increment)
            return
        if self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not increment:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        if stream.stalled_at is not None:
            stream.pump()
        else:
            self._spend(0.01)

    def _widen(self, increment: int) -> None:
        if not increment:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
        self.send_window += increment
        if self.send_window > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window over 2^31-1")
        self._pump_stalled()

    def _pump_stalled(self) -> None:
        for stream in list(self._streams.values()):
            if stream.stalled_at is not None:
                stream.pump()

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            return
        self._spend(1)
        for key, value in frames.parse_settings(payload):
            self._apply_setting(key, value)
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._settings_taken()

    def _apply_setting(self, key: int, value: int) -> None:
        if key == Setting.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window over 2^31-1")
            for stream in self._streams.values():
                stream.send_window += value - self.peer_window
            self.peer_window = value
            self._pump_stalled()
        elif key == Setting.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= frames.MAX_FRAME_SIZE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame size out of range")
            # Larger frames would save little and would hold up what else the peer is sent.
            self.peer_frame_size = min(value, 1 << 18)
        elif key == Setting.MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif key == Setting.HEADER_TABLE_SIZE and value < frames.DEFAULT_TABLE_SIZE:
            self._shrink_table = True

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = _unpad(payload)
        if flags & frames.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS of the wrong form")
            payload = payload[5:]
        self._check_number(stream_id)
        self._headers = (stream_id, flags, payload)
        if flags & frames.END_HEADERS:
            self._take_header_block(self._headers)

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._headers is None or self._headers[0] != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._spend(1)
        first_flags, block = self._headers[1], self._headers[2] + payload
        # Compressed bytes are never fewer than a sixty-fourth of what they stand for here.
        if len(block) > self.limits.max_header_list:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        self._headers = (stream_id, first_flags, block)
        if flags & frames.END_HEADERS:
            self._take_header_block(self._headers)

    def _take_header_block(self, headers: tuple[int, int, bytes]) -> None:
        stream_id, flags, block = headers
        self._headers = None
        if self._decoder is None:
            self._decoder = hpack.Decoder(max_header_list_size=self.limits.max_header_list)
        try:
            # Every block must be decoded, since the table is the connection's.
            fields = [(str(name), str(value)) for name, value in self._decoder.decode(block)]
        except hpack.OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many headers") from error
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "headers do not decode") from error
        self._take_fields(stream_id, flags, fields)

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        self._spend(1)
        self.write(frames.reset(stream_id, code))
        self._drop(stream_id, code)

    def _drop(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._dropped(stream, code)
            stream.local_closed = stream.remote_closed = True
            self.forget(stream)

    def _spend(self, cost: float) -> None:
        """Count frames that carry no message; a flood of them ends the connection."""
        now = self.last_received
        budget = self._control_budget + (now - self._control_at) * self.limits.control_rate
        self._control_at = now
        self._control_budget = min(budget, self.limits.control_burst) - cost
        if self._control_budget < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without messages")

    def _fail(self, fault: ConnectionFault) -> None:
        self.write(frames.goaway(self._last_taken, fault.code, fault.reason))
        self.ended_for = Cut.BROKE_PROTOCOL
        self._cut(fault.reason)
        self._buffer = b""
        self.close()

    # -- what differs between the sides -----------------------------------------------------

    _last_taken = 0
    """Number of the last stream that the peer opened."""

    @abstractmethod
    def _greet(self) -> None:
        """Send what comes first."""

    @abstractmethod
    def _lost(self, error: Exception | None) -> None:
        """Learn that the connection is gone; its calls are told afterwards."""

    @abstractmethod
    def _cut(self, reason: str) -> None:
        """Learn that this side ends the connection for cause."""

    @abstractmethod
    def _take_preface(self, data: bytes) -> int:
        """Look at the first bytes; set `greeted` and give those used when there are enough."""

    def _settings_taken(self) -> None:
        """Learn that the peer's settings hold from now on."""

    @abstractmethod
    def _is_idle(self, stream_id: int) -> bool:
        """Tell whether nobody has opened this stream yet."""

    @abstractmethod
    def _check_number(self, stream_id: int) -> None:
        """Refuse HEADERS on a stream that the peer cannot have opened."""

    @abstractmethod
    def _take_fields(self, stream_id: int, flags: int, fields: Iterable[tuple[str, str]]) -> None:
        """Take a decoded header block."""

    @abstractmethod
    def _dropped(self, stream: Stream, code: int) -> None:
        """Learn that a call ends by RST_STREAM, of either side."""

    @abstractmethod
    def _take_goaway(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        """Begin no more calls."""


def _unpad(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding as long as the frame")
    return payload[1 : len(payload) - payload[0]]


_TAKERS: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    frames.WINDOW_UPDATE: Connection._take_window_update,  # noqa: SLF001 -- its own table
    frames.HEADERS: Connection._take_headers,  # noqa: SLF001
    frames.CONTINUATION: Connection._take_continuation,  # noqa: SLF001
    frames.SETTINGS: Connection._take_settings,  # noqa: SLF001
    frames.PING: Connection._take_ping,  # noqa: SLF001
    frames.RST_STREAM: Connection._take_reset,  # noqa: SLF001
    frames.PUSH_PROMISE: Connection._take_push,  # noqa: SLF001
    frames.GOAWAY: lambda connection, *rest: connection._take_goaway(*rest),  # noqa: SLF001
}
"""What takes which kind of frame; DATA, which is hot, is taken before this is asked."""
