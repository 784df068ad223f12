"""Cycles without sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from controlplane.controller.control_plane import ControlPlane
from controlplane.runtime.log import get_logger
from testbed.fakes.fleets import make_config


async def test_streams_send_before_anybody_is_told() -> None:
    """Counting, logging and events come after the weights have left."""
    control = ControlPlane(make_config(), file=Path("fleet.yaml"))
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def wake() -> None:
        loop.call_soon(order.append, "sent")

    control.views.watch("north", wake)
    control.cycle.completed.subscribe(lambda _: order.append("reported"))
    await control.cycle.run_once()
    control.close()

    assert ["sent", "reported"] == order


async def test_a_cycle_that_outlasts_its_period_rests_and_is_reported() -> None:
    """Others get the processor for a while, the log says so once, and urgent events come first."""
    clock = 0.0
    config = make_config()
    with capture_logs() as logs:
        control = ControlPlane(
            config, file=Path("fleet.yaml"), clock=lambda: clock, settle=0.0, log=get_logger()
        )
        waits: list[float] = []

        async def slow() -> None:
            nonlocal clock
            clock += 4.0 * config.steering.period

        async def wait(*, started_at: float, period: float, now: float) -> None:
            waits.append(started_at + period - now)
            if len(waits) == 3:
                raise asyncio.CancelledError

        control.cycle.run_once = slow  # type: ignore[method-assign]
        control.cycle._scheduler = SimpleNamespace(wait=wait)  # type: ignore[assignment]
        with pytest.raises(asyncio.CancelledError):
            await control.cycle.run()
        control.close()

    assert [1.0 * config.steering.period] * 3 == pytest.approx(waits)
    reported = [line for line in logs if line["event"] == "cycle outlasted its period"]
    assert 1 == len(reported)
    assert reported[0]["remedy"]
