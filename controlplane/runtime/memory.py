"""Returns freed memory to the system: a heap keeps the room that a decision's arrays took."""

from __future__ import annotations

import ctypes
import gc
from functools import cache
from typing import Any


def return_free_memory() -> bool:
    """Return freed memory to the system, some 0.1 s; return whether it could be.

    Only for a process that rests: what comes next has to ask for its pages again.
    """
    gc.collect()
    trim = _trim()
    return trim is not None and trim(0) >= 0


@cache
def _trim() -> Any:
    """Return ``malloc_trim``, which glibc has and musl has not; None without it."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
