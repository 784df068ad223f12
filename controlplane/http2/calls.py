"""Generic handlers written for ``grpc.aio`` on our own transport: the calls that are not hot.

`Call` is both the receiver of a call and the context that its handler sees.
It offers what handlers of this project use of ``grpc.aio.ServicerContext``, with its meanings.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import structlog

from controlplane.http2.served import GrpcStream, auth_context
from controlplane.http2.status import StatusCode

log = structlog.get_logger("grpc")

MAX_UNREAD = 16
"""Messages that wait for their handler before the client may send no more."""


@dataclass(frozen=True, slots=True)
class CallDetails:
    """What a generic handler chooses a method by (``grpc.HandlerCallDetails``)."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...]


class Aborted(Exception):  # noqa: N818 -- as grpc.aio.AbortError, which cannot be made
    """A handler ended its call with a status."""


class Call:
    """One call that a coroutine serves."""

    def __init__(self, stream: GrpcStream, method: grpc.RpcMethodHandler) -> None:
        self._stream = stream
        self._method = method
        self._inbox: deque[bytes] = deque()
        self._eof = False
        self._over = False
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    # -- receiver ---------------------------------------------------------------------------

    def message_received(self, message: bytes) -> None:
        """Keep a message for the handler."""
        self._inbox.append(message)
        self._stream.auto_credit = len(self._inbox) < MAX_UNREAD
        self._wake.set()

    def half_closed(self) -> None:
        """Let the handler read the end."""
        self._eof = True
        self._wake.set()

    def closed(self) -> None:
        """Cancel the handler: nobody waits for it."""
        self._over = True
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def drained(self) -> None:
        """Let the handler write on."""
        self._writable.set()

    # -- grpc.aio.ServicerContext -------------------------------------------------------------

    async def read(self) -> Any:
        """Give the next message, or ``grpc.aio.EOF``."""
        while not self._inbox:
            if self._eof:
                return grpc.aio.EOF
            self._wake.clear()
            await self._wake.wait()
        message = self._inbox.popleft()
        if not self._stream.auto_credit and len(self._inbox) < MAX_UNREAD // 2:
            self._stream.auto_credit = True
            self._stream.credit()
        deserialise = self._method.request_deserializer
        return message if deserialise is None else deserialise(message)

    async def write(self, message: Any) -> None:
        """Send a message and wait until it has left."""
        serialise = self._method.response_serializer
        self._writable.clear()
        self._stream.send(message if serialise is None else serialise(message))
        if not self._stream.is_drained and not self._over:
            await self._writable.wait()

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """End the call with a status."""
        self._stream.finish(StatusCode(code.value[0]), details)
        raise Aborted(details)

    def peer(self) -> str:
        """Give the client's address."""
        return f"ipv4:{self._stream.connection.peer}"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Give the request's headers."""
        return tuple(
            (name, value)
            for name, value in self._stream.metadata.items()
            if not name.startswith(":")
        )

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Give who the client's certificate says it is; empty without TLS."""
        return auth_context(self._stream)

    def cancelled(self) -> bool:
        """Tell whether the client is gone."""
        return self._over

    # -- the handler ------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the handler and end the call as it ends."""
        try:
            await self._run()
        except Aborted:
            pass
        except asyncio.CancelledError:
            self._stream.finish(StatusCode.CANCELLED, "cancelled")
            raise
        except Exception:  # the loop that serves everybody must go on
            log.exception("call failed", method=self._stream.path)
            self._stream.finish(StatusCode.INTERNAL, "internal error")
        else:
            self._stream.finish(StatusCode.OK)

    async def _run(self) -> None:
        method: Any = self._method
        requests: Any = self
        if not method.request_streaming:
            requests = await self.read()
            if requests is grpc.aio.EOF:
                await self.abort(grpc.StatusCode.INTERNAL, "the request is missing")
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        serve = getattr(method, kinds[2 * method.request_streaming + method.response_streaming])
        answer = serve(requests, self)
        if hasattr(answer, "__aiter__"):
            async for message in answer:
                await self.write(message)
        else:
            message = await answer
            if not method.response_streaming:
                await self.write(message)

    def __aiter__(self) -> AsyncIterator[Any]:
        """Give the messages of the client."""
        return self

    async def __anext__(self) -> Any:
        """Give the next message."""
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


def call_maker(
    handlers: Sequence[grpc.GenericRpcHandler],
) -> Callable[[GrpcStream], Call | None]:
    """Give what makes a call for whichever handler knows a stream's method; none if none does."""

    def make(stream: GrpcStream) -> Call | None:
        details = CallDetails(stream.path, tuple(stream.metadata.items()))
        for handler in handlers:
            method = handler.service(details)
            if method is not None:
                return Call(stream, method)
        return None

    return make
