"""What survives a restart: the plan, the estimates and the overrides, loaded and saved.

Nothing here may stop the serving: what cannot be loaded is left out, what cannot be saved is
reported once for each plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from controlplane.controller.decider import Decider
from controlplane.controller.metrics import Metrics
from controlplane.controller.override_requests import OverrideError
from controlplane.controller.overrides import OverrideStore
from controlplane.controller.state_file import SavedState, StateError, StateFile
from controlplane.runtime.log import Logger
from controlplane.steering.plan import Plan

ESTIMATES_PERIOD = 10.0
"""Seconds between two times that the estimates are saved, at least."""
ESTIMATES_SHARE = 50.0
"""Times as long as it took to gather the estimates that passes before the next time: those of five
thousand instances take a second."""


class Persistence:
    """The state directory, if there is one, and the estimates that replicas share."""

    def __init__(
        self,
        directory: Path | None,
        *,
        decider: Decider,
        metrics: Metrics,
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        log: Logger,
    ) -> None:
        self._file = StateFile(directory) if directory else None
        self._decider = decider
        self._metrics = metrics
        self._clock = clock
        self._unix_time = unix_time
        self._log = log
        self._saved_version = ""
        self._estimates_saved_at = clock()
        self._estimates_took = 0.0

    async def load_plan(self) -> SavedState | None:
        """Return the plan that was saved last; None if there is none, or it cannot be read."""
        if self._file is None:
            return None
        try:
            saved = await asyncio.to_thread(self._file.load, now=self._clock())
        except StateError as error:
            self._log.warning(
                "saved plan unreadable; starting without it",
                reason=str(error),
                remedy="none needed; look at the file if this happens again",
            )
            return None
        if saved is not None:
            self._saved_version = saved.plan.version
        return saved

    async def load_overrides(self, overrides: OverrideStore) -> None:
        """Load the overrides that were in force before the restart."""
        try:
            unread = await asyncio.to_thread(overrides.load, unix_now=self._unix_time())
        except OverrideError as error:
            self._log.warning(
                "saved overrides unreadable; starting without them",
                reason=str(error),
                remedy="add them again with 'cats override add'",
            )
        else:
            if unread:
                self._log.warning(
                    "saved overrides partly unreadable; the rest restored",
                    reason=unread,
                    restored=len(overrides.active),
                    remedy="compare with 'cats override list', and add what is missing",
                )

    async def restore_estimates(self, shared: Mapping[str, Any] | None) -> None:
        """Let steering go on from the estimates *shared* by replicas, or from those on disk."""
        estimates = shared
        try:
            if estimates is None and self._file is not None:
                estimates = await asyncio.to_thread(self._file.load_memory)
            if estimates is not None:
                unread = await self._decider.remember(estimates, now=self._clock())
                self._log.info(
                    "estimates restored", instances=len(estimates["capacity"]), unread=len(unread)
                )
                if unread:
                    self._log.warning(
                        "saved estimates partly unreadable; the rest restored",
                        reason=unread[:20],
                        file="" if self._file is None else self._file.set_memory_aside(),
                        remedy="none needed; look at the file if this happens again",
                    )
        except StateError as error:
            self._log.warning(
                "saved estimates unreadable; learning from scratch",
                reason=str(error),
                remedy="none needed; look at the file if this happens again",
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warning(
                "saved estimates discarded; learning from scratch",
                reason=repr(error),
                file="" if self._file is None else self._file.set_memory_aside(),
                remedy="none needed; look at the file if this happens again",
            )

    async def save_plan(self, plan: Plan) -> None:
        """Save *plan* unless it was the last one that was tried."""
        if self._file is None or plan.version == self._saved_version:
            return
        self._saved_version = plan.version  # one attempt for each plan, not one for each cycle
        save = asyncio.to_thread(self._file.save, plan, saved_at=self._unix_time())
        try:
            await _finish(save)
        except OSError as error:
            self._metrics.state_saves.labels("failed").inc()
            self._log.warning(
                "plan not saved; serving continues",
                file=str(self._file.path),
                reason=error.strerror or str(error),
                remedy="free disk space for --state-dir, and check that it is writable",
            )
        else:
            self._metrics.state_saves.labels("saved").inc()

    def estimates_due(self, *, shared: bool) -> bool:
        """Return whether the estimates are to be saved now, on disk or for replicas (*shared*)."""
        if self._file is None and not shared:
            return False
        pause = max(ESTIMATES_PERIOD, ESTIMATES_SHARE * self._estimates_took)
        return self._clock() - self._estimates_saved_at >= pause

    async def save_estimates(self) -> Mapping[str, Any]:
        """Save the estimates on disk if there is a place; return them."""
        began_at = self._clock()
        estimates = await self._decider.memory(now=began_at)
        self._estimates_saved_at = self._clock()
        self._estimates_took = self._estimates_saved_at - began_at
        if self._file is not None:
            try:
                await asyncio.to_thread(self._file.save_memory, estimates)
            except OSError:
                self._metrics.state_saves.labels("failed").inc()
        return estimates


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await *work*, also when cancelled meanwhile: a process that ends saves its last plan."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen
        raise
