"""The same services through ``grpc.aio``, for operators who want gRPC's own C core.

What it cannot do: bound connections, addresses, half-open handshakes and bytes held, share time
between connections, and report a connection that it cut; its flow control and floods are its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc
import structlog

from controlplane.grpc_transport.calls import Call, OpenCall
from controlplane.grpc_transport.limits import Cut, Limits
from controlplane.grpc_transport.status import CallError, StatusCode

log = structlog.get_logger("grpc")

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class PemFiles(NamedTuple):
    """Paths of what a server shows, and of the authority of its clients' certificates."""

    cert: str
    key: str
    client_ca: str | None = None

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files.

        Raises:
            OSError: one cannot be read.
        """
        pair = Path(self.key).read_bytes(), Path(self.cert).read_bytes()
        ca = None if self.client_ca is None else Path(self.client_ca).read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=ca)

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that each handshake takes from the newest files that can be read."""
        seen = self._stamps()

        def newest() -> grpc.ServerCertificateConfiguration | None:
            nonlocal seen
            with contextlib.suppress(OSError):
                stamps = self._stamps()
                if stamps != seen:
                    configuration = self.read()
                    seen = stamps
                    return configuration
            return None

        return grpc.dynamic_ssl_server_credentials(
            self.read(), newest, require_client_authentication=self.client_ca is not None
        )

    def _stamps(self) -> tuple[int, ...]:
        return tuple(Path(file).stat().st_mtime_ns for file in self if file is not None)


class GrpcioCall(Call):
    """One call that ``grpc.aio`` carries."""

    __slots__ = ("_changed", "_context", "_ending", "_held", "_limits", "_room", "_unsent")

    def __init__(self, path: str, context: Any, limits: Limits) -> None:
        metadata: dict[str, str] = {}
        for name, value in context.invocation_metadata() or ():
            text = value if isinstance(value, str) else value.decode("latin-1")
            metadata[name] = f"{metadata[name]},{text}" if name in metadata else text
        super().__init__(path, metadata, unquote(context.peer()))
        names = context.auth_context().get("x509_subject_alternative_name", ())
        self.names = tuple(name.decode(errors="replace") for name in names)
        self._context, self._limits = context, limits
        self._unsent: deque[bytes] = deque()
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self._ending: CallError | None = None
        self._held = 0

    @property
    def is_drained(self) -> bool:
        """Whether everything sent has left."""
        return not self._unsent

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Send one message, joined: the C core takes nothing shared."""
        if not self.is_over and self._ending is None:
            self._unsent.append(head + body)
            self._changed.set()

    def finish(self, code: StatusCode, text: str = "") -> None:
        """End the call."""
        if self._ending is None and not self.is_over:
            if code is not StatusCode.OK:
                self._unsent.clear()
            self._ending = CallError(code, text)
            self._changed.set()

    def hold(self, size: int) -> None:
        """Read no further while messages are unread."""
        self._held += size
        if self._held <= 0:
            self._room.set()

    async def serve(self, open_call: OpenCall) -> None:
        """Carry the call to its end."""
        receiver = open_call(self)
        self.receiver = self.receiver or receiver
        reading = asyncio.create_task(self._read(), name=f"read {self.path}")
        try:
            await self._write()
        except TimeoutError:
            self.cut = Cut.SLOW_READER
            self._ending = CallError(StatusCode.UNAVAILABLE, "the client does not read")
        finally:
            reading.cancel()
            self.is_over = True
            self.status = self._ending or CallError(
                StatusCode.CANCELLED, "call ended by the client"
            )
            if self.receiver is not None:
                self.receiver.closed()
        ending = self._ending
        if ending is not None and ending.code is not StatusCode.OK:
            await self._context.abort(_CODES[int(ending.code)], ending.text)

    async def _write(self) -> None:
        while True:
            while self._unsent:
                async with asyncio.timeout(self._limits.send_timeout):
                    await self._context.write(self._unsent[0])
                if self._unsent:
                    self._unsent.popleft()
                if not self._unsent and self.receiver is not None:
                    self.receiver.drained()
            if self._ending is not None:
                return
            self._changed.clear()
            await self._changed.wait()

    async def _read(self) -> None:
        end: Any = vars(grpc.aio)["EOF"]
        while (message := await self._context.read()) is not end:
            if self.receiver is not None:
                self.receiver.message_received(message)
            while self._held > 0:
                self._room.clear()
                await self._room.wait()
        if self.receiver is not None:
            self.receiver.half_closed()


@dataclass(frozen=True, slots=True)
class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    methods: dict[str, OpenCall]
    calls: set[GrpcioCall]
    limits: Limits

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return what serves a method; None if nothing does."""
        open_call = self.methods.get(details.method)
        if open_call is None:
            return None

        async def serve(_requests: Any, context: Any) -> None:
            call = GrpcioCall(details.method, context, self.limits)
            self.calls.add(call)
            try:
                await call.serve(open_call)
            finally:
                self.calls.discard(call)

        return grpc.stream_stream_rpc_method_handler(serve)


class GrpcioServer:
    """Serves gRPC on one or more addresses."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self._calls: set[GrpcioCall] = set()
        self._methods: dict[str, OpenCall] = {}
        options = {
            "so_reuseport": 0,
            "max_receive_message_length": limits.max_message,
            "max_send_message_length": -1,
            "max_concurrent_streams": limits.max_streams,
            "max_connection_age_ms": round(limits.max_age * 1000),
            "max_connection_age_grace_ms": round(limits.max_age_grace * 1000),
            "keepalive_time_ms": round(limits.keepalive_period * 1000),
            "keepalive_timeout_ms": round(limits.keepalive_timeout * 1000),
            "keepalive_permit_without_calls": 1,
            # Envoys ping an idle control plane every ten seconds, which the core would punish.
            "http2.min_ping_interval_without_data_ms": 1_000,
            "http2.max_ping_strikes": 0,
        }
        self._server = grpc.aio.server(
            handlers=[_Methods(self._methods, self._calls, limits)],
            options=[(f"grpc.{name}", value) for name, value in options.items()],
        )
        self._started = False

    @property
    def connections(self) -> int:
        """How many clients have calls open; the C core does not report its connections."""
        return len({call.peer for call in self._calls})

    def add_method(self, path: str, open_call: OpenCall) -> None:
        """Serve ``/package.Service/Method``."""
        self._methods[path] = open_call

    async def listen(self, host: str, port: int, *, tls: PemFiles | None = None) -> int:
        """Accept connections; return the port.

        Raises:
            OSError: the address cannot be bound, or a file of *tls* cannot be read.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, tls.credentials())
        except RuntimeError as error:
            raise OSError(None, str(error)) from error
        if not self._started:
            self._started = True
            await self._server.start()
        return int(bound)

    async def stop(self, grace: float | None = None) -> None:
        """Accept no more, let running calls end within *grace* seconds, then end them."""
        # The C core would cancel their handlers, and log each of them as failed.
        stopping = asyncio.ensure_future(self._server.stop((grace or 0.0) + 1.0))
        if grace:
            await asyncio.wait([stopping], timeout=grace)
        for call in list(self._calls):
            call.finish(StatusCode.UNAVAILABLE, "the server is going away")
        await stopping
