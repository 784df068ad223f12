"""The server's side of a connection and of its calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from controlplane.http2 import frames
from controlplane.http2.connection import Connection, Limits
from controlplane.http2.frames import ConnectionFault, ErrorCode, Setting, StreamFault
from controlplane.http2.status import StatusCode
from controlplane.http2.stream import Stream

if TYPE_CHECKING:
    from controlplane.http2.server import GrpcServer


class GrpcStream(Stream):
    """One call that a client made."""

    __slots__ = ("metadata", "path")

    def __init__(
        self, connection: Connection, stream_id: int, path: str, metadata: Mapping[str, str]
    ) -> None:
        super().__init__(connection, stream_id)
        self.path = path
        self.metadata = metadata
        """Request headers; of a name that comes twice, the values joined by a comma."""

    def end_received(self) -> None:
        """Take END_STREAM."""
        self.remote_closed = True
        if self._inbox and not self.local_closed:
            self.finish(StatusCode.INTERNAL, "the stream ended within a message")
        if self.receiver is not None and not self.local_closed:
            self.receiver.half_closed()

    def refuse(self, code: StatusCode, message: str) -> None:
        """End the call with a status."""
        self.finish(code, message)

    def _end(self, code: StatusCode, message: str) -> None:
        self.local_closed = True
        # Without a message before it, one block holds the headers and the status (Trailers-Only).
        opening = b"" if self._headers_sent else frames.RESPONSE_HEADERS
        self._headers_sent = True
        block = self.connection.table_update() + opening + frames.trailers(code, message)
        flags = frames.END_HEADERS | frames.END_STREAM
        self.connection.write(frames.frame(frames.HEADERS, flags, self.stream_id, block))
        if not self.remote_closed:
            # The client need not send the rest (RFC 9113, section 8.1).
            self.connection.write(frames.reset(self.stream_id, ErrorCode.NO_ERROR))
        self.connection.forget(self)

    def _opening(self) -> bytes:
        self._headers_sent = True
        block = self.connection.table_update() + frames.RESPONSE_HEADERS
        return frames.frame(frames.HEADERS, frames.END_HEADERS, self.stream_id, block)


class ServedConnection(Connection):
    """The server's side of one HTTP/2 connection."""

    def __init__(self, server: GrpcServer, limits: Limits) -> None:
        super().__init__(limits)
        self._server = server

    def _greet(self) -> None:
        if not self._server.admit(self):
            if self.transport is not None:
                # Settings come first in any case (RFC 9113, section 3.4).
                reason = frames.goaway(0, ErrorCode.ENHANCE_YOUR_CALM, "too many connections")
                self.transport.write(frames.settings({}) + reason)
                self.transport.close()
            return
        self.write(
            frames.settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: self.limits.max_streams,
                    Setting.INITIAL_WINDOW_SIZE: self.limits.stream_window,
                    Setting.MAX_HEADER_LIST_SIZE: self.limits.max_header_list,
                }
            )
            + frames.window_update(0, self.limits.connection_window - frames.DEFAULT_WINDOW)
        )

    def _lost(self, error: Exception | None) -> None:
        del error
        self._server.forget(self)

    def _cut(self, reason: str) -> None:
        self._server.cut(self, reason)

    def drain(self) -> None:
        """Ask the client to make its next calls elsewhere; running ones go on."""
        if not self.draining:
            self.draining = True
            self.write(frames.goaway(self._last_taken, ErrorCode.NO_ERROR))
            if not self._streams:
                self.close()

    def finish_streams(self, code: StatusCode, message: str) -> None:
        """End every call with a status."""
        for stream in list(self._streams.values()):
            stream.finish(code, message)

    def _take_preface(self, data: bytes) -> int:
        preface = frames.PREFACE
        if not data.startswith(preface[: len(data)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        if len(data) < len(preface):
            return 0
        self.greeted = True
        return len(preface)

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id == 0 or stream_id > self._last_taken

    def _check_number(self, stream_id: int) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's stream has an even number")

    def _take_fields(self, stream_id: int, flags: int, fields: Iterable[tuple[str, str]]) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            if not flags & frames.END_STREAM or stream.remote_closed:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)
            stream.end_received()
            return
        if stream_id <= self._last_taken:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        self._last_taken = stream_id
        if self.draining:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM)
        if len(self._streams) >= self.limits.max_streams:
            self._spend(1)
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM)
        self._open(stream_id, flags, fields)

    def _open(self, stream_id: int, flags: int, fields: Iterable[tuple[str, str]]) -> None:
        metadata: dict[str, str] = {}
        for name, value in fields:
            metadata[name] = f"{metadata[name]},{value}" if name in metadata else value
        if metadata.get(":method") != "POST" or not metadata.get("content-type", "").startswith(
            "application/grpc"
        ):
            self._spend(1)
            status = 415 if metadata.get(":method") == "POST" else 405
            self.write(
                frames.frame(
                    frames.HEADERS,
                    frames.END_HEADERS | frames.END_STREAM,
                    stream_id,
                    self.table_update() + frames.plain_status(status),
                )
            )
            return
        stream = GrpcStream(self, stream_id, metadata.get(":path", ""), metadata)
        self._streams[stream_id] = stream
        self._server.open(stream)
        if flags & frames.END_STREAM and stream_id in self._streams:
            stream.end_received()

    def _dropped(self, stream: Stream, code: int) -> None:
        """Need no status: the client took the call back, or broke it."""

    def _take_goaway(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        self.draining = True


def auth_context(stream: GrpcStream) -> Mapping[str, Iterable[bytes]]:
    """Give what ``grpc.ServicerContext.auth_context`` gives; empty without TLS."""
    transport = stream.connection.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if transport is None or transport.get_extra_info("ssl_object") is None:
        return {}
    context: dict[str, list[bytes]] = {"transport_security_type": [b"ssl"]}
    for field in (certificate or {}).get("subject", ()):
        for key, value in field:
            if key == "commonName":
                context.setdefault("x509_common_name", []).append(value.encode())
    for kind, value in (certificate or {}).get("subjectAltName", ()):
        context.setdefault("x509_subject_alternative_name", []).append(value.encode())
        if kind == "URI" and value.startswith("spiffe://"):
            context.setdefault("peer_spiffe_id", []).append(value.encode())
    return context
