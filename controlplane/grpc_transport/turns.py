"""Time of the event loop, shared between the connections that want more than one turn of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from controlplane.grpc_transport.limits import ServerLimits


class Waiting(Protocol):
    """A connection with more to do."""

    def turn(self) -> None:
        """Do the next part of it."""


class Turns:
    """Shares time between the connections that want more than one turn of it.

    A connection whose bytes take long waits here, with every other such connection, and all of
    them together get `ServerLimits.round_time` before the event loop serves the others again.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Waiting] = deque()
        self._scheduled = False

    def add(self, connection: Waiting) -> None:
        """Let *connection* go on after those that wait already."""
        self._queue.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        end = time.perf_counter() + self.limits.round_time
        try:
            for _ in range(len(self._queue)):
                self._queue.popleft().turn()
                if time.perf_counter() > end:
                    break
        finally:
            self._scheduled = bool(self._queue)
            if self._scheduled:
                self._loop.call_soon(self._run)
