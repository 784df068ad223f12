"""A cycle runs every period, earlier when something is urgent, never too often."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.controller.scheduler import HOLD_OFF, LEAST_GAP, Scheduler, next_start


@pytest.mark.parametrize(
    ("requested_at", "expected"),
    [
        pytest.param(None, 11.0, id="nothing urgent: a period later"),
        pytest.param(10.5, 10.5 + HOLD_OFF, id="urgent: after the hold-off"),
        pytest.param(10.001, 10.0 + LEAST_GAP, id="urgent at once: after the least gap"),
        pytest.param(10.999, 11.0, id="urgent just before: not later than the period"),
    ],
)
def test_the_next_cycle(requested_at: float | None, expected: float) -> None:
    """The rule is a function of three instants."""
    assert expected == next_start(started_at=10.0, period=1.0, requested_at=requested_at)


def test_a_period_shorter_than_the_gap_stands() -> None:
    """Who asks for ten cycles a second or more gets them."""
    assert 10.01 == next_start(started_at=10.0, period=0.01, requested_at=10.0)


async def test_a_request_ends_a_long_wait() -> None:
    """An hour's period does not delay a drain, and a burst is one cycle with its first reason."""
    scheduler = Scheduler()
    clock = asyncio.get_running_loop().time
    waiting = asyncio.create_task(scheduler.wait(started_at=clock(), period=3600.0, now=clock()))
    await asyncio.sleep(0)

    scheduler.request("a is not ready", now=clock())
    scheduler.request("b is not ready", now=clock())
    await asyncio.wait_for(waiting, 60)

    assert "a is not ready" == scheduler.begin()
    assert "" == scheduler.begin()
