"""What pydantic found wrong, reported to an operator: place, key name, what would be right."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controlplane.config.document import Document, Path
from controlplane.config.schema import Config, values
from controlplane.config.schema.server import Server
from controlplane.errors import Fault
from controlplane.suggestions import closest, did_you_mean

_PATTERNS = {
    "Name": "is not a name; use letters, digits, '.', '_' and '-', at most 63, none of the marks"
    " first or last",
    "UrlPath": "is not a path; it starts with '/' and holds no spaces",
    "HeaderName": "is not a name of a header or cookie; write one such as x-session-id",
    "HeaderValue": "is not a header value; it cannot hold control characters",
    "KubernetesName": "is not a name in Kubernetes; use small letters, digits and '-', at most 63",
    "NamespaceName": "is not a namespace; write its name, or * for all",
    "LabelName": "is not the name of a label; write one such as app.kubernetes.io/name",
    "bus": "is not a bus; write local, kubernetes, or a URL such as nats://host:4222",
}


def faults_of(
    error: ValidationError, document: Document, *, root: type[BaseModel] = Config
) -> list[Fault]:
    """Return every fault of *error* at its place in *document*, which is read as a *root*."""
    found = error.errors(include_url=False)
    unknown: dict[Path, list[str]] = {}
    for details in found:
        if details["type"] == "extra_forbidden":
            unknown.setdefault(details["loc"][:-1], []).append(str(details["loc"][-1]))
    return [
        _fault(details, document, root)
        for details in found
        if not (_is_misspelt(details, unknown) or _is_spoilt(details, document))
    ]


def _is_misspelt(details: ErrorDetails, unknown: Mapping[Path, list[str]]) -> bool:
    """Whether a missing key is there under a misspelt name, which is reported already."""
    *parent, name = details["loc"]
    given = unknown.get(tuple(parent), ())
    return details["type"] == "missing" and closest(str(name), given) is not None


def _is_spoilt(details: ErrorDetails, document: Document) -> bool:
    """Whether a list only counts as too short because of entries that are reported already."""
    value = document.tree
    if details["type"] != "too_short":
        return False
    for step in details["loc"]:
        value = value[step]
    return bool(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return what to say of *word* after a semicolon; nothing where nothing is *known*."""
    hint = did_you_mean(word, known, shown=12)
    return f"; {hint}" if hint else ""


def _fault(details: ErrorDetails, document: Document, root: type[BaseModel]) -> Fault:
    path: Path = tuple(step for step in details["loc"] if step != "[key]")
    kind = details["type"]
    if kind == "missing":
        return document.fault(
            path, f"missing; add '{path[-1]}', which is {_shape(_annotation(path, root))}"
        )
    if kind == "extra_forbidden":
        known = _keys(_model(_annotation(path[:-1], root)))
        name = str(path[-1])
        return document.fault(path, f"unknown key '{name}'{nearest(name, known)}", at_key=True)
    return document.fault(
        path, _message(details, path, root, document), at_key="[key]" in details["loc"]
    )


def _message(details: ErrorDetails, path: Path, root: type[BaseModel], document: Document) -> str:
    given, kind, ctx = details["input"], details["type"], details.get("ctx", {})
    if given is None:
        return f"has no value; give {_shape(_annotation(path, root))}, or remove the key"
    if kind == "string_pattern_mismatch":
        return f"'{given}' {_pattern(ctx['pattern'])}"
    if kind == "string_type":
        # As it is written: the number 7 may be 007.
        written = document.written(path)
        if isinstance(given, (bool, int, float)) and written:
            return f"{written} must be text; write it in quotes, '{written}'"
        if isinstance(given, dict) and document.line(path).startswith("{{"):
            return "looks like a template; render it first"
    if kind == "literal_error" and isinstance(given, str) and given == ctx.get("expected"):
        return f"'{given}' is text; write {given} without quotes"
    reported = _TEXTS.get(kind)
    if reported is not None:
        return reported(given, ctx)
    if kind in _WRONG_TYPES:
        return f"{_show(given)} is wrong here; give {_shape(_annotation(path, root))}"
    return details["msg"].removeprefix("Value error, ")


_WRONG_TYPES = frozenset(
    {
        "bool_type", "dict_type", "float_type", "int_from_float", "int_type",
        "list_type", "model_type", "model_attributes_type", "tuple_type",
    }
)  # fmt: skip


