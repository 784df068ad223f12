"""Where lines of the log go: never waits for who reads them, and is bounded whatever happens.

A pipe that no one reads blocks its writer when it is full, so a thread writes, and what it cannot
write in time is dropped and counted.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import threading
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from controlplane.runtime.throttle import TokenBucket

WAITING_LIMIT = 10_000
"""Lines that wait to be written; further ones are dropped."""
END_WITHIN = 1.0
"""Seconds that waiting lines get at the end of the process."""

EVENT_BURST = 100
EVENT_RATE = 1.0
"""Lines of one event at once, and a second."""
TOTAL_BURST = 2000
TOTAL_RATE = 20.0
"""Lines at once, and a second: at most some 40 MB an hour, whatever clients do."""
MAX_EVENTS = 1000
"""Events that are counted apart; beyond, the counts start again."""
SUMMARY_PERIOD = 60.0
"""Seconds between two lines on what was dropped of one event."""


class QueuedStream:
    """A stream whose `write` returns at once; a thread writes the lines to a file descriptor.

    To the descriptor and not to `sys.stderr`: the end of the interpreter waits for that one's lock,
    which a blocked writer would hold.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._wake = threading.Condition()
        self._writing = False
        threading.Thread(target=self._run, name="log", daemon=True).start()
        atexit.register(self.drain)

    def write(self, text: str) -> int:
        """Queue *text*; drop it if too much waits already."""
        with self._wake:
            if len(self._lines) >= WAITING_LIMIT:
                self._dropped += 1
            else:
                self._lines.append(text)
                self._wake.notify()
        return len(text)

    def flush(self) -> None:
        """Return at once: who logs does not wait for who reads."""

    def drain(self, *, within: float = END_WITHIN) -> None:
        """Wait at most *within* seconds until all that waits has been written."""
        with self._wake:
            self._wake.wait_for(lambda: not (self._lines or self._writing), within)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._writing = False
                self._wake.notify_all()
                self._wake.wait_for(lambda: bool(self._lines))
                pending = list(self._lines)
                self._lines.clear()
                dropped, self._dropped = self._dropped, 0
                self._writing = True
            if dropped:
                pending.append(f'{{"event": "log lines dropped", "count": {dropped}}}\n')
            # A full disk or a closed pipe loses lines, never the process that writes them.
            with contextlib.suppress(OSError):
                left = memoryview("".join(pending).encode(errors="replace"))
                while left:
                    left = left[os.write(self._descriptor, left) :]


class RateLimit:
    """A processor that drops lines of an event beyond its rate, and says how many.

    An event is a constant of ours; lines of libraries count as their logger's.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: dict[str, _EventRate] = {}
        self._total = TokenBucket(rate=TOTAL_RATE, burst=TOTAL_BURST, now=clock())

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return *event*, or raise DropEvent."""
        now = self._clock()
        name = str(event.get("logger") or event.get("event", ""))[:200]
        if len(self._events) >= MAX_EVENTS:
            self._events.clear()
        own = self._events.get(name)
        if own is None:
            own = _EventRate(rate=EVENT_RATE, burst=EVENT_BURST, now=now)
            self._events[name] = own
        if any(each.reserve(now=now, patience=0.0) is None for each in (own, self._total)):
            own.dropped += 1
            raise structlog.DropEvent
        if own.dropped and now - own.summed_at >= SUMMARY_PERIOD:
            event["similar_lines_dropped"] = own.dropped
            own.dropped, own.summed_at = 0, now
        return event


class _EventRate(TokenBucket):
    """The rate of one event, and what was dropped beyond it."""

    dropped = 0
    summed_at = -math.inf
