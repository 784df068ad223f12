"""Lines of Envoys' access log, for ``cats explain --request``."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from controlplane.cli import BadInput
from controlplane.resources.access_log_fields import REQUEST_ID

_DECODER = json.JSONDecoder()

MAX_LINE = 1_000_000
"""Characters of a line that are looked at; no request of ours has more."""
_MOST_STARTS = 16
"""Places of a line at which a document may begin: collectors put labels before it."""
_DEEPEST = 4
"""Documents within documents that collectors make of a line."""
_LONGEST_WORD = 120
"""Characters of a field that are shown; clients choose some of them."""
NEAR = 120.0
"""Seconds from a request at which a kept plan is that of the request; one a minute is kept."""


def find_request(request_id: str, log: str) -> dict[str, Any]:
    """Return the last line about a request.

    Args:
        request_id: its ``x-request-id``.
        log: a file, or ``-`` for standard input.

    Raises:
        BadInput: the file cannot be read, or has no such line.
    """
    if not request_id.strip():
        raise BadInput("--request: is empty; write the x-request-id of a line of the log")
    where = "standard input" if log == "-" else log
    try:
        if log == "-":
            # Logs hold what clients sent, in whatever encoding.
            text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
            found, broken = _find(request_id, text)
        else:
            with Path(log).open(encoding="utf-8", errors="replace") as lines:
                found, broken = _find(request_id, lines)
    except OSError as error:
        raise BadInput(f"--log: {where}: {error.strerror}") from error
    if found is None and broken:
        raise BadInput(
            f"line {broken} of {where} has '{printable(request_id)}', but no whole line of"
            " envoy.access_log: it was cut, or what collects logs changed it; read the log that"
            " Envoy wrote"
        )
    if found is None:
        raise BadInput(
            f"no line of {where} has the request id"
            f" '{printable(request_id)}'; set envoy.access_log, and read the log of the Envoy that"
            " was asked"
        )
    return found


def _find(request_id: str, lines: TextIO) -> tuple[dict[str, Any] | None, int]:
    """Return the last line's fields, and the number of the last that is broken; 0 for none."""
    found, broken = None, 0
    for number, line in enumerate(_lines(lines), 1):
        if request_id not in line:
            continue
        fields = _read(line, request_id, depth=0)
        if fields is None:
            broken = number
        else:
            found = fields
    return found, broken


def _lines(lines: TextIO) -> Iterator[str]:
    """Yield each line, without what is beyond `MAX_LINE`."""
    while line := lines.readline(MAX_LINE):
        yield line
        while line and not line.endswith("\n"):
            line = lines.readline(MAX_LINE)


def _read(text: str, request_id: str, *, depth: int) -> dict[str, Any] | None:
    """Return the fields of the request in *text*, or in a document that a collector put around."""
    start = text.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0:
            return None
        try:
            document, _ = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            document = None
        found = _search(document, request_id, depth=depth)
        if found is not None:
            return found
        start = text.find("{", start + 1)
    return None


def _search(document: Any, request_id: str, *, depth: int) -> dict[str, Any] | None:
    if not isinstance(document, dict) or depth > _DEEPEST:
        return None
    if document.get(REQUEST_ID) == request_id:
        return document
    for value in document.values():
        found = None
        if isinstance(value, dict):
            found = _search(value, request_id, depth=depth + 1)
        elif isinstance(value, str) and request_id in value:
            found = _read(value, request_id, depth=depth + 1)
        if found is not None:
            return found
    return None


def when(fields: dict[str, Any]) -> float | None:
    """Return the Unix time of a line; None if it has none."""
    try:
        return datetime.fromisoformat(str(fields.get("time"))).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def printable(value: object) -> str:
    """Return *value* as words that are safe to show: one line, printable, not endless."""
    text = "".join(c if c.isprintable() else " " for c in str(value)[: _LONGEST_WORD + 1])
    return text if len(text) <= _LONGEST_WORD else f"{text[:_LONGEST_WORD]}..."


def word(fields: dict[str, Any], *keys: str) -> str:
    """Return the first of *keys* that says something, as words; empty if none does."""
    for key in keys:
        value = fields.get(key)
        if value not in (None, "", "-"):
            return printable(value)
    return ""


def request_words(fields: dict[str, Any], sample: dict[str, Any] | None) -> list[str]:
    """Return sentences on what became of a request, and on the plan that stood then.

    Args:
        fields: of its line; any of them may be missing, or of any kind.
        sample: the history's sample nearest to it; None if nothing is kept.
    """
    at, instance = when(fields), word(fields, "cats.instance")
    words = [_outcome(fields, instance)]
    if at is None:
        return [*words, "which plan stood then is not known: the line has no time"]
    if sample is None:
        return [*words, "which plan stood then is not known: there is no history of it"]
    away = abs(sample["at"] - at)
    side = "before" if sample["at"] <= at else "after"
    if away > NEAR:
        return [
            *words,
            f"which plan stood then is not kept; the nearest is of {away / 60:.0f} min {side} it",
        ]
    stood = f"plan {sample['plan']} stood {away:.0f} s {side} it"
    if instance:
        share = sample["services"].get(word(fields, "cats.service"), {}).get("shares", {})
        stood += (
            f", and {instance} had {share[instance]:.1%} of the service's requests"
            if share.get(instance)
            else f", and {instance} had no share worth keeping: a probe, a retry or a fallback"
        )
    return [*words, stood]


def _outcome(fields: dict[str, Any], instance: str) -> str:
    words = (
        f"request {printable(fields[REQUEST_ID])} at {word(fields, 'time') or 'an unknown time'}:"
        f" {word(fields, 'cats.service') or 'no service'}"
        f" from {word(fields, 'cats.from') or 'an unknown site'},"
        f" status {word(fields, 'http.response.status_code') or 'unknown'}"
    )
    if took := word(fields, "cats.duration_ms"):
        words += f" after {took} ms"
    if instance:
        site = word(fields, "cats.site") or "an unknown site"
        words += f", answered by {instance} at {site}"
        if model := word(fields, "gen_ai.response.model", "gen_ai.request.model"):
            words += f", model {model}"
    else:
        words += ", no instance"
    attempts = fields.get("cats.attempts")
    if isinstance(attempts, int | float) and attempts > 1:
        words += f", attempt {attempts:.0f}: those before failed"
    if flags := word(fields, "cats.flags"):
        words += f", flags {flags}"
    return words
