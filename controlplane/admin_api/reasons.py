"""Instances that get no requests, grouped by reason, for terminal, API and dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_UNLISTED = re.compile(r"runs \S+, which the service does not list")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?=(?: (?:ms|s)\b|%))")


def group_reasons(excluded: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return reason -> names, most names first; reasons that differ in a number only are one."""
    unlisted = []
    texts = []
    for item in excluded:
        if _UNLISTED.fullmatch(item["reason"]):
            unlisted.append(item["instance"])
        else:
            texts.append((item["instance"], item["reason"]))
    grouped = sorted(group_texts(texts), key=lambda group: -len(group[1]))
    if unlisted:  # last: it is what an operator meant
        grouped.append(("the service does not list its model", unlisted))
    return grouped


def group_texts(texts: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return text -> names, in the order of the first, of pairs of name and text.

    Texts that differ only in durations and percentages are one, which says from what to what.
    """
    groups: dict[tuple[str, ...], list[tuple[str, list[str]]]] = {}
    for name, text in texts:
        # An odd number of pieces: words and numbers in turn.
        pieces = _NUMBER.split(text)
        groups.setdefault(tuple(pieces[::2]), []).append((name, pieces[1::2]))
    grouped = []
    for words, members in groups.items():
        columns = zip(*(values for _, values in members), strict=True)
        numbers = [*map(_range, columns), ""]
        text = "".join(f"{word}{number}" for word, number in zip(words, numbers, strict=True))
        grouped.append((text, [name for name, _ in members]))
    return grouped


def _range(values: Sequence[str]) -> str:
    low, high = min(values, key=float), max(values, key=float)
    return low if float(low) == float(high) else f"{low} to {high}"
