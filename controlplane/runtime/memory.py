"""Collects garbage and returns freed memory: a heap keeps the room of arrays that are gone."""

from __future__ import annotations

import ctypes
import gc
from functools import cache
from typing import Any

LARGE = 512 * 1024
"""Bytes from which an allocation has pages of its own: the arrays of a decision on thousands of
instances, and little else."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def bound_heap() -> bool:
    """Have large blocks returned to the system once they are freed; return whether it could be.

    By itself glibc raises its threshold to the largest block that was ever freed, up to 32 MB, and
    from then on arrays leave holes in a heap, or in one heap for each thread that decides.
    To be called before threads begin.
    """
    if (mallopt := _libc("mallopt")) is None:
        return False
    wanted = ((_MMAP_THRESHOLD, LARGE), (_TRIM_THRESHOLD, 2 * LARGE), (_ARENA_MAX, 1))
    return all(mallopt(parameter, value) for parameter, value in wanted)


def collect_recent() -> None:
    """Collect the garbage of what was made since the last time, and set the rest of it aside.

    After the start some hundred thousand objects of modules, settings and schemas live as long as
    the process, and with each further time what thousands of instances keep.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # of next to nothing; else the next waits for a quarter of what is set aside


def collect_all() -> None:
    """Collect all garbage, also of what was set aside; takes as long as there are objects."""
    gc.unfreeze()
    collect_recent()


def return_free_memory() -> bool:
    """Return freed memory to the system, some 0.1 s; return whether it could be.

    Only for a process that rests: what comes next has to ask for its pages again.
    """
    collect_recent()
    trim = _libc("malloc_trim")
    return trim is not None and trim(0) >= 0


@cache
def _libc(name: str) -> Any:
    """Return a function that glibc has and musl has not; None without it."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
