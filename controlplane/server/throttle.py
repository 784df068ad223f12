"""How many streams may start: a storm of reconnecting clients is served at a steady pace."""

from __future__ import annotations


class TokenBucket:
    """A reservation of starts: *rate* a second, *burst* at once."""

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def reserve(self, *, now: float, patience: float) -> float | None:
        """Take a token and give the seconds to wait for it; none, and no token, if too long."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        wait = max(0.0, (1 - self._tokens) / self._rate)
        if wait > patience:
            return None
        self._tokens -= 1
        return wait
