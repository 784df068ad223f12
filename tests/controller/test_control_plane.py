"""Cycles without sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from controlplane.controller.control_plane import ControlPlane
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
