"""What is true of the fleet now: reports in, a frozen view out.

Freshness, plausibility and availability are decided here.
"""

from controlplane.fleet.path_view import PathView
from controlplane.fleet.state import FleetState
from controlplane.fleet.traffic_view import Outcomes, OutcomeView, TrafficView
from controlplane.fleet.view import FleetView, InstanceView, Phase

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
