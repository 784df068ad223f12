"""Calls that may never return hold nothing up, and a thread that cannot start holds up nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from controlplane.runtime.blocking import BlockingCalls


async def test_a_call_that_hangs_is_left_alone_until_it_returns() -> None:
    """The next one is not tried meanwhile, and is afterwards."""
    calls, end = BlockingCalls("disk"), threading.Event()
    with pytest.raises(TimeoutError):
        await calls.run(end.wait, within=0.01)
    with pytest.raises(TimeoutError, match="disk still hangs"):
        await calls.run(lambda: 1, within=60.0)
    end.set()
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(TimeoutError):
                found = await calls.run(lambda: 2, within=60.0)
                break
            await asyncio.sleep(0.01)

    assert found == 2


async def test_a_thread_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is short for a moment does not end the reading of files for ever."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = BlockingCalls("disk")
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            await calls.run(lambda: 1, within=60.0)

    assert 1 == await calls.run(lambda: 1, within=60.0)


async def test_what_a_call_raises_is_raised() -> None:
    """And the next one runs."""
    calls = BlockingCalls("disk")
    with pytest.raises(ZeroDivisionError):
        await calls.run(lambda: 1 / 0, within=60.0)

    assert 1 == await calls.run(lambda: 1, within=60.0)
