"""Instances that get no requests, grouped by reason, for terminal, API and dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_UNLISTED = re.compile(r"runs \S+, which the service does not list")
_MILLISECONDS = re.compile(r"(\d+(?:\.\d+)?) ms")


def group_reasons(excluded: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return reason -> names, most names first; reasons that differ in a duration only are one."""
    groups: dict[str, list[tuple[str, list[float]]]] = {}
    unlisted: list[str] = []
    for item in excluded:
        if _UNLISTED.fullmatch(item["reason"]):
            unlisted.append(item["instance"])
            continue
        found = [float(value) for value in _MILLISECONDS.findall(item["reason"])]
        groups.setdefault(_MILLISECONDS.sub("{} ms", item["reason"]), []).append(
            (item["instance"], found)
        )
    grouped = []
    for reason, members in groups.items():
        ranges = [_range(column) for column in zip(*(values for _, values in members), strict=True)]
        text = reason
        for between in ranges:
            text = text.replace("{} ms", f"{between} ms", 1)
        grouped.append((text, [name for name, _ in members]))
    grouped.sort(key=lambda group: -len(group[1]))
    if unlisted:  # last: it is what an operator meant
        grouped.append(("the service does not list its model", unlisted))
    return grouped


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in
                 (min(values), max(values)))  # fmt: skip
    return low if low == high else f"{low} to {high}"
