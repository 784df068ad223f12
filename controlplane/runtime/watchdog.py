"""Measures how late the event loop runs: what blocks it blocks Envoys, readiness and decisions."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable

from controlplane.runtime.log import Logger

PERIOD = 0.05
"""Seconds between two looks."""
WINDOW = 60.0
"""Seconds that `LoopWatchdog.lag` looks back."""
STALL = 1.0
"""Seconds of lag from which it is logged, with the place."""
_FRAMES = 6


class LoopWatchdog:
    """Measures the lag of the running event loop, and finds out what causes the longest.

    A task measures; a thread looks at where the loop is while it stalls, since afterwards nothing
    can say so.

    Args:
        log: where stalls are reported.
        on_lag: called with each lag, in seconds.
    """

    def __init__(self, *, log: Logger, on_lag: Callable[[float], None] | None = None) -> None:
        self._log = log
        self._on_lag = on_lag
        self._lags: deque[tuple[float, float]] = deque()
        self._ended = threading.Event()
        self._beat = 0
        self._place = ""

    def lag(self, *, now: float) -> float:
        """Return the longest lag within the last `WINDOW` seconds before *now* (loop time)."""
        while self._lags and now - self._lags[0][0] > WINDOW:
            self._lags.popleft()
        return self._lags[0][1] if self._lags else 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        self._ended.clear()
        thread = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="watchdog", daemon=True
        )
        thread.start()
        try:
            while True:
                due = loop.time() + PERIOD
                await asyncio.sleep(PERIOD)
                now = loop.time()
                self._beat += 1
                self._note(now, max(0.0, now - due))
        finally:
            self._ended.set()

    def _note(self, now: float, lag: float) -> None:
        if self._on_lag is not None:
            self._on_lag(lag)
        # A queue of maxima: what is older and smaller than a newer lag can never be the longest.
        while self._lags and self._lags[-1][1] <= lag:
            self._lags.pop()
        self._lags.append((now, lag))
        if lag >= STALL:
            self._log.warning(
                "event loop stalled",
                seconds=round(lag, 3),
                place=self._place,
                remedy="if the machine has CPU time to spare, report this as a bug, with the place",
            )
        self._place = ""

    def _look(self, loop_thread: int) -> None:
        """Note where the loop is when it has not beaten for half a stall."""
        while not self._ended.wait(STALL / 2):
            beat = self._beat
            if self._ended.wait(STALL / 2):
                return
            if self._beat != beat or self._place:
                continue
            frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 -- documented
            if frame is not None:
                stack = traceback.extract_stack(frame)[-_FRAMES:]
                self._place = " > ".join(f"{each.name}:{each.lineno}" for each in stack)
