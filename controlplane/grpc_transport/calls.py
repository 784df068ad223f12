"""One call, as every service and every user of a client sees it, whatever transport carries it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from controlplane.grpc_transport.limits import Cut
from controlplane.grpc_transport.status import CallError, StatusCode

log = structlog.get_logger("grpc")

OVERHEAD = 100
"""Bytes that an unread message takes beside its content: empty ones are not free."""


class Receiver(Protocol):
    """What takes the messages of one call; nothing here may block or raise."""

    def message_received(self, message: bytes) -> None:
        """Receive one message."""

    def half_closed(self) -> None:
        """Receive the end of the peer's messages; a server should end the call."""

    def closed(self) -> None:
        """Receive the end of the call, whatever the reason; called once."""

    def drained(self) -> None:
        """Record that everything sent so far has left for the socket."""


class Call(ABC):
    """One call.

    Attributes:
        path: ``/package.Service/Method``.
        metadata: request headers; of a name that comes twice, the values joined by a comma.
        peer: ``ipv4:HOST:PORT``, ``ipv6:[HOST]:PORT`` or ``unix:``, as gRPC names them.
        names: subject alternative names of the peer's certificate; empty without TLS.
        receiver: what takes the call's messages.
        is_over: whether this side has ended the call or lost it.
        cut: why this side ended the connection; None if it did not.
        status: how the call ended; None while it runs.
    """

    __slots__ = ("cut", "is_over", "metadata", "names", "path", "peer", "receiver", "status")

    def __init__(self, path: str, metadata: Mapping[str, str], peer: str) -> None:
        self.path, self.metadata, self.peer = path, metadata, peer
        self.names: tuple[str, ...] = ()
        self.receiver: Receiver | None = None
        self.is_over = False
        self.cut: Cut | None = None
        self.status: CallError | None = None

    @property
    def host(self) -> str:
        """The peer's address without its port."""
        return self.peer.partition(":")[2].rpartition(":")[0].strip("[]")

    @property
    @abstractmethod
    def is_drained(self) -> bool:
        """Whether everything sent has left for the socket."""

    @abstractmethod
    def send(self, head: bytes, body: bytes = b"") -> None:
        """Send one message, *head* and *body* joined; *body* may be shared by many calls."""

    @abstractmethod
    def finish(self, code: StatusCode, text: str = "") -> None:
        """End this side: after what was sent if *code* is OK, else at once."""

    def hold(self, size: int) -> None:  # noqa: B027 -- a transport may do so by itself
        """Count *size* bytes as received and not read, negative once they are read."""


class Conversation:
    """A call that a coroutine reads and writes; its own receiver, on either side."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._unread: deque[bytes] = deque()
        self._half_closed = False
        self._changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        call.receiver = self

    async def read(self) -> bytes | None:
        """Return the next message; None when the peer has ended well.

        Raises:
            CallError: the call ended otherwise.
        """
        while not self._unread:
            status = self.call.status
            if self._half_closed or (status is not None and status.code is StatusCode.OK):
                return None
            await self._wait()
        message = self._unread.popleft()
        self.call.hold(-len(message) - OVERHEAD)
        return message

    async def write(self, message: bytes) -> None:
        """Send a message and wait until it has left.

        Raises:
            CallError: the call is over.
        """
        self._raise_if_over()
        self.call.send(message)
        while not self.call.is_drained:
            await self._wait()

    async def until_over(self) -> None:
        """Wait for the end, whatever it is."""
        while not self.call.is_over:
            self._changed.clear()
            await self._changed.wait()

    async def _wait(self) -> None:
        self._raise_if_over()
        self._changed.clear()
        await self._changed.wait()

    def _raise_if_over(self) -> None:
        if self.call.is_over:
            status = self.call.status
            # A copy, since the trace of what is raised refers to what holds the status.
            raise (
                CallError(StatusCode.CANCELLED, "the call is over")
                if status is None
                else CallError(status.code, status.text)
            )

    @property
    def is_over(self) -> bool:
        """Whether the call has ended; messages may still wait to be read."""
        return self.call.is_over

    def finish_writing(self) -> None:
        """Announce that no more messages come."""
        self.call.finish(StatusCode.OK)

    def cancel(self) -> None:
        """End the call from this side; a call that is over stays as it ended."""
        self.call.finish(StatusCode.CANCELLED, "cancelled here")

    def message_received(self, message: bytes) -> None:
        """Keep a message for the reader."""
        self._unread.append(message)
        self.call.hold(len(message) + OVERHEAD)
        self._changed.set()

    def half_closed(self) -> None:
        """Let the reader see the end."""
        self._half_closed = True
        self._changed.set()

    def closed(self) -> None:
        """Let everyone who waits see that the call is over; stop a handler."""
        self._changed.set()
        task, self.task = self.task, None  # no cycle is left behind
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def drained(self) -> None:
        """Let the writer go on."""
        self._changed.set()


class Serves(Protocol):
    """A server of either transport, as a service sees it."""

    def add_method(self, path: str, open_call: OpenCall) -> None:
        """Serve ``/package.Service/Method``."""


OpenCall = Callable[[Call], "Receiver | None"]
"""Takes a new call; returns what serves it, or None after it has finished the call itself."""

Handler = Callable[[Conversation], Awaitable[None]]
"""Serves one call as a coroutine; returns to end it with OK, raises `CallError` otherwise."""


def conversing(handler: Handler) -> OpenCall:
    """Return what serves each call with a task of *handler*; the task ends with its call."""

    def open_call(call: Call) -> Receiver:
        conversation = Conversation(call)
        conversation.task = asyncio.create_task(
            _converse(handler, conversation), name=f"call {call.path}"
        )
        return conversation

    return open_call


async def _converse(handler: Handler, conversation: Conversation) -> None:
    call = conversation.call
    try:
        await handler(conversation)
    except CallError as error:
        call.finish(error.code, error.text)
    except asyncio.CancelledError:
        call.finish(StatusCode.CANCELLED, "cancelled")
        raise
    except Exception:  # the loop that serves everyone must go on
        log.exception("call failed", method=call.path)
        call.finish(StatusCode.INTERNAL, "internal error")
    else:
        call.finish(StatusCode.OK)
