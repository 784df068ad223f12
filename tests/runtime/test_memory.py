"""What was freed goes back to the system."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from controlplane.runtime import memory
from controlplane.runtime.memory import return_free_memory


def resident() -> int:
    """Return the resident pages of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    """Of a heap with a hole of some megabytes, the hole is given back."""
    kept = []
    pieces = []
    for _ in range(1_000):
        pieces.append(bytearray(100_000))
        kept.append(bytearray(1_000))  # so that the heap cannot shrink from its end
    del pieces
    before = resident()

    assert return_free_memory()
    assert resident() < before
    assert 1_000 == len(kept)


def test_a_system_that_cannot_do_so_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one with musl."""
    monkeypatch.setattr(memory, "_trim", lambda: None)

    assert not return_free_memory()
