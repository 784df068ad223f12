"""One gRPC call on HTTP/2: messages out of DATA frames, and messages written as DATA frames.

This is the hot path beside h2: DATA frames are parsed and written here, and h2's windows are kept
true by hand, since they are all that a DATA frame without END_STREAM changes in an open stream.
What a push costs is then one header and a reference to bytes that many streams share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from h2.stream import H2Stream

from controlplane.grpc_transport.calls import Call
from controlplane.grpc_transport.limits import DATA
from controlplane.grpc_transport.status import CallError, StatusCode

if TYPE_CHECKING:
    from controlplane.grpc_transport.connection import Connection

PREFIX = 5
"""Bytes before each gRPC message: a flag for compression and the length."""
PIECE_COST = 50
"""Bytes that a piece counts for beside its own, when many small ones are written at once."""
JOINED = 4_096
"""Bytes up to which messages that wait are joined to one piece."""
MAX_FRAME = 1 << 18
"""Bytes of a frame that we send, even to a peer that takes larger ones: others wait behind it."""


def frame_header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Return the nine bytes before a frame's payload (RFC 9113, section 4.1)."""
    return (size << 48 | kind << 40 | flags << 32 | stream_id).to_bytes(9, "big")


@lru_cache(maxsize=64)
def framed(body: bytes, start: int, stream_id: int, frame_size: int) -> bytes:
    """Return *body* from *start* on as DATA frames of a stream.

    Streams that send the same body under the same number share one result: an Envoy's ADS stream
    nearly always has the same.
    """
    parts: list[bytes] = []
    for offset in range(start, len(body), frame_size):
        piece = body[offset : offset + frame_size]
        parts += (frame_header(len(piece), DATA, 0, stream_id), piece)
    return b"".join(parts)


