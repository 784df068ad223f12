"""``telemetry.dialects``: an operator's own reading of a page of metrics.

Says in fleet.yaml what a table of `controlplane.telemetry.engines` says of an engine: under which
names each signal comes, which series count, in which unit, and how they become one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.main import BaseModel
from pydantic_core import PydanticCustomError

from controlplane.config.engine import Engine

UNITS: Mapping[str, float] = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0,
    "fraction": 1.0, "percent": 0.01, "%": 0.01,
    "W": 1.0, "kW": 1e3, "mW": 1e-3,
}  # fmt: skip
"""Unit of a metric -> factor to seconds, fractions and watts."""

MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=200)]
LabelPattern = Annotated[str, Field(max_length=200)]


def _listed(value: object) -> object:
    if isinstance(value, (str, dict)):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _unit(value: object) -> object:
    if isinstance(value, str):
        if value not in UNITS:
            raise PydanticCustomError(
                "unit",
                "{what}",
                {"what": f"is no unit; write a factor, or one of {', '.join(UNITS)}"},
            )
        return UNITS[value]
    return value


def _named(value: object) -> object:
    return {"metric": value} if isinstance(value, str) else value


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _one_or_several(schema: dict[str, Any]) -> None:
    """Let editors take a single entry for a list of one, and a bare name for a mapping."""
    items = schema.pop("items")
    one = {"anyOf": [{"type": "string"}, items]} if "$ref" in items else items
    several = {**schema, "items": one}
    kept: dict[str, Any] = {
        key: several.pop(key) for key in ("default", "description") if key in several
    }
    schema.clear()
    schema.update(kept, anyOf=[one, several])


LabelPatterns = Annotated[
    tuple[LabelPattern, ...],
    BeforeValidator(_listed),
    Field(min_length=1, json_schema_extra=_one_or_several),
]


class MetricSource(_Settings):
    """A metric that provides a signal; its bare name may be written instead."""

    metric: MetricName
    """Name of the metric."""
    where: dict[LabelName, LabelPatterns] = Field(default_factory=dict, max_length=8)
    """Label to the value or values that select series, with ``*`` as a wildcard."""
    unless: dict[LabelName, LabelPatterns] = Field(default_factory=dict, max_length=8)
    """Label to the value or values that exclude series, with ``*`` as a wildcard."""
    unit: Annotated[
        float,
        BeforeValidator(_unit),
        Field(gt=0, allow_inf_nan=False),
        WithJsonSchema(
            {"anyOf": [{"enum": list(UNITS)}, {"type": "number", "exclusiveMinimum": 0}]}
        ),
    ] = 1.0
    """Unit of the metric, such as ``ms`` or ``percent``, or the factor that converts it to seconds,
    a fraction of 1 or watts."""
    merge: Literal["sum", "max", "device"] | None = None
    """Aggregation of several series; ``device`` adds up the maximum of each accelerator. By default
    ``max`` for fractions, ``device`` for power and ``sum`` for the rest."""
    plus: Annotated[tuple[MetricName, ...], BeforeValidator(_listed), Field(max_length=16)] = ()
    """Further metrics to add where present, such as other queues."""


Sources = Annotated[
    tuple[Annotated[MetricSource, BeforeValidator(_named)], ...],
    BeforeValidator(_listed),
    Field(max_length=16, json_schema_extra=_one_or_several),
]
"""One metric or several, of which the first that is present counts."""


class Dialect(_Settings):
    """Metrics of each signal: one, or several of which the first present is used."""

    like: Engine | None = None
    """Engine whose mapping is used for signals that are not set here."""
    running: Sources = ()
    """Requests being processed."""
    waiting: Sources = ()
    """Requests waiting in the engine's queue."""
    kv_use: Sources = ()
    """KV cache utilisation, as a fraction."""
    slots: Sources = ()
    """Maximum number of concurrent requests."""
    utilisation: Sources = ()
    """Accelerator or processor utilisation, as a fraction."""
    memory: Sources = ()
    """Memory utilisation, as a fraction."""
    training: Sources = ()
    """Fraction of the machine that training jobs use."""
    power: Sources = ()
    """Power draw, in watts."""
    throughput: Sources = ()
    """Requests per second, for engines without a counter."""
    completed: Sources = ()
    """Counter of successful requests."""
    failed: Sources = ()
    """Counter of failed requests."""
    latency: Sources = ()
    """Histogram or summary of the response time, in seconds; ``_sum`` and ``_count`` are used."""
    ttft: Sources = ()
    """Histogram or summary of the time to first token, in seconds."""
    queue: Sources = ()
    """Histogram or summary of the queueing time, in seconds."""
    prompt_tokens: Sources = ()
    """Counter of prompt tokens."""
    output_tokens: Sources = ()
    """Counter of output tokens."""
    ready: Sources = ()
    """Metric that is 0 while the instance must not get requests."""


def _check_name(name: str) -> str:
    if name in {engine.value for engine in Engine}:
        raise PydanticCustomError(
            "dialect_name", "{what}", {"what": "is an engine's name already; choose another"}
        )
    return name


DialectName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"),
    AfterValidator(_check_name),
]


class Telemetry(_Settings):
    """How instances' metrics are interpreted."""

    dialects: dict[DialectName, Dialect] = Field(default_factory=dict, max_length=64)
    """Custom metric mappings by name; an instance selects one with ``engine: NAME``."""


def _engine(value: Any) -> Any:
    if isinstance(value, str) and value in {engine.value for engine in Engine}:
        return Engine(value)
    return value


EngineName = Annotated[
    Engine | Annotated[str, Field(max_length=63)],
    BeforeValidator(_engine),
]
"""The inference server, or the name of one of ``telemetry.dialects``."""
