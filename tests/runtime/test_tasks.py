"""A loop that fails is reported, counted and run again."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from controlplane.runtime.tasks import guard


async def test_a_loop_that_raises_is_logged_counted_and_run_again() -> None:
    """One broken turn does not end the steering."""
    runs: list[int] = []
    failed: list[str] = []
    done = asyncio.Event()

    async def loop() -> None:
        runs.append(1)
        if len(runs) == 3:
            done.set()
            await asyncio.Event().wait()
        if len(runs) == 2:
            raise ValueError("broken")

    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(
            guard(
                "cycle",
                loop,
                log=structlog.get_logger(),
                on_failure=failed.append,
                first_pause=0.001,
            )
        )
        await asyncio.wait_for(done.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert ["cycle", "cycle"] == failed
    assert ["task ended unexpectedly", "task failed"] == [line["event"] for line in logs]
