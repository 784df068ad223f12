"""Operators' overrides made while running, the same at all replicas."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.bus.local import Bus, SavedOverrides
from controlplane.controller.configuration import Configuration
from controlplane.controller.override_requests import (
    OverrideError,
    OverrideRequest,
    unknown_override,
)
from controlplane.controller.overrides import (
    ActiveOverride,
    check_room,
    encode_override,
    make_override,
)


class ReplicatedOverrides:
    """Adds and removes overrides; on the bus first where there are other replicas."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        bus: Callable[[], Bus],
        unix_time: Callable[[], float],
    ) -> None:
        self._configuration = configuration
        self._bus = bus
        self._unix_time = unix_time

    async def add(self, request: OverrideRequest) -> ActiveOverride:
        """Add an operator's override, at this replica and all others.

        Raises:
            OverrideError: it cannot be added.
        """
        if not self._bus().replicated:
            return self._configuration.add_override(request)
        made = make_override(request, unix_now=self._unix_time())

        def add(entries: SavedOverrides | None) -> SavedOverrides:
            present = self._unexpired(entries)
            check_room(len(present))
            return [*present, encode_override(made)]

        await self._update(add)
        return made

    async def remove(self, name: str, *, by: str) -> str:
        """Remove an override made while running, at this replica and all others; return its name.

        Raises:
            OverrideError: there is no such one, or the others cannot be reached.
        """
        if not self._bus().replicated:
            return self._configuration.remove_override(name, by=by).id

        def remove(entries: SavedOverrides | None) -> SavedOverrides:
            present = self._unexpired(entries)
            rest = [item for item in present if item["id"] != name]
            if len(rest) == len(present):
                raise unknown_override(name, (str(item["id"]) for item in present))
            return rest

        await self._update(remove)
        return name

    def _unexpired(self, entries: SavedOverrides | None) -> SavedOverrides:
        """Return the replicas' overrides that last, or this one's where the bus has none."""
        known = self._configuration.overrides.encode() if entries is None else entries
        # One that is in force here lasts, whatever this clock was set to since.
        active = {item.id for item in self._configuration.overrides.active}
        now = self._unix_time()
        return [
            item
            for item in known
            if item.get("id") in active or float(item.get("expires", 0.0)) > now
        ]

    async def _update(self, change: Callable[[SavedOverrides | None], SavedOverrides]) -> None:
        if not await self._bus().update_overrides(change):
            raise OverrideError(
                "the bus is not writable, so no other replica would have this; see"
                " cats_bus_connected and try again, or use overrides in the file"
            )