class Stream(Call):
    """One call of one connection.

    Attributes:
        owed: bytes received for which the peer was granted no new credit.
        unread: bytes of whole messages that their reader has not taken.
        pending: pieces of messages that wait for a window or for the socket.
        ending: how the call is to end once all is sent.
        deadline: instant of ``grpc-timeout``; None without.
    """

    __slots__ = (
        "_inbox", "_needed", "answered", "connection", "deadline", "ending", "h2", "headers_sent",
        "owed", "pending", "remote_closed", "stream_id", "unread",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        state: H2Stream,
        path: str,
        metadata: Mapping[str, str],
    ) -> None:
        super().__init__(path, metadata, connection.peer)
        self.names = connection.names
        self.connection = connection
        self.h2 = state
        self.stream_id = state.stream_id
        self.headers_sent = self.remote_closed = self.answered = False
        self.owed = self.unread = 0
        self.pending: deque[memoryview] = deque()
        self.ending: CallError | None = None
        self.deadline: float | None = None
        self._inbox = bytearray()
        """An unfinished message; appended to, so that its frames are copied once."""
        self._needed = 0

    # -- receiving --------------------------------------------------------------------------

    @property
    def is_unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._inbox)

    def take(self, payload: bytes, size: int) -> None:
        """Receive a DATA frame's payload; *size* is what it counts for flow control."""
        connection, inbox = self.connection, self._inbox
        self.owed += size
        if inbox:
            before = len(inbox)
            inbox += payload
            if len(inbox) < self._needed:
                connection.hold(len(inbox) - before, partial=True)
                connection.credit(self)
                return
            payload = bytes(inbox)
            inbox.clear()
            connection.hold(-before, partial=True)
        self._split(payload)
        connection.credit(self)

    def _split(self, payload: bytes) -> None:
        offset, available, needed = 0, len(payload), PREFIX
        limit = self.connection.limits.max_message
        while available - offset >= PREFIX and not self.is_over:
            length = int.from_bytes(payload[offset + 1 : offset + PREFIX], "big")
            if payload[offset] or length > limit:
                self._refuse(length, limit, compressed=bool(payload[offset]))
                return
            end = offset + PREFIX + length
            if end > available:
                needed = end - offset
                break
            self.connection.received(self, payload[offset + PREFIX : end])
            offset = end
        if offset < available and not self.is_over:
            self._inbox += payload[offset:]
            self._needed = needed
            self.connection.hold(available - offset, partial=True)

    def _refuse(self, length: int, limit: int, *, compressed: bool) -> None:
        if compressed:
            code, text = StatusCode.UNIMPLEMENTED, "compressed messages are not supported"
        else:
            code = StatusCode.RESOURCE_EXHAUSTED
            text = f"message of {length} bytes exceeds the limit of {limit}"
        self.connection.end(self, code, text)

    def hold(self, size: int) -> None:
        """Count unread bytes; while there are any, the peer is granted no more."""
        self.unread += size
        self.connection.hold(size)
        if not self.unread:
            self.connection.credit(self)

    def discard(self) -> None:
        """Forget what is unfinished, unread or unsent."""
        self.connection.hold(-len(self._inbox), partial=True)
        self.connection.hold(-self.unread)
        self.unread = 0
        self._inbox.clear()
        self.pending.clear()

    # -- sending ----------------------------------------------------------------------------

    @property
    def is_drained(self) -> bool:
        """Whether everything sent has left for the socket."""
        return not self.pending and not self.connection.blocked

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Send one message."""
        if self.is_over or self.ending is not None:
            return
        connection = self.connection
        if not self.headers_sent:
            connection.send_opening(self)
        prefix = b"\0" + (len(head) + len(body)).to_bytes(4, "big")
        total = PREFIX + len(head) + len(body)
        state, owner = self.h2, connection.h2
        if (
            self.pending
            or connection.blocked
            or total > state.outbound_flow_control_window
            or total > owner.outbound_flow_control_window
        ):
            self._append(prefix + head)
            if body:
                self._append(body)
            connection.pump(self)
        else:
            state.outbound_flow_control_window -= total
            owner.outbound_flow_control_window -= total
            self._write(prefix + head, body, min(owner.max_outbound_frame_size, MAX_FRAME))
        connection.wake()

    def _append(self, piece: bytes) -> None:
        """Let *piece* wait; small ones are joined, or an empty message would hold 200 bytes."""
        pending = self.pending
        if pending and len(pending[-1]) + len(piece) <= JOINED:
            piece = b"".join((pending.pop(), piece))
        pending.append(memoryview(piece))

    def _write(self, head: bytes, body: bytes, frame_size: int) -> None:
        """Write a message that the windows allow: its first frame, then frames that are shared."""
        first = frame_size - len(head)
        if first < 0:
            head, body, first = b"", head + body, frame_size
        begin = body[:first] if len(body) > first else body
        header = frame_header(len(head) + len(begin), DATA, 0, self.stream_id)
        self.connection.write(b"".join((header, head, begin)))
        if len(body) > first:
            self.connection.write(framed(body, first, self.stream_id, frame_size))

    def pump(self, most: int) -> int:
        """Write what windows and *most* bytes allow of what waits; return the bytes written."""
        state, owner = self.h2, self.connection.h2
        written = 0
        while self.pending and written < most:
            room = min(
                state.outbound_flow_control_window,
                owner.outbound_flow_control_window,
                owner.max_outbound_frame_size,
                MAX_FRAME,
            )
            if room <= 0:
                break
            size, parts = self._gather(room)
            state.outbound_flow_control_window -= size
            owner.outbound_flow_control_window -= size
            header = frame_header(size, DATA, 0, self.stream_id)
            self.connection.write(b"".join((header, *parts)))
            written += size + PIECE_COST * len(parts)
        if not self.pending and self.ending is not None:
            self.connection.end(self, self.ending.code, self.ending.text)
        return written

    def _gather(self, room: int) -> tuple[int, list[memoryview]]:
        """Collect up to *room* bytes of what waits; return their number and the pieces."""
        size, parts = 0, list[memoryview]()
        while self.pending and size < room:
            piece = self.pending.popleft()
            if len(piece) > room - size:
                self.pending.appendleft(piece[room - size :])
                piece = piece[: room - size]
            parts.append(piece)
            size += len(piece)
        return size, parts

    def finish(self, code: StatusCode, text: str = "") -> None:
        """End this side of the call."""
        if self.is_over or self.ending is not None:
            return
        if code is StatusCode.OK and self.pending:
            self.ending = CallError(code, text)
        else:
            self.connection.end(self, code, text)
        self.connection.wake()
