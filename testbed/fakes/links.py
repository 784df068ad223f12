"""A network link that can be cut."""

from __future__ import annotations

import asyncio


class Link:
    """A relay on loopback that can be cut: refuse, or go silent with its connections open."""

    def __init__(self) -> None:
        self._target = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self, target: int) -> None:
        """Listen, and relay to port *target*."""
        self._target = target
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def silence(self) -> None:
        """Let nothing through, as a router that drops packets."""
        self._flows.clear()

    def heal(self) -> None:
        """Let everything through."""
        self._flows.set()

    async def close(self) -> None:
        """End."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a connection is served by a task")
        self._tasks.add(task)
        try:
            await self._flows.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                back.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while content := await source.read(65536):
            await self._flows.wait()
            sink.write(content)
            await sink.drain()
        sink.close()
