"""One experiment, whole: a fleet, what happens to it, how well it is observed, what is measured.

A trial holds no random choice: together with a seed it is one set of requests, which every policy
meets alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.sim.autoscaler import ScalingRules
from controlplane.sim.happenings import Happening
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.true_fleet import Fleet

Window = tuple[str, float, float]
"""(name, start, end), seconds; requests belong to the window in which they arrive."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is simulated, under a policy that is chosen apart from it."""

    name: str
    fleet: Fleet
    duration: float
    """Seconds in which requests arrive."""
    windows: tuple[Window, ...]
    events: tuple[Happening, ...] = ()
    period: float = 1.0
    """Seconds between decisions of baselines; the control plane has its configuration's."""
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    scaling: ScalingRules | None = None
    """How pools are scaled, for the policies that do."""
