"""Who decides: a lease on one key of a store that can compare and set.

No clock of one machine is compared with another's. The holder counts from before it asked, by its
own clock; the others count from when they saw the key change, by theirs, and wait a margin longer.
So a holder has stopped before another can begin, unless a clock runs faster by more than the
margin's part of the lease.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DURATION = 3.0
"""Seconds that a holder decides after it asked for its last renewal."""
MARGIN = 0.5
"""Seconds more that others wait."""
HESITATION = 2.0
"""Seconds more that a replica waits which has not heard enough yet, so that one that has goes
first."""
STAND_BACK = 4.0
"""Seconds more that a replica waits which gave the lease up lately: every other one goes first, and
where there is no other, it leads again rather than none."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A write to be tried: set the key to one's own name if it is still at *revision*."""

    revision: int
    """0: there must be no such key."""
    asked_at: float


class Lease:
    """One replica's knowledge of the lease.

    Times are seconds of the replica's own monotonic clock.
    """

    def __init__(self, me: str, *, duration: float = DURATION, margin: float = MARGIN) -> None:
        self.me = me
        self.holder: str | None = None
        """Who holds it as far as known; empty: given back; none: never seen."""
        self._duration = duration
        self._margin = margin
        self._revision = -1
        self._seen_at = -math.inf
        self._held_until = -math.inf
        self._asked_at = -math.inf
        self._lost_at = -math.inf

    def forget(self, *, now: float) -> None:
        """Record that the store is another one, which never held the key.

        The last holder may ask for it at once; others wait for as long as it may still decide.
        """
        if self.holder != self.me:
            self._lost_at = now
        self.holder, self._revision = None, -1
        self._seen_at = now
        self._held_until = -math.inf

    def observe(self, holder: str | None, revision: int, *, now: float) -> None:
        """Record what the store says: *holder* at *revision*; None at 0 if there is no key."""
        if revision < self._revision:
            return  # an old answer: another node of the store was asked
        if revision > self._revision:
            self._seen_at = now
        self._revision, self.holder = revision, holder
        if holder != self.me:
            self._held_until = -math.inf

    def next_attempt(
        self, *, now: float, warm: bool = True, resigned: bool = False
    ) -> Attempt | None:
        """Return the write that is due; None if there is none.

        Args:
            now: the instant.
            warm: whether this replica has heard enough to go on where the last holder stopped.
            resigned: whether this replica gave the lease up lately.
        """
        if self._revision < 0:
            return None
        if self.holder == self.me:
            due = now - self._asked_at >= self._duration / 3
        else:
            patience = 0.0 if warm or self._revision == 0 else HESITATION
            patience += STAND_BACK if resigned else 0.0
            if self.holder:
                patience += self._duration + self._margin
            due = now - self._seen_at >= patience
            due = due and now - self._lost_at >= self._duration + self._margin
        return Attempt(self._revision, now) if due else None

    def granted(self, attempt: Attempt, *, revision: int) -> None:
        """Record that the write was done and the key is at *revision* now."""
        self.holder = self.me
        self._revision = revision
        self._seen_at = self._asked_at = attempt.asked_at
        self._held_until = attempt.asked_at + self._duration

    def refused(self) -> None:
        """Record that someone else wrote first."""
        self._held_until = -math.inf

    def holds(self, *, now: float) -> bool:
        """Return whether this replica may decide."""
        return self.holder == self.me and now < self._held_until

    @property
    def revision(self) -> int:
        """Return the key's revision as far as known; below 0: never seen."""
        return self._revision
