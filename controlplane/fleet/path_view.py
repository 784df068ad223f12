"""The network between sites as it is known now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controlplane.model import Reading


@dataclass(frozen=True, slots=True)
class PathView:
    """The network from one site to another as it is known now."""

    rtt: Reading
    """Seconds."""
    bandwidth: Reading | None
    """Bytes a second; None when no one ever said."""


@dataclass(frozen=True, slots=True)
class PathTable(Mapping[tuple[str, str], PathView]):
    """Every ordered pair of sites; only what is stated of a pair takes memory."""

    sites: frozenset[str]
    stated: Mapping[tuple[str, str], PathView]
    """Pairs that are configured or measured."""
    default: PathView
    local: PathView
    """Within one site."""

    def __getitem__(self, pair: tuple[str, str]) -> PathView:
        """Return the path of one pair."""
        found = self.stated.get(pair)
        if found is not None:
            return found
        if not self.sites.issuperset(pair):
            raise KeyError(pair)
        return self.local if pair[0] == pair[1] else self.default

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Return every pair."""
        names = sorted(self.sites)
        return ((source, target) for source in names for target in names)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.sites) ** 2


def stated_paths(
    paths: Mapping[tuple[str, str], PathView],
) -> Mapping[tuple[str, str], PathView]:
    """Return those of *paths* that are more than defaults, as far as that is known."""
    return paths.stated if isinstance(paths, PathTable) else paths
