"""How the rules of discovery fare, as values and for people."""

from __future__ import annotations

from controlplane.admin_api.values import Document
from controlplane.controller.discovery_status import RuleStatus

REFUSED_SHOWN = 20
"""Refused instances of a rule that are listed; more are only counted."""


def encode_rules(rules: tuple[RuleStatus, ...]) -> list[Document]:
    """Return the part ``discovery`` of ``/api/v1/fleet``."""
    return [
        {
            "rule": rule.name,
            "kind": rule.kind,
            "cluster": rule.cluster,
            "ok": not rule.reason,
            "listed": rule.listed,
            "reason": rule.reason,
            "remedy": rule.remedy,
            "age": None if rule.age is None else round(rule.age, 3),
            "instances": rule.instances,
            "held": rule.held,
            "matches": rule.matches,
            "refused_count": len(rule.refused),
            "refused": [
                {"name": each.name, "clash": each.conflict.value, "message": each.message}
                for each in rule.refused[:REFUSED_SHOWN]
            ],
        }
        for rule in rules
    ]
