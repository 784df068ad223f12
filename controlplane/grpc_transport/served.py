"""The server's side of a connection: calls that a client opens, and how they end."""

from __future__ import annotations

from urllib.parse import quote

from h2.errors import ErrorCodes

from controlplane.grpc_transport.connection import (
    HIGHEST_STREAM,
    MAX_TEXT,
    PREFACE,
    RESPONSE,
    Connection,
    Event,
    Fields,
    Kind,
    is_grpc,
)
from controlplane.grpc_transport.status import CallError, StatusCode, parse_timeout
from controlplane.grpc_transport.stream import Stream

DRAINING = b"draining"
"""Payload of the ping whose answer shows that the client knows that it should leave."""


class ServerConnection(Connection):
    """The server's side."""

    _preface_seen = False
    _last_accepted = HIGHEST_STREAM
    """Highest stream that is served, once a GOAWAY has named it."""
    _asks_to_leave = False
    """Whether the client has been asked to leave, and may not have read that yet."""

    def _begin(self, data: bytes) -> bool:
        if self._preface_seen:
            return True
        if not data.startswith(PREFACE[: len(data)]):
            self.fail(ErrorCodes.PROTOCOL_ERROR, "no HTTP/2 preface")
        elif len(data) >= len(PREFACE):
            self._preface_seen = True
            self._at = len(PREFACE)
        return self._preface_seen

    def _take_fields(
        self, stream_id: int, stream: Stream | None, fields: Fields, *, last: bool
    ) -> None:
        if stream is not None:  # trailers; h2 lets them pass only at the end
            self._end_received(stream)
        elif stream_id > self._last_accepted or len(self.streams) >= self.limits.max_streams:
            self.reset(stream_id, ErrorCodes.REFUSED_STREAM)
        elif stream_id in self.h2.streams and not self.h2.streams[stream_id].closed:
            self._open(stream_id, fields, last=last)

    def _open(self, stream_id: int, fields: Fields, *, last: bool) -> None:
        metadata: dict[str, str] = {}
        for name, value in fields:
            metadata[name] = f"{metadata[name]},{value}" if name in metadata else value
        if metadata.get(":method") != "POST":
            self._respond(stream_id, [(":status", "405"), ("allow", "POST")])
            return
        if not is_grpc(metadata.get("content-type", "")):
            self._respond(stream_id, [(":status", "415")])
            return
        stream = Stream(self, self.h2.streams[stream_id], metadata.get(":path", ""), metadata)
        stream.remote_closed = last
        self.streams[stream_id] = stream
        if (timeout := metadata.get("grpc-timeout")) is not None:
            seconds = parse_timeout(timeout)
            if seconds is None:
                self.end(stream, StatusCode.INTERNAL, "malformed grpc-timeout")
                return
            stream.deadline = self.now + seconds
        self.events.append(Event(Kind.OPENED, stream))
        if last:
            self.events.append(Event(Kind.HALF_CLOSED, stream))

    def _respond(self, stream_id: int, fields: Fields) -> None:
        """Answer in full; the client need not send the rest (RFC 9113, section 8.1)."""
        if not self.closing and not self.h2.streams[stream_id].closed:
            self.send_headers(stream_id, fields, last=True)
            if not self.h2.streams[stream_id].closed:
                self.reset(stream_id, ErrorCodes.NO_ERROR)

    def _end_received(self, stream: Stream) -> None:
        stream.remote_closed = True
        if stream.is_unfinished and not stream.is_over:
            self.end(stream, StatusCode.INTERNAL, "stream ended within a message")
        elif not stream.is_over:
            self.events.append(Event(Kind.HALF_CLOSED, stream))

    def end(self, stream: Stream, code: StatusCode, text: str) -> None:
        """Send the status; without a message before it, in one block (Trailers-Only)."""
        fields = [] if stream.headers_sent else list(RESPONSE)
        fields.append(("grpc-status", str(int(code))))
        if text:
            # Percent-encoded as gRPC says, and bounded, since a header list is.
            fields.append(("grpc-message", quote(text[:MAX_TEXT], safe=" !#$&'()*+,/:;=?@[]")))
        if code is StatusCode.UNIMPLEMENTED:
            fields.append(("grpc-accept-encoding", "identity"))
        stream.is_over = True
        self._respond(stream.stream_id, fields)
        self.forget(stream, CallError(code, text))

    def _take_goaway(self, last: int, code: int, text: bytes) -> None:
        del last, code, text
        self.draining, self._asks_to_leave = True, False  # it begins no more calls
        if not self.streams:
            self._idle()

    def drain(self) -> None:
        """Ask the client to make its next calls elsewhere; running ones go on.

        In two steps (RFC 9113, section 6.8), so that calls under way to us are not lost: the last
        stream is named once the client has answered a ping that followed the first GOAWAY.
        """
        if not self.closing and not self.draining:
            self.draining = self._asks_to_leave = True
            self._goaway(HIGHEST_STREAM)
            self.h2.ping(DRAINING)
            self.collect()
            if not self.streams and not self.greeted:
                self._idle()

    def _take_pong(self, payload: bytes) -> None:
        if self._asks_to_leave and payload == DRAINING:
            self._asks_to_leave = False
            self._last_accepted = self.h2.highest_inbound_stream_id
            self._goaway(self._last_accepted)
            if not self.streams:
                self._idle()

    def _idle(self) -> None:
        if self._asks_to_leave and self.greeted:
            return  # a call may be under way that it made before it read of this
        if self._last_accepted == HIGHEST_STREAM and self.greeted and not self.closing:
            self._last_accepted = self.h2.highest_inbound_stream_id
            self._goaway(self._last_accepted)
        super()._idle()

    def finish_all(self, code: StatusCode, text: str) -> None:
        """End every call with a status; a draining connection waits for nothing more."""
        self._asks_to_leave = False
        for stream in list(self.streams.values()):
            stream.pending.clear()
            stream.finish(code, text)
        if self.draining and not self.streams and not self.closing:
            self._idle()
