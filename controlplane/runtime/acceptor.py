"""Accepting connections as far as there is room for them.

asyncio's own servers accept whatever comes, and at the limit of open files they report each try.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from controlplane.runtime.client_log import ClientLog

ACCEPTED_AT_ONCE = 16
BACKLOG = 4_096
ROOM_PAUSE = 0.02
"""Seconds until accepting goes on where there was no room."""
FILES_PAUSE = 1.0
"""Seconds without accepting, when the system has no open files left."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Take = Callable[[socket.socket, str, "ssl.SSLContext | None"], None]


class Acceptor:
    """Listening sockets.

    Args:
        take: receives each connection, the host of its peer and the TLS of its port.
        has_room: asked before each is accepted.
        on_exhausted: called with the system's words when it has no open files left.
    """

    def __init__(
        self, take: Take, *, has_room: Callable[[], bool], on_exhausted: Callable[[str], None]
    ) -> None:
        self._take, self._has_room, self._on_exhausted = take, has_room, on_exhausted
        self._listeners: set[socket.socket] = set()

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Accept on every address of *host*; return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = 0
        for family, *_, address in dict.fromkeys(found):
            listener = socket.create_server(
                address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=False
            )
            listener.setblocking(False)
            self._listeners.add(listener)
            loop.add_reader(listener, self._accept, listener, tls)
            bound = bound or int(listener.getsockname()[1])
        return bound

    def close(self) -> None:
        """Accept no more."""
        while self._listeners:
            listener = self._listeners.pop()
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._has_room():
                self._pause(listener, tls, ROOM_PAUSE)
                return
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._on_exhausted(error.strerror or "")
                self._pause(listener, tls, FILES_PAUSE)
                return
            accepted.setblocking(False)
            self._take(accepted, str(address[0]) if isinstance(address, tuple) else "", tls)

    def _pause(self, listener: socket.socket, tls: ssl.SSLContext | None, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(seconds, self._go_on, listener, tls)

    def _go_on(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, tls)


def report_exhausted(client_log: ClientLog, reason: str) -> None:
    """Log that the system has no open files left, with its words."""
    client_log.warning(
        "accepting paused", "", reason=reason, remedy="raise the limit of"
        " open files (LimitNOFILE, ulimit -n), or lower --max-connections",
    )  # fmt: skip
