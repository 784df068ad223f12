"""Numbers with units, as operators write them, to SI floats.

``250ms`` is 0.25 s, ``30%`` is 0.3, ``2MB`` is 2e6 bytes, ``100Mbps`` is 12.5e6 bytes a second,
``8kW`` is 8000 W. A bare number is refused where a unit is needed, so that no one has to guess;
0 needs none. Shares may be bare (``0.3``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_NUMBER = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z%]*)\s*$")

DURATIONS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZES = {
    "B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9,
    "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
}  # fmt: skip
BANDWIDTHS = {"bps": 1 / 8, "kbps": 1e3 / 8, "Mbps": 1e6 / 8, "Gbps": 1e9 / 8}
PERCENT = {"%": 0.01}
POWERS = {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6}

MOST = 1e11
"""Largest quantity in SI units: 3,000 years, 100 GB, 100 GW. google.protobuf.Duration, in which
Envoy takes durations, ends at 3.2e11 s."""
NEVER = math.inf
"""The penalty that excludes a model."""


def parse_quantity(value: object, units: Mapping[str, float], kind: str, example: str) -> float:
    """Turn *value* into SI units.

    Raises:
        PydanticCustomError: with what is wrong and an example of what would be right.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value == 0:
            return 0.0
        raise PydanticCustomError(
            "unit_missing",
            "{value} has no unit; write a {kind} such as {example}",
            {"value": str(value), "kind": kind, "example": example},
        )
    matched = _NUMBER.match(value) if isinstance(value, str) else None
    if matched is None or (matched[2] not in units and float(matched[1]) != 0):
        raise PydanticCustomError(
            "unit_wrong",
            "'{value}' is not a {kind}; write one such as {example} (units: {units})",
            {"value": str(value), "kind": kind, "example": example, "units": ", ".join(units)},
        )
    quantity = float(matched[1]) * units.get(matched[2], 1.0)
    if quantity > MOST:
        raise PydanticCustomError(
            "too_much", "'{value}' is more than anything here can be", {"value": str(value)}
        )
    return quantity


def parse_duration(value: object) -> float:
    """Seconds."""
    return parse_quantity(value, DURATIONS, "duration", "250ms or 1s")


def parse_penalty(value: object) -> float:
    """Seconds; ``never`` is infinity."""
    if value == "never":
        return NEVER
    return parse_quantity(value, DURATIONS, "duration", "80ms (or 'never')")


def parse_size(value: object) -> float:
    """Bytes."""
    return parse_quantity(value, SIZES, "size", "2MB")


def parse_bandwidth(value: object) -> float:
    """Bytes a second."""
    return parse_quantity(value, BANDWIDTHS, "rate", "100Mbps")


def parse_power(value: object) -> float:
    """Watts."""
    return parse_quantity(value, POWERS, "power", "300W or 8kW")


def parse_share(value: object) -> float:
    """0 to 1; ``30%`` or ``0.3``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        share = float(value)
    else:
        share = parse_quantity(value, PERCENT, "share", "30% or 0.3")
    if not 0 <= share <= 1:
        raise PydanticCustomError(
            "share_range",
            "'{value}' is not a share; it must lie between 0% and 100% (0.3 is 30%)",
            {"value": str(value)},
        )
    return share


def _above_zero(value: float) -> float:
    if value <= 0:
        raise PydanticCustomError("not_positive", "must be longer than 0")
    return value


def quantity_schema(
    units: Mapping[str, float], example: str, *, also: str = "", bare: float = 0.0
) -> WithJsonSchema:
    """Return the JSON Schema of a quantity: text with a unit, *also*, or a number up to *bare*."""
    number = r"([0-9]+(\.[0-9]+)?|\.[0-9]+)"
    forms = [rf"{number}\s*({'|'.join(units)})", r"0+(\.0+)?", *([also] if also else [])]
    return WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": rf"^\s*({'|'.join(forms)})\s*$",
            "minimum": 0,
            "maximum": bare,
            "examples": [example],
        }
    )


_DURATION = quantity_schema(DURATIONS, "250ms")

Duration = Annotated[float, BeforeValidator(parse_duration), _DURATION]
PositiveDuration = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_above_zero), _DURATION
]
Penalty = Annotated[
    float, BeforeValidator(parse_penalty), quantity_schema(DURATIONS, "80ms", also="never")
]
Size = Annotated[float, BeforeValidator(parse_size), quantity_schema(SIZES, "2MB")]
Bandwidth = Annotated[
    float, BeforeValidator(parse_bandwidth), quantity_schema(BANDWIDTHS, "100Mbps")
]
Power = Annotated[float, BeforeValidator(parse_power), quantity_schema(POWERS, "300W")]
Share = Annotated[float, BeforeValidator(parse_share), quantity_schema(PERCENT, "30%", bare=1.0)]
