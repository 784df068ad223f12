"""Reports on their way to other replicas: small, and with ages instead of times.

A report's instant is on its receiver's own clock, which means nothing elsewhere; what travels is
how old it was when it was sent. The way itself takes milliseconds and is not counted.
A message is JSON: ``{"from", "clients", "reports": [[kind, age, field, ...], ...]}``, fields in
the order of the classes in `controlplane.model`. One that a newer version made longer is read as
far as it is known; a shorter one gets defaults.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from controlplane.errors import ReportError
from controlplane.model import (
    FailureClass,
    InstanceReport,
    LatencyReport,
    PathReport,
    Report,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
    TariffReport,
    TrafficReport,
    WakeReport,
)

_KINDS: dict[str, type[Any]] = {
    "i": InstanceReport,
    "f": ScrapeFailure,
    "p": PathReport,
    "s": SiteReport,
    "e": TariffReport,
    "l": LatencyReport,
    "t": TrafficReport,
    "w": WakeReport,
}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_FIELDS = {
    letter: tuple(field.name for field in fields(kind) if field.name != "at")
    for letter, kind in _KINDS.items()
}


_UNREADABLE = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
FORMAT = 1
"""Grows when an older replica could no longer read a message."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one replica says the others."""

    sender: str
    clients: Mapping[str, int]
    """Its Envoys by site."""
    reports: tuple[Report, ...]
    refused: int
    """Reports that could not be read."""


def encode_message(
    sender: str, clients: Mapping[str, int], reports: Sequence[Report], *, now: float
) -> bytes:
    """Return the bytes of a message that is sent *now*."""
    rows = [
        [
            letter := _LETTERS[type(report)],
            round(max(0.0, now - report.at), 4),
            *(_plain(getattr(report, name)) for name in _FIELDS[letter]),
        ]
        for report in reports
    ]
    document = {"format": FORMAT, "from": sender, "clients": dict(clients), "reports": rows}
    return json.dumps(document, separators=(",", ":")).encode()


def decode_message(content: bytes, *, now: float) -> Message:
    """Read a message that has come *now*.

    Raises:
        ReportError: it is no such message.
    """
    try:
        document = json.loads(content)
        if document.get("format", FORMAT) > FORMAT:
            raise ValueError("of a newer version")  # noqa: TRY301
        rows = document["reports"]
        clients = {str(site): int(count) for site, count in document["clients"].items()}
        sender = str(document["from"])
        reports = tuple(report for row in rows if (report := _decode(row, now)) is not None)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ReportError(f"not a replica's message: {type(error).__name__}: {error}") from error
    return Message(sender, clients, reports, len(rows) - len(reports))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _decode(row: Any, now: float) -> Report | None:
    try:
        letter, age, *values = row
        if not 0 <= age < math.inf:
            return None
        named = dict(zip(_FIELDS[letter], values, strict=False))
        report: Report = _KINDS[letter](at=now - age, **{k: _read(k, v) for k, v in named.items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return report


_TEXTS = frozenset(
    {
        *("instance", "site", "envoy", "service", "from_site", "to_site", "reason"),
        "not_ready_reason",
        "reporter",
        "error",
    }
)


def _read(name: str, value: Any) -> Any:
    if name in _TEXTS:
        if not isinstance(value, str):
            raise TypeError(name)
        return value
    match name:
        case "source":
            return Source(value)
        case "signals":
            return {Signal(signal): _number(each) for signal, each in value.items()}
        case "failures":
            return {FailureClass(kind): _number(each) for kind, each in value.items()}
        case "missing":
            return tuple(Signal(signal) for signal in value)
        case "refused" | "aliases" | "ignored" | "loaded":
            return tuple(str(each) for each in value)
        case "bounds" | "latency" | "ttft":
            return tuple(_number(each) for each in value)
        case "ready" | "empty":
            return bool(value)
    return None if value is None else _number(value)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
