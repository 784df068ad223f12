"""Turns of the event loop, shared by tasks of which hundreds may have work at the same instant."""

from __future__ import annotations

import asyncio


class Turns:
    """Bounds the work that tasks do between two looks at what else there is to do.

    Args:
        limit: of the work of one turn, in a unit of the tasks' own: reports, bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting = asyncio.Lock()

    async def take(self, work: int) -> None:
        """Wait until there is room for *work* in a turn; who comes first goes first.

        What alone exceeds the limit has a turn for itself.
        """
        if self._is_full(work) or self._waiting.locked():
            async with self._waiting:
                if self._is_full(work):
                    await asyncio.sleep(0)  # `_end` comes first; no other task enters meanwhile
                self._use(work)
        else:
            self._use(work)

    def _is_full(self, work: int) -> bool:
        return self._used > 0 and self._used + work > self._limit

    def _use(self, work: int) -> None:
        if self._used == 0:
            asyncio.get_running_loop().call_soon(self._end)
        self._used += work

    def _end(self) -> None:
        self._used = 0
