"""Guarded tasks: each has a name, none ends silently.

A control plane is a handful of loops that run as long as it does.
One that raises is a bug, or a fault no one foresaw: it is logged with its traceback, counted, and
started again after a pause that doubles, so that one broken part does not stop the steering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from controlplane.runtime.log import Logger

FIRST_PAUSE = 0.1
"""Seconds before a loop that failed runs again; doubles up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 10.0


async def guard(
    name: str,
    loop: Callable[[], Awaitable[None]],
    *,
    log: Logger,
    on_failure: Callable[[str], None],
    first_pause: float = FIRST_PAUSE,
) -> None:
    """Run *loop* until cancelled, again and again where it ends or raises.

    Args:
        name: what the log calls it.
        loop: meant to run for ever.
        log: where an end is reported.
        on_failure: called with *name* at each end.
        first_pause: seconds before the second run; later ones wait longer.
    """
    pause = first_pause
    clock = asyncio.get_running_loop().time
    while True:
        started_at = clock()
        try:
            await loop()
            log.error("task ended unexpectedly", task=name, again_in=pause)
        except Exception:
            log.exception("task failed", task=name, again_in=pause)
        on_failure(name)
        if clock() - started_at > LONGEST_PAUSE:
            pause = first_pause
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
