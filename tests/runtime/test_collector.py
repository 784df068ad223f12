"""What the start has made is set aside; what comes later is collected as ever."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from controlplane.runtime import collector
from controlplane.runtime.collector import LONGEST, collect_when_due, is_due, set_start_aside


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


@pytest.mark.parametrize(
    ("resident", "since", "due"),
    [
        pytest.param(120, 1.0, False, id="a little growth"),
        pytest.param(126, 1.0, True, id="much growth"),
        pytest.param(100, LONGEST - 1, False, id="no growth"),
        pytest.param(100, LONGEST, True, id="long ago"),
    ],
)
def test_a_full_collection_is_due_by_growth_or_time(resident: int, since: float, due: bool) -> None:
    """So that cycles of long-lived objects cost a quarter of the memory at most."""
    assert due == is_due(resident=resident, settled=100, since=since)


@pytest.fixture
def full_collections() -> Iterator[list[int]]:
    """Count full collections."""
    seen: list[int] = []

    def note(phase: str, about: dict[str, int]) -> None:
        if phase == "stop" and about["generation"] == 2:
            seen.append(1)

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


async def test_full_collections_come_when_they_are_due_only(
    full_collections: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is made and freed; afterwards the collector is as it was before."""
    monkeypatch.setattr(collector, "PERIOD", 0.0)
    before, due = gc.get_threshold(), False
    monkeypatch.setattr(collector, "is_due", lambda **_: due)
    loop = asyncio.create_task(collect_when_due())
    await asyncio.sleep(0)
    kept = [[number] for number in range(300_000)]
    await asyncio.sleep(0)
    meanwhile = len(full_collections)
    due = True
    async with asyncio.timeout(60):
        while not full_collections:  # noqa: ASYNC110 -- it happens elsewhere
            await asyncio.sleep(0)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)

    assert len(kept) == 300_000
    assert 0 == meanwhile
    assert before == gc.get_threshold()
