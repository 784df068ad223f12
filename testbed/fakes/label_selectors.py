"""Label selectors as the Kubernetes API understands them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_IN = re.compile(r"(?P<key>\S+)\s+(?P<no>not)?in\s+\((?P<values>[^)]*)\)")
_TERM = re.compile(r"\s*((?:[^,(]|\([^)]*\))+)\s*(?:,|$)")


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Return whether *labels* are selected; raise ValueError for what is no selector."""
    return all(_fits(term, labels) for term in _terms(selector))


def _terms(selector: str) -> Iterator[str]:
    at = 0
    while at < len(selector):
        matched = _TERM.match(selector, at)
        if matched is None:
            raise ValueError(selector[at:])
        yield matched[1].strip()
        at = matched.end()


def _fits(term: str, labels: Mapping[str, str]) -> bool:
    if (listed := _IN.fullmatch(term)) is not None:
        values = {value.strip() for value in listed["values"].split(",")}
        return (labels.get(listed["key"]) in values) != bool(listed["no"])
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return labels.get(key.strip()) == value.strip()
    if " " in term:
        raise ValueError(term)
    return (term[1:] not in labels) if term.startswith("!") else (term in labels)
