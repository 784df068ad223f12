"""The garbage collector's pauses: full collections are few, and do not look at the start again.

A full collection stops every client for as long as it takes to look at all objects: 0.4 s beside
3,000 instances, nearly all of it at readings and views, which no cycle holds and which counting
references frees.
"""

from __future__ import annotations

import asyncio
import gc

import psutil

PERIOD = 5.0
"""Seconds between two looks at the process's memory."""
LONGEST = 600.0
"""Seconds after which a full collection is due in any case."""
GROWTH = 1.25
"""Resident memory, as a multiple of that after the last full collection, at which one is due."""
_NEVER = 1 << 30
"""Collections of the middle generation before the collector itself begins a full one."""


def set_start_aside() -> None:
    """Exempt everything that lives now from garbage collection, for the life of the process.

    After the start some hundred thousand objects of modules, settings and schemas live as long.
    """
    gc.collect()
    gc.freeze()


def is_due(*, resident: int, settled: int, since: float) -> bool:
    """Return whether a full collection is due.

    Args:
        resident: bytes of the process in memory.
        settled: the same after the last full collection.
        since: seconds since then.
    """
    return since >= LONGEST or resident > GROWTH * settled


async def collect_when_due() -> None:
    """Run full collections when memory has grown or time has passed, until cancelled.

    Young garbage is collected as ever; what becomes part of a cycle later costs memory until then.
    """
    loop, process = asyncio.get_running_loop(), psutil.Process()
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], _NEVER)
    settled, at = process.memory_info().rss, loop.time()
    try:
        while True:
            await asyncio.sleep(PERIOD)
            resident = process.memory_info().rss
            if is_due(resident=resident, settled=settled, since=loop.time() - at):
                gc.collect()
                settled, at = process.memory_info().rss, loop.time()
    finally:
        gc.set_threshold(*thresholds)
