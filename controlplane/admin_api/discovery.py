"""How the rules of discovery fare, as values and for people."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.admin_api.documents import Document
from controlplane.config import Refused

REFUSED_SHOWN = 20
"""Refused instances of a rule that are listed; more are only counted."""


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """One rule now."""

    name: str
    kind: str
    listed: bool
    """Whether its objects were ever known to this process."""
    age: float | None
    """Seconds since the API last said how things are; none if it never did."""
    reason: str = ""
    """Why the API does not answer; empty while it does."""
    remedy: str = ""
    instances: int = 0
    """That take part."""
    held: int = 0
    """Among these, those that are there no longer but whose service nothing else serves."""
    cluster: str = ""
    """Where it looks; empty for the cluster of ``discovery.api``."""
    refused: tuple[Refused, ...] = ()


def encode_rules(rules: tuple[RuleStatus, ...]) -> list[Document]:
    """Give the part ``discovery`` of ``/api/v1/fleet``."""
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
            "refused_count": len(rule.refused),
            "refused": [
                {"name": each.name, "clash": each.clash.value, "message": each.message}
                for each in rule.refused[:REFUSED_SHOWN]
            ],
        }
        for rule in rules
    ]
