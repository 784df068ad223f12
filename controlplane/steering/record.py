"""A plan as a document and back: what is served of it, without the reasons.

For the disk and for other replicas. Anyone who reads one checks it as input from outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from controlplane.config import PolicyName
from controlplane.steering.plan import Allocation, Assignment, Plan


def encode_plan(plan: Plan) -> dict[str, Any]:
    """Return a JSON-ready document."""
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
                "probes": dict(plan.probes.get((assignment.service, assignment.client_site), {})),
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
    probes = {
        (a.service, a.client_site): found
        for a, item in zip(assignments, document["assignments"], strict=True)
        if (found := _decode_probes(item.get("probes", {}), a))
    }
    return Plan(
        version=str(document["version"]),
        at=at,
        assignments={(a.service, a.client_site): a for a in assignments},
        predicted_cost=float(document["predicted_cost"]),
        probes=probes,
    )


def _decode_probes(item: Mapping[str, Any], assignment: Assignment) -> dict[str, float]:
    used = {each.instance for each in assignment.allocations if each.priority == 0}
    probes = {str(instance): float(part) for instance, part in item.items()}
    if not all(name in used and 0 < part <= 1 for name, part in probes.items()):
        raise ValueError(f"probes {probes!r} of {assignment.service!r}")
    if probes and probes.keys() == used:
        raise ValueError(f"nothing but probes of {assignment.service!r}")
    return probes


def _decode_assignment(item: Mapping[str, Any]) -> Assignment:
    allocations = []
    for instance, site, share, weight, priority in item["to"]:
        # Envoy's weights are 32 bits wide, and its priorities go up to 127.
        if not (
            isinstance(weight, int)
            and 1 <= weight < 1 << 32
            and 0 <= share <= 1
            and 0 <= priority <= 127
        ):
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
    demand = float(item["demand"])
    if not 0 <= demand < math.inf:
        raise ValueError(f"demand {demand!r} of {item['service']!r}")
    drop = float(item.get("drop", 0.0))
    if not 0 <= drop <= 1:
        raise ValueError(f"part {drop!r} refused of {item['service']!r}")
    return Assignment(
        service=str(item["service"]),
        client_site=str(item["from"]),
        policy=PolicyName(item["policy"]),
        allocations=tuple(allocations),
        demand=demand,
        note=str(item["note"]),
        drop=drop,
        standing=PolicyName(standing) if (standing := item.get("standing")) else None,
    )
