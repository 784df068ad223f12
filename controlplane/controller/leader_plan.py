"""Which plan of the leader a follower serves: whole, in part, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controlplane.bus.local import Bus
from controlplane.controller.configuration import Configuration
from controlplane.controller.decider import covers, unknown_to
from controlplane.runtime.broadcast import Broadcast
from controlplane.runtime.throttle import LogLimit
from controlplane.steering.plan import Plan

UNFOLLOWED = 3.0
"""Seconds after which a leader's plan that cannot be served is reported; one replica hears of an
instance some moments before another."""


@dataclass(frozen=True, slots=True)
class UnfollowedPlan:
    """A leader's plan that this replica cannot serve."""

    plan: Plan
    unknown: Sequence[str]
    """What it names and the configuration lacks, or the reverse."""
    served: str
    """Version of the plan that is served instead; empty if there is none."""


class LeaderPlan:
    """The plan of all replicas against what this one can serve.

    Attributes:
        unfollowed: the leader's plan cannot be served here; published once a minute.
    """

    def __init__(
        self, configuration: Configuration, *, bus: Callable[[], Bus], clock: Callable[[], float]
    ) -> None:
        self._configuration = configuration
        self._bus = bus
        self._clock = clock
        self._unfollowed_since: float | None = None
        self._reported: LogLimit[str] = LogLimit()
        self.unfollowed = Broadcast[UnfollowedPlan]()

    @property
    def follows(self) -> bool:
        """Return whether the leader's plan can be served whole; true without another leader."""
        return self._unfollowed_since is None

    def to_follow(self, served: Plan | None) -> Plan | None:
        """Return the plan of all replicas where it replaces *served*; None to decide."""
        bus = self._bus()
        shared = bus.plan
        if shared is None:
            return None
        if bus.leads and served is not None and shared.version == served.version:
            return None
        return shared if covers(shared, self._configuration.effective) else None

    def to_fit(self, served: Plan | None) -> Plan | None:
        """Return the leader's plan if what fits of it is to be served, though not all of it does.

        At once where there is nothing else to serve; otherwise after some moments, in which this
        replica or the leader may hear of what the other one knows. Not where instances are
        discovered: what is lacking may be this replica's access to a cluster.
        """
        since = self._unfollowed_since
        if since is None or self._configuration.effective.discovery is not None:
            return None
        waited = self._clock() - since
        return self._bus().plan if served is None or waited >= UNFOLLOWED else None

    def note_followed(self) -> None:
        """Record that the leader's plan is served, or that this replica decides."""
        self._unfollowed_since = None

    def note_unfollowed(self, served: Plan | None) -> None:
        """Report, soon and then once a minute, that the leader's plan cannot be served here."""
        plan, now = self._bus().plan, self._clock()
        unknown = [] if plan is None else unknown_to(plan, self._configuration.effective)
        if plan is None or not unknown:
            self._unfollowed_since = None
            return
        if self._unfollowed_since is None:
            self._unfollowed_since = now
        if now - self._unfollowed_since >= UNFOLLOWED and self._reported.is_due("plan", now=now):
            version = "" if served is None else served.version
            self.unfollowed.publish(UnfollowedPlan(plan, unknown, version))
