"""The JSON Schema of ``fleet.yaml``, for editors that complete and check as one types.

It is derived from `controlplane.config.schema`; what compares several values
(`controlplane.config.rules`) is beyond a JSON Schema and stays with ``cats check``.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from controlplane.config.schema import Config
from controlplane.config.units import BANDWIDTHS, SIZES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_UNITS = {
    "250ms": ("s", 1.0),
    "80ms": ("s", 1.0),
    "2MB": ("MB", SIZES["MB"]),
    "100Mbps": ("Mbps", BANDWIDTHS["Mbps"]),
    "300W": ("W", 1.0),
    "30%": ("%", 0.01),
}
"""Unit in which a default is written, by the example that its quantity carries."""


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the configuration, with operators' key names."""
    return model_schema(Config, title="fleet.yaml")


def model_schema(model: type[BaseModel], *, title: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file that *model* reads."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    _as_written(schema)
    return {"$schema": DIALECT, **schema, "title": title}


def _as_written(node: Any) -> None:
    """Rewrite every default as an operator would write it, and drop titles that repeat keys."""
    if isinstance(node, list):
        for item in node:
            _as_written(item)
    if not isinstance(node, dict):
        return
    for key, prop in node.get("properties", {}).items():
        default = prop.get("default")
        if default is None or isinstance(default, (dict, list)):
            prop.pop("default", None)
        elif examples := prop.get("examples"):
            unit, size = _UNITS[examples[0]]
            prop["default"] = f"{default / size:g}{unit}"
        if prop.get("title", "").replace(" ", "_").lower() == key.lower():
            del prop["title"]
    for value in node.values():
        _as_written(value)