def _string(given: Any, _: Mapping[str, Any]) -> str:
    if isinstance(given, (bool, int, float)):
        return f"{_show(given)} must be text; write it in quotes, '{_show(given)}'"
    return f"must be text, not {_show(given)}"


def _enum(given: Any, ctx: Mapping[str, Any]) -> str:
    values = re.findall(r"'([^']*)'", ctx["expected"])
    if not isinstance(given, str):
        return f"{_show(given)} is wrong here; give one of {', '.join(values)}"
    hint = nearest(given, values) if values else ""
    shown = "" if hint.startswith("; known") else hint
    return f"'{given}' is not one of {', '.join(values)}{shown}"


_TEXTS: dict[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "string_type": _string,
    "enum": _enum,
    "literal_error": lambda given, ctx: f"{_show(given)} is not known; write {ctx['expected']}",
    "greater_than_equal": lambda given, ctx: f"{given} is too small; at least {ctx['ge']}",
    "greater_than": lambda given, ctx: f"{given} is too small; more than {ctx['gt']}",
    "less_than_equal": lambda given, ctx: f"{given} is too large; at most {ctx['le']}",
    "too_short": lambda _, ctx: f"the list is empty; give at least {ctx['min_length']} entry",
    "finite_number": lambda given, _: f"{given} is not a finite number",
    "string_too_short": lambda _given, _ctx: "is empty text; write something, or remove the key",
    "string_too_long": lambda _, ctx: f"is too long; at most {ctx['max_length']} characters",
}


def _pattern(pattern: str) -> str:
    return _PATTERN_TEXTS.get(pattern, f"does not have the form {pattern}")


def _patterns() -> dict[str, str]:
    says = {}
    for name, reported in _PATTERNS.items():
        annotation = getattr(values, name, None)
        metadata = (
            typing.get_args(annotation)[1].metadata
            if annotation is not None
            else Server.model_fields["bus"].metadata
        )
        says.update({m.pattern: reported for m in metadata if getattr(m, "pattern", None)})
    return says


_PATTERN_TEXTS = _patterns()


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"'{value}'" if isinstance(value, str) else str(value)


# What the schema wants at a path, read from the models themselves.


def _annotation(path: Path, root: type[BaseModel]) -> Any:
    """Return the type at *path*, or Any where the schema knows none."""
    found: Any = root
    for step in path:
        found = _bare(found)
        if isinstance(step, int):
            arguments = typing.get_args(found)
            found = arguments[0] if typing.get_origin(found) in (tuple, list) else Any
        elif isinstance(found, type) and issubclass(found, BaseModel):
            fields = {field.alias or name: field for name, field in found.model_fields.items()}
            if step not in fields:
                return Any
            field = fields[step]
            found = field.annotation
            if field.metadata:
                found = typing.Annotated[(found, *field.metadata)]
        elif typing.get_origin(found) is dict:
            found = typing.get_args(found)[1]
        else:
            return Any
    return found


def _bare(annotation: Any) -> Any:
    """Return a type without Annotated and without None."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
        else:
            return annotation


def _examples(annotation: Any) -> list[Any]:
    """Return the examples a unit's JSON Schema carries."""
    while typing.get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    for metadata in getattr(annotation, "__metadata__", ()):
        examples = (getattr(metadata, "json_schema", None) or {}).get("examples")
        if examples:
            return list(examples)
    return []


def _model(annotation: Any) -> type[BaseModel] | None:
    bare = _bare(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def _keys(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _shape(annotation: Any) -> str:
    """Say what a value must look like: ``one of cloud, edge, device``."""
    if examples := _examples(annotation):
        return f"such as {examples[0]}"
    bare = _bare(annotation)
    origin = typing.get_origin(bare)
    if origin in (tuple, list):
        return "a list, each entry after '- '"
    if origin is typing.Literal:
        return f"the value {typing.get_args(bare)[0]}"
    model = _model(bare)
    if model is not None or origin is dict:
        keys = _keys(model)[:6]
        return f"a mapping of keys to values{' such as ' + ', '.join(keys) if keys else ''}"
    if isinstance(bare, type) and issubclass(bare, Enum):
        return f"one of {', '.join(str(member.value) for member in bare)}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(
        bare, "a value"
    )
