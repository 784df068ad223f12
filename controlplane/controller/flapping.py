"""Instances that change back and forth: a few lines of each change, then one a minute."""

from __future__ import annotations

from collections.abc import Collection, Iterator

MOST_CHANGES = 6
"""Changes of one instance within `PERIOD` of which each is reported."""
PERIOD = 60.0
"""Seconds between two reports on one that flaps, and without a change after which it does not."""


class Flapping:
    """Counts changes of each instance. Instants are seconds by any one clock."""

    def __init__(self) -> None:
        self._changes: dict[str, list[float]] = {}
        self._left_out: dict[str, tuple[float, int]] = {}
        """Instance that flaps -> when that was last reported, and its changes since then."""

    def leaves_out(self, name: str, *, now: float) -> bool:
        """Count a change of *name*; return whether it is one of too many to be reported."""
        if name in self._left_out:
            since, count = self._left_out[name]
            self._left_out[name] = (since, count + 1)
            return True
        recent = [at for at in self._changes.get(name, ()) if now - at < PERIOD]
        self._changes[name] = [*recent, now]
        if len(recent) < MOST_CHANGES:
            return False
        self._left_out[name] = (recent[0], 1)
        return True

    def due(self, known: Collection[str], *, now: float) -> Iterator[tuple[str, int]]:
        """Yield each instance that flaps and how often it changed, where a report is due.

        Args:
            known: instances that there are; of others nothing is remembered.
            now: the instant.
        """
        for name in [name for name in self._changes if name not in known]:
            del self._changes[name]
            self._left_out.pop(name, None)
        for name, (since, count) in list(self._left_out.items()):
            if now - since < PERIOD:
                continue
            if count:
                self._left_out[name] = (now, 0)
                yield name, count
            else:
                del self._left_out[name], self._changes[name]
