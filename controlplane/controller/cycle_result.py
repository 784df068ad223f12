"""What one cycle came to, for everyone who reports or measures it."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.controller.decider import Decision
from controlplane.fleet.view import FleetView
from controlplane.resources.views import Fault


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What one cycle came to."""

    view: FleetView
    decision: Decision | None
    """None if this replica neither decided nor had a plan to follow."""
    plan_changed: bool = False
    views_changed: bool = False
    followed: bool = False
    """Whether the plan is the leader's, not one decided here."""
    reason: str = "period"
    """Why the cycle ran."""
    faults: tuple[Fault, ...] = ()
    """Resources that Envoys would refuse, and that were not published in their new form."""
    build_seconds: float = 0.0
    """What building the resources took of *elapsed*."""
    elapsed: float = 0.0
    """Seconds from the beginning until the resources were published."""

    @property
    def outcome(self) -> str:
        """Return what became of the plan: published, held or unchanged."""
        if self.views_changed:
            return "published"
        return "held" if self.decision is not None and self.decision.plan.held else "unchanged"
