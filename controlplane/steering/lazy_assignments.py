"""What publishing asks of assignments that are made when someone looks at them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping

from controlplane.steering.layout import Key
from controlplane.steering.plan import Assignment


class LazyAssignments(Mapping[Key, Assignment]):
    """Assignments of which digests and sums are known without making them."""

    @abstractmethod
    def digest(self, key: Key) -> bytes:
        """Return the digest of what Envoys get of one assignment."""

    @abstractmethod
    def sums(self, service: str) -> tuple[dict[tuple[str, str], int], float]:
        """Return the weights of one service, added up over client sites, and its drop.

        By (instance, site), of what is used first; devices may be left out.
        """

    @abstractmethod
    def keys_with(self, instances: Collection[str]) -> set[Key]:
        """Return the keys of the assignments that send anything to any of *instances*."""
