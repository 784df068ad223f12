"""Hundreds of tasks that have work at once leave turns to others."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from controlplane.runtime.turns import Turns

TURN = 200


@pytest.mark.parametrize("count", [1, 10, 60, TURN])
async def test_work_that_comes_at_once_is_spread_over_turns_in_order(count: int) -> None:
    """No turn has more than its limit; who comes first goes first."""
    turns, taken = Turns(TURN), list[int]()

    async def work(task: int) -> None:
        await turns.take(count)
        taken.append(task)

    tasks = [asyncio.create_task(work(task)) for task in range(300)]
    seen = [0]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        seen.append(len(taken))

    assert max(after - before for before, after in itertools.pairwise(seen)) <= TURN / count
    assert list(range(300)) == taken


async def test_no_work_is_too_large_for_a_turn() -> None:
    """What alone exceeds a turn has one for itself."""
    turns = Turns(TURN)
    async with asyncio.timeout(60):
        for _ in range(3):
            await turns.take(10 * TURN)
