"""What the start has made is set aside; what comes later is collected as ever."""

from __future__ import annotations

import gc
import weakref

from controlplane.runtime.collector import set_start_aside


class Node:
    """Part of a cycle."""

    def __init__(self) -> None:
        self.me = self


def test_what_lives_is_set_aside_and_later_cycles_are_collected() -> None:
    """A full collection has less to look at, and still finds what is garbage."""
    before = len(gc.get_objects())
    try:
        set_start_aside()
        left = len(gc.get_objects())
        garbage = weakref.ref(Node())
        gc.collect()
    finally:
        gc.unfreeze()

    assert left < before / 10
    assert garbage() is None
