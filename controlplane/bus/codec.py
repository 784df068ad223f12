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

from pydantic import ConfigDict, TypeAdapter, with_config

from controlplane.errors import ReportError
from controlplane.model import (
    InstanceReport,
    LatencyReport,
    PathReport,
    Report,
    ScrapeFailure,
    SiteReport,
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
_READERS: dict[str, TypeAdapter[Any]] = {
    letter: TypeAdapter(with_config(ConfigDict(allow_inf_nan=False))(kind))
    for letter, kind in _KINDS.items()
}
"""What is not of its field's class, or no finite number, is a ValidationError: a ValueError."""

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
            raise ValueError("of a newer version")
        rows = document["reports"]
        clients = {str(site): int(count) for site, count in document["clients"].items()}
        sender = str(document["from"])
        reports = tuple(report for row in rows if (report := _decode(row, now)) is not None)
    except _UNREADABLE as error:
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
        report: Report = _READERS[letter].validate_python({"at": now - age, **named})
    except (ValueError, KeyError, TypeError):
        return None
    return report
