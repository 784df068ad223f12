"""When an instance that is out of service is asked again, so that none is out for ever.

A trial is a few seconds in which a small share may go there; what Envoys then see decides. The
waits between trials double, so that a machine that is gone costs less and less.
"""

from __future__ import annotations

TRIAL = 5.0
"""Seconds that a trial lasts."""
FIRST_WAIT = 15.0
LONGEST_WAIT = 240.0
"""Seconds between two trials, at first and at most."""


class Trials:
    """The trials of one instance since it went out of service."""

    __slots__ = ("_begins_at", "_wait")

    def __init__(self) -> None:
        self._begins_at: float | None = None
        self._wait = FIRST_WAIT

    def end(self) -> None:
        """Forget them: the instance is in service."""
        self._begins_at = None
        self._wait = FIRST_WAIT

    def under_way(self, now: float) -> bool:
        """Return whether a trial is under way; the first call after `end` starts the first wait."""
        if self._begins_at is None:
            self._begins_at = now + self._wait
        if now >= self._begins_at + TRIAL:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            self._begins_at = now + self._wait
        return now >= self._begins_at

    def next_in(self, now: float) -> float:
        """Return the seconds until the next trial begins; 0 while one is under way."""
        return 0.0 if self._begins_at is None else max(0.0, self._begins_at - now)
