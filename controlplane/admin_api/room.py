"""`GET /api/v1/room`: how much work that can wait fits now, where, and what more replicas win."""

from __future__ import annotations

from typing import Any

from controlplane.steering.plan import Plan, StartWish
from controlplane.steering.scaling_group import ROOM_PRICE, ScalingGroup


def encode_room(
    plan: Plan, *, epoch: float, site: str | None = None, model: str | None = None
) -> dict[str, Any]:
    """Return the groups of a plan, those with most room first.

    Args:
        plan: what is served.
        epoch: Unix time of the clock's zero.
        site: the one that is asked for; by default all.
        model: likewise.
    """

    def asked(each: ScalingGroup | StartWish) -> bool:
        return site in (None, each.site) and model in (None, each.model)

    groups = sorted(
        filter(asked, plan.scaling), key=lambda each: (-each.room_rate, each.site, each.model)
    )
    return {
        "at": epoch + plan.at,
        "price": ROOM_PRICE,
        "requests_per_second": sum(each.room_rate for each in groups),
        "groups": [_encode(each) for each in groups],
        "cold_starts": [_encode_start(each) for each in filter(asked, plan.cold_starts.values())],
    }


def _encode(group: ScalingGroup) -> dict[str, Any]:
    return {
        "site": group.site,
        "model": group.model,
        "utilisation": group.utilisation,
        "room": {"requests_per_second": group.room_rate, "concurrent": group.room_work},
        "replicas": {
            "now": group.replicas,
            "wanted": group.wanted,
            "patient": group.patient,
            "bound_by": group.bound_by or None,
            "asleep": group.asleep,
        },
        "gain": {"least": group.gain_least, "most": group.gain_most},
    }


def _encode_start(start: StartWish) -> dict[str, Any]:
    return {
        "instance": start.instance,
        "site": start.site,
        "model": start.model,
        "gain": {"least": start.gain_least, "most": start.gain_most},
        "saves": start.saves,
        "price": start.price,
        "start_up": start.start_up,
        "use": start.use,
        "unserved": list(start.unserved),
        "pending": start.pending,
        "wanted": start.wanted,
        "reason": str(start),
    }
