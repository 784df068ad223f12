"""How often something may happen: streams that start, lines of the log that say the same.

A storm of reconnecting clients is served at a steady pace, and reported about once.
"""

from __future__ import annotations

from typing import Generic, TypeVar

LOG_PERIOD = 60.0
"""Seconds between two lines of the log on the same thing."""

MAX_KEYS = 1_000
"""Things that are remembered; beyond, the one that was logged longest ago is forgotten."""

Key = TypeVar("Key")


class TokenBucket:
    """A reservation of starts: *rate* a second, *burst* at once."""

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def reserve(self, *, now: float, patience: float) -> float | None:
        """Reserve a token; return the seconds to wait for it, None without one if too long."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        wait = max(0.0, (1 - self._tokens) / self._rate)
        if wait > patience:
            return None
        self._tokens -= 1
        return wait


class LogLimit(Generic[Key]):
    """What was said in the last `LOG_PERIOD` and need not be said again.

    Args:
        lines_per_minute: bound on all keys together, for keys that a client can choose.
    """

    def __init__(self, *, lines_per_minute: float = 120.0) -> None:
        self._logged: dict[Key, float] = {}
        self._lines: TokenBucket | None = None
        self._lines_per_minute = lines_per_minute

    def __len__(self) -> int:
        return len(self._logged)

    def is_due(self, key: Key, *, now: float) -> bool:
        """Return whether to speak of *key* now; if so, it counts as reported."""
        logged_at = self._logged.pop(key, None)
        if logged_at is not None and now - logged_at < LOG_PERIOD:
            self._logged[key] = logged_at
            return False
        if self._lines is None:
            most = self._lines_per_minute
            self._lines = TokenBucket(rate=most / 60, burst=most, now=now)
        if self._lines.reserve(now=now, patience=0.0) is None:
            return False
        self._logged[key] = now
        if len(self._logged) > MAX_KEYS:
            del self._logged[next(iter(self._logged))]
        return True
