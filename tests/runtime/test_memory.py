"""What was freed goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.runtime import memory
from controlplane.runtime.memory import bound_heap, return_free_memory


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
    monkeypatch.setattr(memory, "_libc", lambda _: None)

    assert not return_free_memory()
    assert not bound_heap()


HOLES = """
import sys
from pathlib import Path
from controlplane.runtime.memory import bound_heap

assert sys.argv[1] == "as it is" or bound_heap()
bytearray(20_000_000)  # freed at once, from when on glibc takes such blocks from its heap
pieces, kept = [], []
for _ in range(40):
    pieces.append(bytearray(1_000_000))
    kept.append(bytearray(1_000))  # so that the heap cannot shrink from its end
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
before = pages()
del pieces
print((before - pages()) * 4096)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_large_blocks_leave_no_holes_in_a_bounded_heap() -> None:
    """They go back when they are freed, without anyone asking."""
    returned = {
        how: int(subprocess.check_output([sys.executable, "-c", HOLES, how]))
        for how in ("as it is", "bounded")
    }

    assert returned["as it is"] < 20_000_000 < returned["bounded"]
