"""What the last day was like, restored from the state directory and saved there."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from controlplane.admin_api.moments import SAVE_PERIOD as MOMENTS_PERIOD
from controlplane.admin_api.moments import Moments, load_moments, save_moments
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.history import SAVE_PERIOD, load_history, save_history


async def restore_history(
    control: ControlPlane,
    moments: Moments,
    directory: Path | None,
    ends: contextlib.AsyncExitStack,
) -> None:
    """Restore what was kept of the last day, and have it saved at the end."""
    if directory is None:
        return
    for unread in (
        await asyncio.to_thread(load_history, control.history, directory),
        await asyncio.to_thread(load_moments, moments, directory),
    ):
        if unread:
            control.log.warning(
                "saved history partly unreadable; the rest restored",
                reason=unread,
                remedy="none needed; look at the file if this happens again",
            )

    async def save() -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(save_history, control.history.encode(), directory)
            await asyncio.to_thread(save_moments, moments.encode(), directory)

    ends.push_async_callback(save)


async def save_moments_on(moments: Moments, directory: Path | None) -> None:
    """Save the moments now and then, if there is a place for them."""
    while True:
        await asyncio.sleep(MOMENTS_PERIOD)
        if directory is not None:
            with contextlib.suppress(OSError):  # the plan's save reports a full disk
                await asyncio.to_thread(save_moments, moments.encode(), directory)


async def save_history_on(control: ControlPlane, directory: Path | None) -> None:
    """Save the history now and then, if there is a place for it."""
    while True:
        await asyncio.sleep(SAVE_PERIOD)
        if directory is not None:
            with contextlib.suppress(OSError):  # the plan's save reports a full disk
                await asyncio.to_thread(save_history, control.history.encode(), directory)
