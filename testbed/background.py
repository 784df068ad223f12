"""Work that runs beside a block, and waits for what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


@asynccontextmanager
async def running_task(work: Coroutine[Any, Any, Result]) -> AsyncIterator[asyncio.Task[Result]]:
    """Run *work* within the block; it is cancelled and awaited at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], *, within: float = 120.0) -> None:
    """Wait until *condition* holds, at most *within* seconds.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 -- other tasks and processes raise no event
            await asyncio.sleep(0.01)
