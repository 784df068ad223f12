"""Publishes what changed to those who watch: states, and moves of shares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from controlplane.admin_api.live import STATE
from controlplane.admin_api.view import AdminView, Make
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.moves import Moves
from controlplane.runtime.json_text import dump_in_parts

JOINED = 0.1
"""Seconds of changes of the Envoys' state that make one event."""


class StatePublisher:
    """Publishes the documents of *view*, as *control* changes."""

    def __init__(self, control: ControlPlane, view: AdminView) -> None:
        self._control = control
        self._view = view
        self._moves = Moves()
        self._moved: CycleResult | None = None
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        control.cycle.completed.subscribe(self._publish_cycle)
        control.configuration.changed.subscribe(
            lambda _: view.events.publish_state("config", view.read_config)
        )

    async def run_states(self) -> None:
        """Publish the states that are due, each made in another thread."""
        makers: dict[str, Callable[[], Make]] = {
            "plan": self._view.read_plan,
            "fleet": self._view.read_fleet,
            "overview": self._view.read_overview,
            "envoys": self._view.read_envoys,
        }
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, set()
            await self._publish_moves()
            if STATE in due and (
                self._view.events.wants(STATE) or self._view.moments.due(self._control.unix_time())
            ):
                await self._view.live_overview()
                self._view.events.wake(STATE)
                if not self._view.events.wants(STATE):
                    # No page has seen it, and of thousands of instances it takes megabytes.
                    self._view.live = None
            for kind, read in makers.items():
                if kind in due and self._view.events.wants(kind):
                    await self._publish_state(kind, read())

    async def _publish_state(self, kind: str, make: Make) -> None:
        def encode() -> bytes:
            document = make()
            return b"" if document is None else dump_in_parts(document)

        if content := await asyncio.to_thread(encode):
            self._view.events.publish_encoded(kind, content)

    async def _publish_moves(self) -> None:
        """Publish what the last new plan moved, and why."""
        result, self._moved = self._moved, None
        if result is None or result.decision is None:
            return
        for move in await asyncio.to_thread(self._moves.find, result.decision.plan, result.view):
            self._control.notifier.report_move(move)

    async def run_envoy_events(self) -> None:
        """Publish the Envoys' state after it changed, a burst of changes once."""
        touched = self._control.envoys_touched
        while True:
            await touched.wait()
            await asyncio.sleep(JOINED)
            touched.clear()
            self._mark("envoys", "overview", STATE)

    def _mark(self, *kinds: str) -> None:
        self._due.update(kinds)
        self._wake.set()

    def _publish_cycle(self, result: CycleResult) -> None:
        if result.plan_changed:
            self._moved = result
            self._mark("plan")
        self._mark("fleet", "overview", STATE)
