"""What the last day was like, restored from the state directory and saved there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from controlplane.runtime.kept_files import Kept, restore_kept, save_kept
from controlplane.runtime.log import Logger


async def restore_history(
    kept: Sequence[Kept],
    directory: Path | None,
    ends: contextlib.AsyncExitStack,
    *,
    log: Logger,
) -> None:
    """Restore what was kept of the last day, and have it saved at the end."""
    if directory is None:
        return
    for each in kept:
        if unread := await asyncio.to_thread(restore_kept, each, directory):
            log.warning(
                "saved history partly unreadable; the rest restored",
                reason=unread,
                remedy="none needed; look at the file if this happens again",
            )
        ends.push_async_callback(_save, each, directory)


async def save_on(kept: Kept, directory: Path | None) -> None:
    """Save *kept* now and then, if there is a place for it."""
    while True:
        await asyncio.sleep(kept.file.save_period)
        if directory is not None:
            await _save(kept, directory)


async def _save(kept: Kept, directory: Path) -> None:
    with contextlib.suppress(OSError):  # the plan's save reports a full disk
        await asyncio.to_thread(save_kept, kept.file, kept.encode(), directory)
