"""The garbage collector's pauses: each looks at what is new, and everything is looked at seldom.

A full collection stops every client for as long as it takes to look at all objects: 0.4 s beside
3,000 instances, nearly all of it at readings and views, which no cycle holds and which counting
references frees. So what has survived one is set aside, and the next comes after some hundred
thousand new objects at most. What became part of a cycle after it was set aside is found by looking
at everything, once memory has grown.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Any

import psutil

from controlplane.runtime.memory import collect_all

PERIOD = 5.0
"""Seconds between two looks at the process's memory."""
LEAST = 600.0
"""Seconds between two looks at everything, at least."""
GROWTH = 1.25
"""Resident memory, as a multiple of that after the last look at everything, at which one is due."""
THRESHOLDS = 700, 10, 10
"""New objects, and collections of the young and of the middle generation, until a generation is
collected: a full collection looks at 70,000 objects, for some 30 milliseconds. Python 3.13 takes
2,000 by itself, and three times as long."""


def is_due(*, resident: int, settled: int, since: float) -> bool:
    """Return whether a look at everything is due.

    Args:
        resident: bytes of the process in memory.
        settled: the same after the last look.
        since: seconds since then.
    """
    return since >= LEAST and resident > GROWTH * settled


async def collect_when_due() -> None:
    """Keep full collections short, and look at everything when that is due, until cancelled."""
    loop, process = asyncio.get_running_loop(), psutil.Process()
    thresholds = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(_set_survivors_aside)
    settled, at = process.memory_info().rss, loop.time()
    try:
        while True:
            await asyncio.sleep(PERIOD)
            resident = process.memory_info().rss
            if is_due(resident=resident, settled=settled, since=loop.time() - at):
                collect_all()
                settled, at = process.memory_info().rss, loop.time()
    finally:
        gc.callbacks.remove(_set_survivors_aside)
        gc.set_threshold(*thresholds)


def _set_survivors_aside(phase: str, about: Mapping[str, Any]) -> None:
    """Exempt what a full collection has left; called by the collector."""
    if phase == "stop" and about["generation"] == 2:
        gc.freeze()
