"""One gRPC call, of either side: messages out of frames, messages into frames.

How a call begins and ends differs between the sides: see `served` and `client`.
The receiver of a call is called from the socket's callback: no task, no queue, no copy.
A message is sent as a head of its own and a body that many streams share: the body's frames are
made once for all streams of one number (an Envoy's ADS stream nearly always has the same), so
that a push to a thousand streams frames its bytes once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from controlplane.http2 import frames
from controlplane.http2.frames import ErrorCode, StreamFault
from controlplane.http2.status import StatusCode

if TYPE_CHECKING:
    from controlplane.http2.connection import Connection

PREFIX_SIZE = 5
"""Bytes before each gRPC message: a flag for compression and the length."""


class Receiver(Protocol):
    """What takes the messages of one call; nothing here may block or raise."""

    def message_received(self, message: bytes) -> None:
        """Take one message."""

    def half_closed(self) -> None:
        """Learn that the peer sends no more; a server should end the call."""

    def closed(self) -> None:
        """Learn that the call is over, whatever the reason; called once."""

    def drained(self) -> None:
        """Learn that everything sent so far has left for the socket."""


@lru_cache(maxsize=64)
def framed_rest(body: bytes, start: int, stream_id: int, frame_size: int) -> bytes:
    """Give *body* from *start* on as DATA frames of a stream.

    Streams that get the same body under the same number share one result; the cache compares by
    identity first, so a hit costs no comparison of bytes.
    """
    parts: list[bytes] = []
    for offset in range(start, len(body), frame_size):
        piece = body[offset : offset + frame_size]
        parts += (frames.frame_header(len(piece), frames.DATA, 0, stream_id), piece)
    return b"".join(parts)


class Stream(ABC):
    """One call on one connection."""

    __slots__ = (
        "_ending",
        "_headers_sent",
        "_inbox",
        "_needed",
        "_pending",
        "_unacknowledged",
        "auto_credit",
        "connection",
        "local_closed",
        "receiver",
        "remote_closed",
        "send_window",
        "stalled_at",
        "stream_id",
    )

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.receiver: Receiver | None = None
        self.auto_credit = True
        """Whether the peer may send on at once; a receiver that queues messages takes it back
        while it has enough of them."""
        self.send_window = connection.peer_window
        self.stalled_at: float | None = None
        """Since when the peer's window keeps messages back."""
        self.remote_closed = False
        self.local_closed = False
        """Whether the call is over for this side, which then hears no more of it."""
        self._headers_sent = False
        self._inbox = bytearray()
        """An unfinished message; appended to, so that its frames are not copied again and again."""
        self._needed = 0
        """Bytes of the inbox without which nothing new can be read from it."""
        self._pending: deque[memoryview] = deque()
        self._ending: tuple[StatusCode, str] | None = None
        """How the call is to end once everything is sent."""
        self._unacknowledged = 0

    # -- from the peer --------------------------------------------------------------------

    def data_received(self, payload: bytes, size: int) -> None:
        """Take a DATA frame's payload; *size* is what it counts for flow control.

        Raises:
            StreamFault: a message is larger than allowed, or the peer may not send.
        """
        if self.remote_closed:
            raise StreamFault(self.stream_id, ErrorCode.STREAM_CLOSED)
        self._unacknowledged += size
        if self._unacknowledged > self.connection.limits.stream_window:
            raise StreamFault(self.stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        if self._inbox:
            payload = self._join(payload)
        self._deliver(payload)
        if self.auto_credit:
            self.credit()

    def _deliver(self, payload: bytes) -> None:
        """Give the receiver every whole message, and keep the rest."""
        offset = 0
        needed = PREFIX_SIZE
        available = len(payload)
        while available - offset >= PREFIX_SIZE and not self.local_closed:
            length = int.from_bytes(payload[offset + 1 : offset + PREFIX_SIZE], "big")
            if self._refuses(compressed=bool(payload[offset]), length=length):
                break
            end = offset + PREFIX_SIZE + length
            if end > available:
                needed = end - offset
                break
            receiver = self.receiver
            if receiver is not None:
                receiver.message_received(payload[offset + PREFIX_SIZE : end])
            offset = end
        if self.local_closed:
            self._inbox.clear()
        elif offset < available:
            self._inbox += payload[offset:]
            self._needed = needed

    def _join(self, payload: bytes) -> bytes:
        """Give the unfinished message with *payload*, or nothing while it is unfinished still."""
        self._inbox += payload
        if len(self._inbox) < self._needed:
            return b""
        whole = bytes(self._inbox)
        self._inbox.clear()
        return whole

    def _refuses(self, *, compressed: bool, length: int) -> bool:
        """End the call if its next message cannot be taken, and tell so."""
        most = self.connection.limits.max_message
        if compressed:
            self.refuse(StatusCode.UNIMPLEMENTED, "compressed messages are not taken")
        elif length > most:
            self.refuse(
                StatusCode.RESOURCE_EXHAUSTED, f"a message of {length} bytes is over {most}"
            )
        return compressed or length > most

    def credit(self) -> None:
        """Let the peer send as much again as was taken; in halves of a window, not in drips."""
        window = self.connection.limits.stream_window
        if self._unacknowledged * 2 > window and not self.remote_closed:
            self.connection.write(frames.window_update(self.stream_id, self._unacknowledged))
            self._unacknowledged = 0

    # -- to the peer ----------------------------------------------------------------------

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Send one message, the concatenation of *head* and *body*; *body* may be shared."""
        if self.local_closed or self._ending is not None:
            return
        connection = self.connection
        size = len(head) + len(body)
        total = PREFIX_SIZE + size
        opening = b"" if self._headers_sent else self._opening()
        prefix = b"\0" + size.to_bytes(4, "big")
        if self._pending or total > self.send_window or total > connection.send_window:
            connection.write(opening)
            self._pending.append(memoryview(prefix + head))
            if body:
                self._pending.append(memoryview(body))
            self.pump()
            return
        self.send_window -= total
        connection.send_window -= total
        frame_size = connection.peer_frame_size
        if total <= frame_size:
            header = frames.frame_header(total, frames.DATA, 0, self.stream_id)
            connection.write(b"".join((opening, header, prefix, head, body)))
            return
        first = frame_size - PREFIX_SIZE - len(head)
        if first < 0:
            head, body = b"", head + body
            first = frame_size - PREFIX_SIZE
        header = frames.frame_header(frame_size, frames.DATA, 0, self.stream_id)
        connection.write(b"".join((opening, header, prefix, head, body[:first])))
        connection.write(framed_rest(body, first, self.stream_id, frame_size))

    def pump(self) -> None:
        """Send what the peer's windows allow of what waits."""
        connection = self.connection
        pending = self._pending
        while pending:
            room = min(self.send_window, connection.send_window, connection.peer_frame_size)
            if room <= 0:
                if self.stalled_at is None:
                    self.stalled_at = connection.now()
                return
            piece = pending[0]
            if len(piece) <= room:
                pending.popleft()
            else:
                pending[0] = piece[room:]
                piece = piece[:room]
            self.send_window -= len(piece)
            connection.send_window -= len(piece)
            self.stalled_at = None
            header = frames.frame_header(len(piece), frames.DATA, 0, self.stream_id)
            connection.write(header + piece)
        self.stalled_at = None
        if self._ending is not None:
            self._end(*self._ending)
        elif self.receiver is not None and connection.is_drained:
            self.receiver.drained()

    @property
    def is_drained(self) -> bool:
        """Tell whether everything sent has left for the socket."""
        return not self._pending and self.connection.is_drained

    def finish(self, code: StatusCode, message: str = "") -> None:
        """End this side of the call: after what was sent if it ends well, else at once."""
        if self.local_closed or self._ending is not None:
            return
        if code is StatusCode.OK and self._pending:
            self._ending = (code, message)
        else:
            self._end(code, message)

    def over(self) -> None:
        """Tell the receiver that the call is over."""
        self.local_closed = True
        self._pending.clear()
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.closed()

    # -- what differs between the sides -----------------------------------------------------

    @abstractmethod
    def end_received(self) -> None:
        """Take END_STREAM."""

    @abstractmethod
    def refuse(self, code: StatusCode, message: str) -> None:
        """End the call for what the peer sent."""

    @abstractmethod
    def _opening(self) -> bytes:
        """Give the HEADERS frame that goes before the first message."""

    @abstractmethod
    def _end(self, code: StatusCode, message: str) -> None:
        """End this side of the call now."""
