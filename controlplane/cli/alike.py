"""Instances that a reader need not distinguish: nearly equal ones are one line, few lines in all.

Nothing is averaged: a line shows one instance's own figures, and how many others are like it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from controlplane.cli.text import ASSUMED, milliseconds, percent

Document = Mapping[str, Any]
FEW = 10
"""Instances up to which each has a line of its own."""
LEAST = 3
"""Nearly equal instances from which one line stands for them."""
MOST = 12
"""Lines of instances; those with the least of the requests are summed up in one."""
NEAR = 0.1
"""By how much of the larger one shares and costs of nearly equal instances differ at most."""
_TERM = 0.05
"""By how much of the cost a term of it differs at most."""
_OPEN = 40
"""Groups that an instance is compared with: beyond them the shares differ anyway."""
_FLOORS = {
    "share": 0.0005,
    "previous_share": 0.01,
    "load": 0.05,
    "confidence": 0.1,
    "marginal_cost": 0.001,
}
"""Differences that no reader minds, however large they are in proportion; times in seconds."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(slots=True)
class Alike:
    """Nearly equal instances.

    Attributes:
        items: their documents, as ``/api/v1/explain`` has them; at least one.
        low, high: the least and the largest of each value.
    """

    items: list[Document]
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The share of all of them together."""
        return fsum(item["share"] for item in self.items)

    @property
    def shown(self) -> Document:
        """The one whose figures stand for all: in the middle by share."""
        ranked = sorted(self.items, key=lambda item: (item["share"], item["instance"]))
        return ranked[(len(ranked) - 1) // 2]

    def add(self, item: Document, values: Mapping[str, float]) -> bool:
        """Add *item* if its *values* are near to those of all others; return whether."""
        low = {name: min(self.low.get(name, value), value) for name, value in values.items()}
        high = {name: max(self.high.get(name, value), value) for name, value in values.items()}
        a_term = max(_FLOORS["marginal_cost"], _TERM * abs(high.get("marginal_cost", 0.0)))
        for name, most in high.items():
            largest = NEAR * max(abs(most), abs(low[name]))
            allowed = max(_FLOORS[name], largest) if name in _FLOORS else a_term
            if most - low[name] > allowed:
                return False
        self.items.append(item)
        self.low, self.high = low, high
        return True


def group_alike(items: Sequence[Document]) -> list[Alike]:
    """Return *items* with nearly equal ones together, in the order of their first.

    Equal are site, limits and what is assumed, and near are shares, loads and terms; a group of
    fewer than `LEAST`, and all of few items, stand alone.
    """
    if len(items) <= FEW:
        return [Alike([item]) for item in items]
    kinds: dict[Any, list[Alike]] = {}
    for item in sorted(items, key=lambda item: item["share"]):
        groups = kinds.setdefault(_kind(item), [])
        values = _values(item)
        if not any(group.add(item, values) for group in reversed(groups[-_OPEN:])):
            groups.append(Alike([item], dict(values), dict(values)))
    place = {item["instance"]: index for index, item in enumerate(items)}
    found = []
    for group in (group for groups in kinds.values() for group in groups):
        found += [group] if len(group.items) >= LEAST else [Alike([item]) for item in group.items]
    return sorted(found, key=lambda group: min(place[item["instance"]] for item in group.items))


def most_used(groups: Sequence[Alike]) -> tuple[list[Alike], list[Document]]:
    """Return at most `MOST` groups, those with most of the requests, and the items of the rest."""
    if len(groups) <= MOST:
        return list(groups), []
    # One line says what was left out.
    ranked = sorted(groups, key=lambda group: -group.share)[: MOST - 1]
    kept = {id(group) for group in ranked}
    shown = [group for group in groups if id(group) in kept]
    return shown, [item for group in groups if id(group) not in kept for item in group.items]


def rest_words(rest: Sequence[Document]) -> str:
    """Say how many are not shown, what they get together, and what it costs there."""
    text = f"and {len(rest)} more with {percent(fsum(item['share'] for item in rest))} in all"
    costs = [item["marginal_cost"] for item in rest if "marginal_cost" in item]
    if costs:
        low, high = milliseconds(min(costs)), milliseconds(max(costs))
        text += f", cost {low} ms" if low == high else f", cost {low} to {high} ms"
    return text


def _kind(item: Document) -> tuple[Any, ...]:
    """Return what must be equal."""
    limits = tuple(_NUMBER.sub("#", limit) for limit in item.get("limits", ()))
    sources = item.get("sources", {})
    assumed = frozenset(name for name, source in sources.items() if source in ASSUMED)
    return item["site"], limits, assumed, "terms" in item


def _values(item: Document) -> dict[str, float]:
    """Return what must be near."""
    values = {"share": item["share"]}
    if "terms" in item:
        values |= {name: item[name] for name in ("previous_share", "confidence", "marginal_cost")}
        values["load"] = item["arrival_rate"] / item["capacity"] if item["capacity"] else 0.0
        values |= {f"term {name}": value or 0.0 for name, value in item["terms"].items()}
    return values
