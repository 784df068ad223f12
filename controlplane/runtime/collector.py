"""The garbage collector's pauses: what the start has made is not looked at again.

A full collection stops every client. After the start some hundred thousand objects of modules,
settings and schemas live as long as the process; they are set aside, so that a pause lasts as long
as what came since needs.
"""

from __future__ import annotations

import gc


def set_start_aside() -> None:
    """Exempt everything that lives now from garbage collection, for the life of the process."""
    gc.collect()
    gc.freeze()
