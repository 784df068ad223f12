"""Keeps what was discovered on disk, and reports what of it cannot be read or written."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

from controlplane.config import DiscoveredInstance, DiscoveredMatch
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.discovered_store import NOTHING_SAVED, DiscoveredStore, SavedInstances
from controlplane.controller.state_file import StateError
from controlplane.runtime.files import keep_aside
from controlplane.runtime.log import Logger

SAVE_PERIOD = 5.0
"""Seconds between two times that what was found is written."""


def load_discovered(directory: Path | None, *, log: Logger) -> SavedInstances:
    """Return what was found before a restart; nothing where nothing can be read."""
    if directory is None:
        return NOTHING_SAVED
    store = DiscoveredStore(directory)
    try:
        saved = store.load() or NOTHING_SAVED
    except StateError as error:
        log.warning(
            "saved discovered instances unreadable; discovering again",
            reason=str(error),
            remedy="none needed; look at the file if this happens again",
        )
        return NOTHING_SAVED
    if saved.unread:
        log.warning(
            "saved discovered instances partly unreadable; the rest restored",
            reason=list(saved.unread[:20]),
            restored=len(saved.found),
            file=keep_aside(store.path),
            remedy="none needed; they are discovered again",
        )
    return saved


class DiscoverySaver:
    """Saves what was found, now and then.

    Args:
        control: for its configuration, log and metrics.
        saved: what was found before a restart.
        state_dir: where it is kept; None if nowhere.
    """

    def __init__(
        self, control: ControlPlane, saved: SavedInstances, *, state_dir: Path | None
    ) -> None:
        self._control = control
        self._store = None if state_dir is None else DiscoveredStore(state_dir)
        self._found: Sequence[DiscoveredInstance] = saved.found
        self._matches: Sequence[DiscoveredMatch] = saved.matches
        self._rules = frozenset(saved.rules)
        self._saved: tuple[object, ...] | None = None
        self._due = asyncio.Event()

    def note(
        self,
        found: Sequence[DiscoveredInstance],
        matches: Sequence[DiscoveredMatch],
        *,
        rules: Collection[str],
    ) -> None:
        """Have what was found saved soon; *rules* are those whose objects are known."""
        self._found, self._matches, self._rules = found, matches, frozenset(rules)
        if rules:  # else the first lists would wait for a save that saves nothing
            self._due.set()

    async def run(self) -> None:
        """Save what is noted, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await asyncio.to_thread(self.write)
            await asyncio.sleep(SAVE_PERIOD)

    def write(self) -> None:
        """Save what was found, unless it is saved already; blocks."""
        configuration = self._control.configuration
        state = self._found, self._matches, self._rules
        if self._store is None or configuration.file_config.discovery is None:
            return
        if state == self._saved or not self._rules:
            return
        names = {each.instance.name for each in self._found}
        # What is held is worth as much after a restart as before it.
        held = tuple(
            each
            for each in configuration.merged.held
            if each.rule and each.instance.name not in names
        )
        try:
            self._store.save(
                (*self._found, *held), rules=sorted(self._rules), matches=self._matches
            )
        except OSError as error:
            self._control.metrics.state_saves.labels("failed").inc()
            self._control.log.warning(
                "discovered instances not saved; serving continues",
                file=str(self._store.path),
                reason=error.strerror or str(error),
                remedy="free disk space for --state-dir, and check that it is writable",
            )
        self._saved = state
