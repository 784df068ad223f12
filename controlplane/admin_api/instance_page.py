"""Everything about one instance: what it says, what is believed, who sends to it and why.

Units and conventions are those of `controlplane.admin_api.documents`.
"""

from __future__ import annotations

from typing import Any

from controlplane.admin_api.documents import (
    encode_instance,
    encode_levels,
    encode_outcomes,
    encode_traffic,
)
from controlplane.fleet.view import FleetView
from controlplane.steering.plan import Plan
from controlplane.telemetry.levels import Levels

Document = dict[str, Any]


def encode_instance_page(
    view: FleetView, plan: Plan, name: str, *, levels: Levels | None, epoch: float
) -> Document:
    """Return ``/api/v1/instance`` of the instance *name*, which is in *view*."""
    item, now = view.instances[name], view.at
    return {
        "at": now + epoch,
        **encode_instance(item, now=now),
        "levels": encode_levels(levels),
        "slots": item.instance.slots,
        "senders": _senders(plan, name),
        "excluded": _exclusions(plan, view, name),
        "traffic": [
            encode_traffic(site, service, instance, seen, now=now)
            for (site, service, instance), seen in view.traffic.items()
            if instance == name
        ],
        "outcomes": [
            encode_outcomes(instance, service, seen, now=now)
            for (instance, service), seen in view.outcomes.items()
            if instance == name
        ],
    }


def _senders(plan: Plan, name: str) -> list[Document]:
    """Return which client sites send what part of a service to the instance, the most first."""
    found: list[Document] = [
        {
            "service": service,
            "from": site,
            "share": allocation.share,
            "weight": allocation.weight,
            "priority": allocation.priority,
            "rate": allocation.share * assignment.demand if allocation.priority == 0 else 0.0,
        }
        for (service, site), assignment in plan.assignments.items()
        for allocation in assignment.allocations
        if allocation.instance == name
    ]
    found.sort(key=lambda row: (-row["rate"], row["priority"], row["service"], row["from"]))
    return found


def _exclusions(plan: Plan, view: FleetView, name: str) -> list[Document]:
    """Return why a service does not use the instance, from its own site or the first that asks."""
    home = view.instances[name].instance.site
    found: list[Document] = []
    for service in view.config.services:
        assignment = plan.assignments.get((service.name, home))
        if assignment is None:
            continue
        found += [
            {"service": service.name, "from": home, "reason": each.reason}
            for each in assignment.excluded
            if each.instance == name
        ]
    return found
