"""How long what was published takes until Envoys hold it: each one, and all of them.

Values and `now` in, seconds out; knows versions and ids, and nothing of what they stand for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

MOST_OPEN = 32
"""Publications followed at a time; an Envoy that is this far behind is reported by other means."""
PATIENCE = 30.0
"""Seconds after which a publication that someone still lacks is followed no longer."""


@dataclass(frozen=True, slots=True)
class Settled:
    """One publication that everyone holds, or that is given up."""

    version: str
    """Of the plan."""
    seconds: float
    """Since it was published."""


@dataclass(slots=True)
class _Publication:
    version: str
    at: float
    heard_at: float | None
    lacking: dict[str, str]
    """Client -> the version of its endpoints that it has not acknowledged yet."""


class Convergence:
    """Follows publications until every client that was connected then holds them."""

    def __init__(self) -> None:
        self._open: deque[_Publication] = deque()

    def publish(
        self, version: str, serving: Mapping[str, str], *, heard_at: float | None, now: float
    ) -> list[Settled]:
        """Add a new plan; return those that are followed no longer.

        Args:
            version: of the plan.
            serving: connected client -> version of the endpoints that it is sent now; those that
                hold theirs already are left out.
            heard_at: when the first report came that this plan took into account and the one
                before did not; None if there was no report.
            now: of the publication.
        """
        over = []
        while self._open and (len(self._open) >= MOST_OPEN or now - self._open[0].at > PATIENCE):
            gone = self._open.popleft()
            over.append(Settled(gone.version, max(PATIENCE, now - gone.at)))
        if serving:
            self._open.append(_Publication(version, now, heard_at, dict(serving)))
        return over

    def acknowledge(
        self, client: str, version: str, *, now: float
    ) -> tuple[float | None, list[Settled]]:
        """Record that *client* holds *version* of its endpoints.

        Returns:
            seconds from the first report behind it, none where there is no such report or no one
            waited for this; and the publications that everyone holds now.
        """
        newest = None
        for publication in reversed(self._open):
            if newest is None and publication.lacking.get(client) == version:
                newest = publication
            if newest is not None:
                # Anyone who holds a later one needs the earlier ones no more.
                publication.lacking.pop(client, None)
        if newest is None:
            return None, []
        heard_at = newest.heard_at
        return None if heard_at is None else now - heard_at, self._settle(now)

    def leave(self, client: str, *, now: float) -> list[Settled]:
        """Record that *client* is gone; return the publications that everyone holds now."""
        for publication in self._open:
            publication.lacking.pop(client, None)
        return self._settle(now)

    def _settle(self, now: float) -> list[Settled]:
        done = [each for each in self._open if not each.lacking]
        if done:
            self._open = deque(each for each in self._open if each.lacking)
        return [Settled(each.version, now - each.at) for each in done]
