"""The file and the API accept the same overrides."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from controlplane.config import parse_config
from controlplane.controller.override_requests import OverrideError, parse_request
from controlplane.errors import ConfigError

FLEET: dict[str, Any] = {
    "version": 1,
    "sites": [{"name": "north", "kind": "edge"}, {"name": "south", "kind": "edge"}],
    "models": [{"name": "m"}, {"name": "n"}],
    "services": [{"name": "chat", "match": [{"path": "/"}], "models": [{"name": "m"}]}],
    "instances": [
        {"name": "a", "site": "north", "address": "10.0.0.1:80", "model": "m"},
        {"name": "b", "site": "south", "address": "10.0.0.2:80", "model": "n"},
    ],
}
VALUES: dict[str, tuple[Any, ...]] = {
    "instance": (None, "a", "b", "x"),
    "site": (None, "north", "x"),
    "service": (None, "chat"),
    "drain": (None, True),
    "pin": (None, True),
    "max_share": (None, "30%", 1.0),
    "min_share": (None, "50%"),
}
CASES = [
    {key: value for key, value in zip(VALUES, values, strict=True) if value is not None}
    for values in itertools.product(*VALUES.values())
]


def accepted_in_file(override: dict[str, Any]) -> bool:
    """Return whether a file with *override* is valid."""
    try:
        parse_config(json.dumps({**FLEET, "overrides": [override]}), file="f")
    except ConfigError:
        return False
    return True


def accepted_by_api(override: dict[str, Any]) -> bool:
    """Return whether the API takes *override*."""
    body = {**override, "for": "10m", "reason": "r", "by": "b"}
    try:
        parse_request(json.dumps(body).encode(), parse_config(json.dumps(FLEET), file="f"))
    except OverrideError:
        return False
    return True


@pytest.mark.parametrize("instance", VALUES["instance"])
def test_both_accept_the_same(instance: str | None) -> None:
    """Every combination of place and effect."""
    cases = [case for case in CASES if case.get("instance") == instance]
    assert [] == [case for case in cases if accepted_in_file(case) != accepted_by_api(case)]


def test_a_drain_with_a_limit_is_accepted() -> None:
    """It contradicts nothing: no share is within every limit."""
    assert accepted_in_file({"site": "north", "drain": True, "max_share": "30%"})
    assert accepted_by_api({"site": "north", "drain": True, "max_share": "30%"})
