"""A plan as a document and back: what is served of it, without the reasons.

For the disk and for other replicas. Whoever reads one checks it as input from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.config import PolicyName
from controlplane.steering.plan import Allocation, Assignment, Plan


def encode_plan(plan: Plan) -> dict[str, Any]:
    """Give a JSON-ready document."""
    return {
        "version": plan.version,
        "predicted_cost": plan.predicted_cost,
        "assignments": [
            {
                "service": assignment.service,
                "from": assignment.client_site,
                "policy": assignment.policy.value,
                "demand": assignment.demand,
                "note": assignment.note,
                "drop": assignment.drop,
                "standing": assignment.standing and assignment.standing.value,
                "to": [
                    [a.instance, a.site, a.share, a.weight, a.priority]
                    for a in assignment.allocations
                ],
            }
            for assignment in plan.assignments.values()
        ],
    }


def decode_plan(document: Mapping[str, Any], *, at: float) -> Plan:
    """Read what `encode_plan` gave; the plan is dated *at*.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no such document.
    """
    assignments = [_decode_assignment(item) for item in document["assignments"]]
    return Plan(
        version=str(document["version"]),
        at=at,
        assignments={(a.service, a.client_site): a for a in assignments},
        predicted_cost=float(document["predicted_cost"]),
    )


def _decode_assignment(item: Mapping[str, Any]) -> Assignment:
    allocations = []
    for instance, site, share, weight, priority in item["to"]:
        if not (isinstance(weight, int) and weight >= 1 and 0 <= share <= 1 and priority >= 0):
            raise ValueError(f"share {share!r}, weight {weight!r} of {instance!r}")
        allocations.append(
            Allocation(
                instance=str(instance),
                site=str(site),
                share=float(share),
                weight=weight,
                priority=int(priority),
            )
        )
    drop = float(item.get("drop", 0.0))
    if not 0 <= drop <= 1:
        raise ValueError(f"part {drop!r} refused of {item['service']!r}")
    return Assignment(
        service=str(item["service"]),
        client_site=str(item["from"]),
        policy=PolicyName(item["policy"]),
        allocations=tuple(allocations),
        demand=float(item["demand"]),
        note=str(item["note"]),
        drop=drop,
        standing=PolicyName(standing) if (standing := item.get("standing")) else None,
    )
