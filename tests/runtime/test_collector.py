"""What a full collection has left is set aside; later cycles of it are found when memory grows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from controlplane.runtime import collector
from controlplane.runtime.collector import LEAST, collect_when_due, is_due
from controlplane.runtime.memory import collect_all, collect_recent
from testbed.background import running_task


class Node:
    """Part of a cycle."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """Leave the collector as it was."""
    yield
    gc.unfreeze()


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[None]:
    """Collect as ``cats serve`` does."""
    async with running_task(collect_when_due()):
        await asyncio.sleep(0)
        yield


def test_what_lives_is_set_aside_and_later_cycles_are_collected() -> None:
    """A full collection has less to look at, and still finds what is garbage."""
    before = len(gc.get_objects())
    collect_recent()
    left = len(gc.get_objects())
    garbage = weakref.ref(Node())
    gc.collect()

    assert left < before / 10
    assert garbage() is None


def test_what_was_set_aside_is_collected_by_a_look_at_everything() -> None:
    """A part of a cycle that was set aside with its holder is garbage once that one lets go."""
    holder = [Node()]
    collect_recent()
    garbage = weakref.ref(holder.pop())
    collect_recent()
    kept = garbage() is not None
    collect_all()

    assert kept
    assert garbage() is None


@pytest.mark.parametrize(
    ("resident", "since", "due"),
    [
        pytest.param(120, LEAST, False, id="a little growth"),
        pytest.param(126, LEAST, True, id="much growth"),
        pytest.param(300, LEAST - 1, False, id="too soon"),
        pytest.param(100, 100 * LEAST, False, id="no growth"),
    ],
)
def test_everything_is_looked_at_by_growth_and_time(resident: int, since: float, due: bool) -> None:
    """So that cycles of long-lived objects cost a quarter of the memory at most."""
    assert due == is_due(resident=resident, settled=100, since=since)


async def test_no_full_collection_looks_at_more_than_what_is_new() -> None:
    """However much is kept, as by a fleet of thousands of instances that is read."""
    looked: list[int] = []

    def count(phase: str, about: dict[str, Any]) -> None:
        if phase == "start" and about["generation"] == 2:
            looked.append(len(gc.get_objects()))

    collect_recent()
    async with collecting():
        gc.callbacks.append(count)
        try:
            kept = [[[number]] for number in range(500_000)]
        finally:
            gc.callbacks.remove(count)

    assert len(kept) == 500_000
    assert len(looked) >= 4, "there were some"
    assert max(looked) < 250_000


async def test_everything_is_looked_at_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards the collector is as it was before."""
    monkeypatch.setattr(collector, "PERIOD", 0.0)
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    due = False
    monkeypatch.setattr(collector, "is_due", lambda **_: due)
    holder = [Node()]
    collect_recent()
    garbage = weakref.ref(holder.pop())
    async with collecting():
        for _ in range(10):
            await asyncio.sleep(0)
        kept = garbage() is not None
        due = True
        async with asyncio.timeout(60):
            while garbage() is not None:  # noqa: ASYNC110 -- it happens elsewhere
                await asyncio.sleep(0)

    assert kept
    assert (before, callbacks) == (gc.get_threshold(), gc.callbacks)
