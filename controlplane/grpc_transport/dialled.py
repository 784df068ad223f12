"""The client's side of a connection: calls that it opens, and what it learns of their end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from h2.errors import ErrorCodes
from hpack import NeverIndexedHeaderTuple

from controlplane.grpc_transport import limits as frames
from controlplane.grpc_transport.connection import (
    HIGHEST_STREAM,
    MAX_TEXT,
    Connection,
    Fields,
    code_name,
    is_grpc,
)
from controlplane.grpc_transport.status import CallError, StatusCode, parse_status, status_of_http
from controlplane.grpc_transport.stream import Stream


class ClientConnection(Connection):
    """The client's side."""

    _client = True

    def open(
        self, path: str, authority: str, metadata: Iterable[tuple[str, str]], *, secure: bool
    ) -> Stream:
        """Begin a call; names of *metadata* are in lower case, values in ASCII.

        Raises:
            CallError: the connection is lost, or the server wants no more calls on it.
        """
        most = self.h2.remote_settings.max_concurrent_streams
        if self.draining or self.closing or self.h2.highest_outbound_stream_id >= HIGHEST_STREAM:
            raise CallError(StatusCode.UNAVAILABLE, self.reason or "no connection")
        if len(self.streams) >= most:
            raise CallError(StatusCode.UNAVAILABLE, f"server takes {most} calls at once")
        fields: list[Any] = [
            (":method", "POST"),
            (":scheme", "https" if secure else "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "cats"),
            *(NeverIndexedHeaderTuple(*field) for field in metadata),
        ]
        if sum(len(name) + len(value) + 32 for name, value in fields) > self.limits.max_header_list:
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, "too much metadata")
        stream_id = self.h2.get_next_available_stream_id()
        self.send_headers(stream_id, fields)
        stream = Stream(self, self.h2.streams[stream_id], path, dict(metadata))
        stream.headers_sent = True
        self.streams[stream_id] = stream
        return stream

    def _begin(self, data: bytes) -> bool:
        if data[:5] == b"HTTP/":
            self.fail(ErrorCodes.PROTOCOL_ERROR, "it speaks HTTP/1, not gRPC")
        elif len(data) >= 9 and (data[3] != frames.SETTINGS or data[4] & 1):
            self.fail(ErrorCodes.PROTOCOL_ERROR, "it does not speak HTTP/2")
        return len(data) >= 9 and not self.closing

    def _take_fields(
        self, stream_id: int, stream: Stream | None, fields: Fields, *, last: bool
    ) -> None:
        del stream_id
        if stream is None:
            return
        named = dict(fields)
        if not stream.answered:
            stream.answered = True
            status = named.get(":status", "")
            grpc = is_grpc(named.get("content-type", "")) or "grpc-status" in named
            if status != "200" or not grpc:
                text = f"server answers HTTP {status[:3]}"
                self.end(stream, status_of_http(status), text)
                return
        if last:
            if "grpc-status" in named:
                text = unquote(named.get("grpc-message", "")[: 3 * MAX_TEXT], errors="replace")
                stream.status = CallError(parse_status(named["grpc-status"]), text[:MAX_TEXT])
            self._end_received(stream)

    def _end_received(self, stream: Stream) -> None:
        stream.remote_closed = True
        if stream.is_unfinished:
            stream.status = CallError(StatusCode.INTERNAL, "stream ended within a message")
        if not self.closing and not stream.h2.closed:
            self.reset(stream.stream_id, ErrorCodes.NO_ERROR)
        self.forget(stream, CallError(StatusCode.UNKNOWN, "the call ended without a status"))

    def end(self, stream: Stream, code: StatusCode, text: str) -> None:
        """Send no more if *code* is OK, else cancel the call."""
        if code is StatusCode.OK:
            stream.ending = CallError(code, text)
            if not self.closing:
                self.h2.end_stream(stream.stream_id)
                self.collect()
            return
        if not stream.h2.closed:
            self.reset(stream.stream_id, ErrorCodes.CANCEL)
        self.forget(stream, CallError(code, text))

    def _take_goaway(self, last: int, code: int, text: bytes) -> None:
        self.draining = True
        words = text[:MAX_TEXT].decode("utf-8", "replace")
        self.reason = "the server is going away"
        if code:
            self.reason += f" ({code_name(code)}: {words})" if words else f" ({code_name(code)})"
        # Calls that it will not serve can be made again elsewhere.
        for stream in list(self.streams.values()):
            if stream.stream_id > last:
                self.forget(stream, CallError(StatusCode.UNAVAILABLE, self.reason))
