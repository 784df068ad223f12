"""What is true of the fleet now: reports in, a frozen view out.

Freshness, plausibility and availability are decided here.
"""

from controlplane.fleet.state import FleetState
from controlplane.fleet.view import (
    FleetView,
    InstanceView,
    Outcomes,
    OutcomeView,
    PathView,
    Phase,
    TrafficView,
)

__all__ = [
    "FleetState",
    "FleetView",
    "InstanceView",
    "OutcomeView",
    "Outcomes",
    "PathView",
    "Phase",
    "TrafficView",
]
