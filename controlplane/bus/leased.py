"""What joined replicas have in common, whatever joins them: a lease says which one decides."""

from __future__ import annotations

import asyncio
import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from controlplane.bus.lease import Lease
from controlplane.bus.presence import Presence
from controlplane.errors import ReportError
from controlplane.model import Report

WARM_UP = 10.0
"""Seconds of listening after which a replica knows enough to lead."""
ALONE_AFTER = 15.0
"""Seconds without the bus after which a replica that has nothing to serve decides for itself."""
RESIGNED_FOR = 60.0
"""Seconds for which a replica that gave the lead up lets every other one go first."""


class LeasedBus(ABC):
    """One replica's end of a bus.

    Args:
        lease: as far as this replica knows it.
        on_report: takes the others' reports; may refuse one with `ReportError`.
        on_change: called when leader, plan or overrides are others, with what happened.
        count: called with ``sent``, ``received``, ``refused`` or ``dropped`` and a number.
        clock: seconds, monotonic; the control plane's.

    Attributes:
        me: this replica's name.
        may_lead: whether this replica could decide: one that still waits must not hold the lease.
    """

    replicated = True
    unreachable: ClassVar[tuple[type[Exception], ...]]
    """What anything asked of the store of the lease may end with."""

    def __init__(
        self,
        lease: Lease,
        *,
        on_report: Callable[[Report], None],
        on_change: Callable[[str], None],
        count: Callable[[str, int], None],
        clock: Callable[[], float],
    ) -> None:
        self.me = lease.me
        self.may_lead = True
        self._lease = lease
        self._on_report = on_report
        self._on_change = on_change
        self._count = count
        self._clock = clock
        self._presence = Presence(clock=clock)
        self._led = False
        self._resigned_until = -math.inf
        self._releasing = False
        """Whether the lease was given up, and the store may not say so yet."""
        self._heard_at = clock()
        self._joined_at: float | None = None
        self._known = asyncio.Event()
        """Set once a plan that is there is known, or that there is none."""
        self._hint = asyncio.Event()
        """Set where the store is to be read at once."""

    @abstractmethod
    async def _release(self) -> None:
        """Write that no replica holds the lease."""

    @property
    def replicas(self) -> int:
        """Return how many other replicas were heard lately."""
        return self._presence.replicas

    def clients(self, own: Mapping[str, int]) -> Mapping[str, int]:
        """Return the clients of all replicas by site, from this one's *own*."""
        self._presence.own = own
        return self._presence.clients()

    @property
    def leads(self) -> bool:
        """Return whether this replica holds the lease."""
        return self._lease.holds(now=self._clock())

    @property
    def alone(self) -> bool:
        """Return whether the bus was away for so long that an empty replica may begin."""
        return self._clock() - self._heard_at > ALONE_AFTER

    @property
    def may_resign(self) -> bool:
        """Return whether another replica is there to lead, and this one did not resign lately."""
        return self.replicas > 0 and self._clock() >= self._resigned_until

    async def resign(self) -> None:
        """Release the lease to another replica, which may hear what this one does not.

        Where no other takes it, this one does again after `lease.STAND_BACK`.
        """
        self._resigned_until = self._clock() + RESIGNED_FOR
        self._lease.refused()
        self._releasing = True
        with contextlib.suppress(*self.unreachable):
            await self._release()
        self._hint.set()

    async def wait_for_look(self, *, within: float) -> bool:
        """Wait until a plan that is there is known; return whether it is, or that there is none."""
        try:
            async with asyncio.timeout(within):
                await self._known.wait()
        except TimeoutError:
            return False
        return True

    def _is_warm(self, now: float) -> bool:
        return self._joined_at is not None and now - self._joined_at > WARM_UP

    def _report_leadership(self) -> None:
        if self.leads != self._led:
            self._led = self.leads
            self._on_change("this replica leads" if self._led else "this replica follows")

    async def _wait_for_hint(self, period: float) -> None:
        """Wait until the store is to be read again, *period* seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(period):
                await self._hint.wait()
        self._hint.clear()

    def _receive_reports(self, reports: Iterable[Report], *, refused: int) -> None:
        received = tuple(reports)
        self._count("refused", refused)
        self._count("received", len(received))
        for report in received:
            with contextlib.suppress(ReportError):
                self._on_report(report)
