"""Calls that may never return, such as those of a file system whose server is gone.

`asyncio.to_thread` would hang the end of the process with them: the loop's executor is joined.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class BlockingCalls:
    """Runs one blocking call at a time in a thread that nothing waits for at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way = False

    async def run(self, call: Callable[[], Result], *, within: float) -> Result:
        """Return the result of *call*.

        Args:
            call: what may block.
            within: seconds to wait for it.

        Raises:
            TimeoutError: it, or an earlier one, has not returned; it is left to itself.
        """
        if self._under_way:
            raise TimeoutError(f"{self._name} still hangs")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            if future.done():  # it came too late
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = call()
            except Exception as raised:  # noqa: BLE001 -- raised again where it is awaited
                error = raised
            # Here and not on the loop, which may not hear of it: memory may be short.
            self._under_way = False
            try:
                loop.call_soon_threadsafe(finish, result, error)
            except RuntimeError:  # the loop has ended meanwhile
                return

        self._under_way = True
        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except (RuntimeError, MemoryError):  # no room for a thread, now
            self._under_way = False
            raise
        async with asyncio.timeout(within):
            found: Result = await future
        return found
