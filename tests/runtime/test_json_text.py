"""JSON that every parser reads."""

from __future__ import annotations

import json
import math

from controlplane.runtime.json_text import dump


def test_numbers_that_json_lacks_are_null() -> None:
    """However deep they are; the rest is unchanged."""
    document = {"a": [math.inf, {"b": math.nan}], "c": 1.5, "d": "x"}
    assert {"a": [None, {"b": None}], "c": 1.5, "d": "x"} == json.loads(dump(document))
