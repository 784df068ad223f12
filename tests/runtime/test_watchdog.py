"""What blocks the event loop is measured, shown and logged with its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from structlog.testing import capture_logs

from controlplane.runtime.watchdog import WINDOW, LoopWatchdog


async def test_a_stall_is_measured_and_logged_with_its_place() -> None:
    """A second of blocking is found, and who blocked."""
    lags: list[float] = []
    with capture_logs() as logs:
        watchdog = LoopWatchdog(log=structlog.get_logger(), on_lag=lags.append)
        running = asyncio.create_task(watchdog.run())
        while not lags:  # noqa: ASYNC110 -- the watchdog has no event
            await asyncio.sleep(0.01)
        block_the_loop(until=lambda: "block_the_loop" in watchdog._place)
        while max(lags) < 1.0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()

    stalls = [line for line in logs if line["event"] == "event loop stalled"]
    assert 1.0 <= watchdog.lag(now=asyncio.get_running_loop().time())
    assert any("block_the_loop" in str(line["place"]) for line in stalls)
    assert all(line["remedy"] for line in stalls)


def block_the_loop(*, until: Callable[[], bool]) -> None:
    """Do what no code of a loop may do, for as long as the watchdog's thread takes to see it."""
    time.sleep(1.5)
    while not until():
        time.sleep(0.05)


def test_the_longest_lag_is_forgotten_after_the_window() -> None:
    """A gauge that never falls would say nothing."""
    watchdog = LoopWatchdog(log=structlog.get_logger())
    for at, lag in ((0.0, 0.3), (1.0, 0.9), (2.0, 0.1)):
        watchdog._note(at, lag)

    assert 0.9 == watchdog.lag(now=10.0)
    assert 0.1 == watchdog.lag(now=1.0 + WINDOW + 0.5)
    assert 0.0 == watchdog.lag(now=10 * WINDOW)
