"""The JSON Schema of ``fleet.yaml``, for editors that complete and check as one types.

It is derived from `controlplane.config.schema`; what compares several values
(`controlplane.config.references`) is beyond a JSON Schema and stays with ``cats check``.
"""

from __future__ import annotations

from typing import Any

from controlplane.config.schema import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of the configuration, with operators' key names."""
    schema = Config.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": DIALECT, **schema, "title": "fleet.yaml"}
