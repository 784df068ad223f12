"""When the next cycle runs: every period, earlier when something urgent happened.

Urgent events come in bursts (a site goes away, a file is saved twice), so an early cycle waits
`HOLD_OFF` for the rest of the burst, and two cycles are never closer than `LEAST_GAP`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

HOLD_OFF = 0.02
"""Seconds that a burst of urgent events is joined."""
LEAST_GAP = 0.1
"""Seconds between the starts of two cycles, at least; each may cost Envoys a rebuild."""


def next_start(*, started_at: float, period: float, requested_at: float | None) -> float:
    """Return the instant of the next cycle.

    Args:
        started_at: when the last one began.
        period: time between regular cycles.
        requested_at: when something urgent happened after that; None if nothing did.
    """
    regular = started_at + period
    if requested_at is None:
        return regular
    return min(regular, max(requested_at + HOLD_OFF, started_at + min(LEAST_GAP, period)))


@dataclass(slots=True)
class Scheduler:
    """Waits until the next cycle is due."""

    _requested: asyncio.Event = field(default_factory=asyncio.Event)
    _requested_at: float | None = None
    reason: str = ""
    """What was urgent; empty for a regular cycle."""

    def request(self, reason: str, *, now: float) -> None:
        """Ask for an early cycle because of *reason*."""
        if self._requested_at is None:
            self._requested_at = now
            self.reason = reason
        self._requested.set()

    def begin(self) -> str:
        """Forget what was urgent, since the cycle that begins sees it; return the reason."""
        reason, self.reason = self.reason, ""
        self._requested_at = None
        self._requested.clear()
        return reason

    async def wait(self, *, started_at: float, period: float, now: float) -> None:
        """Sleep until the next cycle is due."""
        loop = asyncio.get_running_loop()
        offset = loop.time() - now
        while True:
            due_at = offset + next_start(
                started_at=started_at, period=period, requested_at=self._requested_at
            )
            try:
                async with asyncio.timeout_at(due_at):
                    if self._requested_at is None:
                        await self._requested.wait()
                    else:
                        await asyncio.sleep(max(0.0, due_at - loop.time()))
                        return
            except TimeoutError:
                return
