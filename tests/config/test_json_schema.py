"""The JSON Schema that editors use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from controlplane.config import Config, config_schema

FLEET = Path(__file__).parent / "fleet.yaml"
SCHEMA = config_schema()


def example() -> Any:
    """Return the reference's example as plain values."""
    return yaml.safe_load(FLEET.read_text())


def test_the_schema_is_a_schema() -> None:
    """An editor can load it: valid under draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert "https://json-schema.org/draft/2020-12/schema" == SCHEMA["$schema"]


def test_the_schema_accepts_the_example() -> None:
    """No red line where nothing is wrong."""
    jsonschema.validate(example(), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sties": []}, id="an unknown key"),
        pytest.param({"version": 2}, id="another version"),
        pytest.param({"sites": []}, id="no site"),
        pytest.param({"steering": {"policy": "best"}}, id="an unknown policy"),
        pytest.param({"steering": {"period": 5}}, id="a bare number for a duration"),
        pytest.param({"steering": {"period": "5 fortnights"}}, id="an unknown unit"),
        pytest.param({"steering": {"probe_share": 30}}, id="a share above one"),
        pytest.param({"network": {"paths": [{"source": "a", "to": "b"}]}}, id="an internal name"),
        pytest.param({"envoy": {"port": 0}}, id="port 0"),
    ],
)
def test_the_schema_refuses_what_the_check_refuses(change: dict[str, object]) -> None:
    """An editor underlines what one value alone has wrong."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example() | change, SCHEMA)


def test_every_default_in_the_schema_is_valid_as_it_stands() -> None:
    """What an editor fills in is accepted."""
    checked = 0
    for mapping in [SCHEMA, *SCHEMA["$defs"].values()]:
        for prop in mapping.get("properties", {}).values():
            if "default" in prop:
                # What `jsonschema.validate` adds, checking the schema itself, was done above once.
                schema = {**prop, "$defs": SCHEMA["$defs"]}
                jsonschema.Draft202012Validator(schema).validate(prop["default"])
                checked += 1

    assert checked > 30


def test_every_mapping_and_key_of_the_top_is_described() -> None:
    """An operator reads in the editor what a mapping is for."""
    undescribed = [
        name
        for name, mapping in SCHEMA["$defs"].items()
        if "description" not in mapping and mapping.get("type") == "object"
    ]

    assert [] == undescribed
    assert set(Config.model_fields) == set(SCHEMA["properties"])
