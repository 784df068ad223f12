"""Answers that are made once for all who ask for the same at a time.

A document of thousands of instances takes a tenth of a second of processor time and some megabytes,
and asking for it costs a client nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from controlplane.runtime.turns import Turns

Content = bytes | None
Make = Callable[[], Awaitable[Content]]


class SharedAnswers:
    """Makes one answer a time of each kind; who asks meanwhile shares the next one.

    So an answer never shows what was true before it was asked for.
    """

    def __init__(self) -> None:
        self._made: dict[str, asyncio.Task[Content]] = {}
        """Kind -> the answer that is being made."""
        self._next: dict[str, asyncio.Task[Content]] = {}
        """Kind -> the one that is made after it."""

    @property
    def kinds(self) -> int:
        """Return how many kinds are being made or waited for."""
        return len(self._made.keys() | self._next.keys())

    async def get(self, kind: str, make: Make) -> Content:
        """Return what *make* makes after this call; it is the same for all of a *kind*."""
        task = self._next.get(kind)
        if task is None:
            task = asyncio.create_task(self._make(kind, self._made.get(kind), make))
            self._next[kind] = task
            task.add_done_callback(_note_error)
        return await asyncio.shield(task)  # a client that leaves ends it for no other

    async def _make(self, kind: str, before: asyncio.Task[Content] | None, make: Make) -> Content:
        if before is not None:
            await asyncio.wait([before])
        task = self._made[kind] = self._next.pop(kind)
        try:
            return await make()
        finally:
            if self._made.get(kind) is task:
                del self._made[kind]


TURN = 2**20
"""Bytes of answers that are handed to the system in one turn of the event loop."""
WRITES: web.AppKey[Turns] = web.AppKey("writes")
ANSWERS: web.AppKey[SharedAnswers] = web.AppKey("answers")


def _note_error(task: asyncio.Task[Content]) -> None:
    """Count the error as seen where all who waited for it have left."""
    if not task.cancelled():
        task.exception()
