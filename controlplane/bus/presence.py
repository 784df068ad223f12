"""Which other replicas were heard lately, and how many clients all of them have."""

from __future__ import annotations

from collections.abc import Callable, Mapping

TIMEOUT = 5.0
"""Seconds after which a replica that says nothing is no longer counted."""


class Presence:
    """What the other replicas say of themselves.

    Attributes:
        own: this replica's clients by site.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self.own: Mapping[str, int] = {}
        self._clock = clock
        self._others: dict[str, tuple[float, Mapping[str, int]]] = {}

    def hear(self, replica: str, clients: Mapping[str, int]) -> None:
        """Note that *replica* is there and has *clients*, site by site."""
        self._others[replica] = (self._clock(), clients)

    def hear_only(self, replica: str, clients: Mapping[str, int]) -> None:
        """Note what *replica* says of itself and of all others but this one."""
        self._others.clear()
        self.hear(replica, clients)

    @property
    def replicas(self) -> int:
        """Return how many other replicas were heard lately."""
        self._forget()
        return len(self._others)

    def clients(self, *, apart: str = "") -> Mapping[str, int]:
        """Return this replica's clients and the others', but those of the replica *apart*."""
        self._forget()
        total = dict(self.own)
        for name, (_, clients) in self._others.items():
            if name != apart:
                for site, count in clients.items():
                    total[site] = total.get(site, 0) + count
        return total

    def _forget(self) -> None:
        limit = self._clock() - TIMEOUT
        for name in [name for name, (at, _) in self._others.items() if at <= limit]:
            del self._others[name]
