"""What every Envoy gets: a snapshot for each client site, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.xds.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Fault:
    """A resource that would be refused, and so was not published in its new form."""

    type_url: str
    name: str
    view: str | None
    """Client site, or `UNKNOWN_SITE`; None for all."""
    message: str

    def __str__(self) -> str:
        """Return one line for a log."""
        kind = self.type_url.rsplit(".", 1)[-1]
        seen_from = "" if self.view is None else f" for {self.view or 'unknown sites'!r}"
        return f"{kind} {self.name!r}{seen_from}: {self.message}"


@dataclass(frozen=True, slots=True)
class Views(Mapping[str, Snapshot]):
    """Site name -> its snapshot; `UNKNOWN_SITE` for the others."""

    snapshots: Mapping[str, Snapshot]
    faults: tuple[Fault, ...] = field(default=())

    def __getitem__(self, site: str) -> Snapshot:
        """Return the snapshot of *site*."""
        return self.snapshots[site]

    def __iter__(self) -> Iterator[str]:
        """Return the names of the sites."""
        return iter(self.snapshots)

    def __len__(self) -> int:
        """Return the number of views."""
        return len(self.snapshots)
