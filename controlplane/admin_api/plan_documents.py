"""A plan and its explanations as the API's documents; loads nothing of Envoy's.

Units and conventions are those of `controlplane.admin_api.documents`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controlplane.admin_api.documents import encode_failing, encode_state
from controlplane.admin_api.reasons import group_reasons
from controlplane.fleet.view import FleetView, Phase
from controlplane.steering.outcomes import predicted_latency
from controlplane.steering.plan import Allocation, Assignment, Exclusion, Plan, Why

Document = dict[str, Any]


def encode_plan(plan: Plan, *, epoch: float) -> Document:
    """Return ``/api/v1/plan``."""
    services: dict[str, dict[str, dict[str, list[Document]]]] = {}
    for (service, site), assignment in plan.assignments.items():
        services.setdefault(service, {"from": {}})["from"][site] = [
            encode_allocation(allocation) for allocation in assignment.allocations
        ]
    return {
        "version": plan.version,
        "at": plan.at + epoch,
        "held": plan.held,
        "predicted_cost": plan.predicted_cost,
        "services": services,
        "canaries": [
            document
            for assignment in plan.assignments.values()
            if (document := encode_canary(plan, assignment)) is not None
        ],
    }


def encode_canary(plan: Plan, assignment: Assignment) -> Document | None:
    """Return what a canary does beside what the standing policy would; None if it is no canary."""
    if assignment.standing is None:
        return None
    standing = plan.standing.get((assignment.service, assignment.client_site))
    return {
        "service": assignment.service,
        "from": assignment.client_site,
        "policy": assignment.policy.value,
        "predicted_latency": predicted_latency(assignment),
        "standing": {
            "policy": assignment.standing.value,
            "predicted_latency": None if standing is None else predicted_latency(standing),
            "instances": []
            if standing is None
            else [encode_allocation(item) for item in standing.allocations],
        },
    }


def encode_allocation(allocation: Allocation) -> Document:
    """Return one instance's part in an assignment."""
    return {
        "instance": allocation.instance,
        "site": allocation.site,
        "share": allocation.share,
        "weight": allocation.weight,
        "priority": allocation.priority,
    }


def encode_explanation(
    plan: Plan,
    assignment: Assignment,
    *,
    epoch: float,
    envoys: Sequence[Mapping[str, Any]] = (),
    view: FleetView | None = None,
) -> Document:
    """Return ``/api/v1/explain``: why each weight is what it is, times in seconds.

    Args:
        plan: the plan that *assignment* is part of.
        assignment: the pair that was asked for.
        epoch: Unix time of the monotonic clock's zero.
        envoys: the client site's Envoys, each with what it acknowledged of this service.
        view: the fleet, for the states of the instances; without it none is listed.
    """
    instances = [
        {**encode_allocation(item), **(_encode_why(why) if (why := item.why) else {})}
        for item in assignment.allocations
    ]
    excluded = [_encode_exclusion(item) for item in assignment.excluded]
    return {
        "service": assignment.service,
        "from": assignment.client_site,
        "policy": assignment.policy.value,
        "note": assignment.note,
        "drop": assignment.drop,
        "demand": assignment.demand,
        "demand_source": _demand_source(instances),
        "predicted_latency": _mean_latency(instances),
        "plan": plan.version,
        "held": plan.held,
        "gap": plan.gap,
        "at": plan.at + epoch,
        "promises": _encode_promises(plan, assignment.service),
        "instances": instances,
        "excluded": excluded,
        "excluded_by_reason": [
            {"reason": reason, "instances": names} for reason, names in group_reasons(excluded)
        ],
        "canary": encode_canary(plan, assignment),
        "envoys": list(envoys),
        "states": _encode_states([*instances, *excluded], view),
        "failing": [
            encode_failing(item, now=plan.at)
            for item in plan.failing
            if item.service == assignment.service
        ],
    }


def _encode_promises(plan: Plan, service: str) -> Document:
    """Return what is foreseen of the service's promises, by kind; times in seconds."""
    return {
        kind: {
            "limit": each.limit,
            "predicted": each.predicted,
            "attainment": each.attainment,
            "binds": each.binds,
            "charge": each.charge,
            "missed_by": each.missed_by,
        }
        for (name, kind), each in plan.promises.items()
        if name == service
    }


def _encode_states(items: Iterable[Document], view: FleetView | None) -> list[Document]:
    """Return the states of the instances among *items* that are not plainly live."""
    if view is None:
        return []
    shown = [
        view.instances[each["instance"]] for each in items if each["instance"] in view.instances
    ]
    return [
        encode_state(item, now=view.at)
        for item in shown
        if item.phase is not Phase.LIVE or item.reason or item.disbelieved
    ]


def _demand_source(instances: Iterable[Document]) -> str:
    """Return where the demand comes from, as the shares' terms say; "unknown" if none does."""
    sources = (item["sources"].get("demand") for item in instances if "sources" in item)
    return next(filter(None, sources), "unknown")


def _mean_latency(instances: Iterable[Document]) -> float | None:
    """Return the predicted mean over the first priority; None where the plan does not say."""
    first = [item for item in instances if not item["priority"]]
    if not first or any("predicted_latency" not in item for item in first):
        return None
    return math.fsum(item["share"] * item["predicted_latency"] for item in first)


def _encode_why(why: Why) -> Document:
    return {
        "terms": {
            "rtt": why.rtt,
            "transfer": why.transfer,
            "service": why.service,
            "queueing": why.queueing,
            "penalty": why.penalty,
            "energy": why.energy,
            "carbon": why.carbon,
            "price": why.price,
            "loading": why.loading,
            "failure": why.failure,
            "promise": why.promise,
            "crowding": why.crowding,
        },
        "predicted_latency": why.predicted_latency,
        "marginal_cost": why.marginal_cost,
        "prefix_loss": why.prefix_loss,
        "least_gain": why.least_gain,
        "arrival_rate": why.arrival_rate,
        "capacity": why.capacity,
        "confidence": why.confidence,
        "previous_share": why.previous_share,
        "limits": list(why.limits),
        "ages": {name: None if age is None else round(age, 6) for name, age in why.ages.items()},
        "sources": dict(why.sources),
    }


def _encode_exclusion(item: Exclusion) -> Document:
    return {"instance": item.instance, "site": item.site, "reason": item.reason}
