"""The bus of a control plane that is alone: it leads, and whatever it decides holds.

`Bus` is what the control plane knows of any bus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from controlplane.model import Report
from controlplane.steering.plan import Plan

SavedOverrides = Sequence[Mapping[str, Any]]
"""Operators' overrides as they are saved; see `controlplane.controller.overrides`."""

OTHER_OVERRIDES = "overrides changed on the bus"
"""What a bus reports when its overrides are others."""


class Bus(Protocol):
    """What a control plane asks of its bus; nothing here blocks but what is awaited.

    Attributes:
        overrides: those that all replicas have; None if unknown, or if there are no others.
    """

    overrides: SavedOverrides | None

    @property
    def replicated(self) -> bool:
        """Return whether there may be other replicas."""

    @property
    def leads(self) -> bool:
        """Return whether this replica decides now."""

    @property
    def connected(self) -> bool:
        """Return whether the others can be heard."""

    @property
    def alone(self) -> bool:
        """Return whether the bus was unreachable so long that an empty replica may decide."""

    @property
    def shares_memory(self) -> bool:
        """Return whether what is learned can reach replicas that join."""

    @property
    def plan(self) -> Plan | None:
        """Return the plan that all serve; None if there is none, or no others."""

    @property
    def memory(self) -> Mapping[str, Any] | None:
        """Return what a leader has learned, as it was when this replica joined; None if unknown."""

    async def share_memory(self, memory: Mapping[str, Any]) -> None:
        """Keep what was learned for replicas that join."""

    def publish(self, report: Report) -> None:
        """Let the others hear a report."""

    def clients(self, own: Mapping[str, int]) -> Mapping[str, int]:
        """Return the clients of all replicas by site, from this one's *own*."""

    async def offer(self, plan: Plan) -> bool:
        """Make *plan* the plan of all; false if this replica may not, or cannot."""

    async def update_overrides(
        self, change: Callable[[SavedOverrides | None], SavedOverrides]
    ) -> bool:
        """Replace the overrides of all by *change* of them; false if the bus cannot be written.

        *change* may be called again, when another replica has written in between.
        """


class LocalBus:
    """No others."""

    overrides: SavedOverrides | None = None
    replicated = False
    leads = True
    connected = True
    alone = True
    shares_memory = False
    plan = None
    memory = None

    async def share_memory(self, memory: Mapping[str, Any]) -> None:
        """Do nothing: no one joins."""

    def publish(self, report: Report) -> None:
        """Do nothing: no one listens."""

    def clients(self, own: Mapping[str, int]) -> Mapping[str, int]:
        """Return *own*."""
        return own

    async def offer(self, plan: Plan) -> bool:
        """Let it hold."""
        del plan
        return True

    async def update_overrides(
        self, change: Callable[[SavedOverrides | None], SavedOverrides]
    ) -> bool:
        """Do nothing: no one else has any."""
        del change
        return True
