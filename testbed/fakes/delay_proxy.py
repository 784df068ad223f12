"""A TCP relay that delays what passes, each way by the same time: a network path of a test's own.

Works where loopback does; a connection itself is accepted at once, so round trips through it
show in answers, not in connecting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_CHUNK = 65_536
_TIMER = 0.0015
"""Seconds that an event loop's timer may be late."""


@dataclass(slots=True)
class Relay:
    """A running relay.

    Attributes:
        port: where it listens, on loopback.
        delay: seconds that each direction adds; may be changed at any time.
        rate: bytes a second that each direction lets through; 0 is no limit.
    """

    target: tuple[str, int]
    delay: float = 0.0
    rate: float = 0.0
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, far_writer))
                both.create_task(self._pass_on(far_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            far_writer.close()
            writer.close()
            self._tasks.discard(task) if task is not None else None

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, chunk = await line.get()
                await asyncio.sleep(max(0.0, due - _TIMER - clock()))
                while clock() < due:
                    pass  # the event loop's timers are late by up to a millisecond
                if not chunk:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(chunk)
                if self.rate:
                    await asyncio.sleep(len(chunk) / self.rate)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                chunk = await reader.read(_CHUNK)
                line.put_nowait((clock() + self.delay, chunk))
                if not chunk:
                    break

    def end(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def relaying(port: int, *, delay: float = 0.0, rate: float = 0.0) -> AsyncIterator[Relay]:
    """Relay to *port* for the duration of the block."""
    relay = Relay(("127.0.0.1", port), delay, rate)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.end()
        await asyncio.sleep(0)
