"""Lines of Envoys' access log, for ``cats explain --request``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controlplane.cli import BadInput
from controlplane.resources.access_log import REQUEST_ID

MAX_LINE = 1_000_000
"""Characters of a line that are looked at; no request of ours has more."""


def find_request(request_id: str, log: str) -> dict[str, Any]:
    """Return the last line about a request.

    Args:
        request_id: its ``x-request-id``.
        log: a file, or ``-`` for standard input.

    Raises:
        BadInput: the file cannot be read, or has no such line.
    """
    try:
        if log == "-":
            found = _find(request_id, sys.stdin)
        else:
            with Path(log).open(encoding="utf-8", errors="replace") as lines:
                found = _find(request_id, lines)
    except OSError as error:
        raise BadInput(f"--log: {log}: {error.strerror}") from error
    if found is None:
        raise BadInput(
            f"no line of {'standard input' if log == '-' else log} has the request id"
            f" '{request_id}'; set envoy.access_log, and read the log of the Envoy that was asked"
        )
    return found


def _find(request_id: str, lines: Iterable[str]) -> dict[str, Any] | None:
    found = None
    for line in lines:
        if request_id not in line or len(line) > MAX_LINE:
            continue
        # What collects logs may put its own words first.
        try:
            fields = json.loads(line[max(line.find("{"), 0) :])
        except ValueError:
            continue
        if isinstance(fields, dict) and fields.get(REQUEST_ID) == request_id:
            found = fields
    return found


def when(fields: dict[str, Any]) -> float | None:
    """Return the Unix time of a line; None if it has none."""
    try:
        return datetime.fromisoformat(str(fields.get("time"))).astimezone(UTC).timestamp()
    except ValueError:
        return None


def request_words(fields: dict[str, Any], sample: dict[str, Any] | None) -> list[str]:
    """Return sentences on what became of a request, and on the plan that stood then.

    Args:
        fields: of its line.
        sample: the history's sample nearest to it; None if nothing is kept.
    """
    instance, site = fields.get("cats.instance") or "-", fields.get("cats.site") or "-"
    model = fields.get("gen_ai.response.model") or fields.get("gen_ai.request.model") or "-"
    took = fields.get("cats.duration_ms")
    answered = instance not in ("-", None)
    words = (
        f"request {fields[REQUEST_ID]} at {fields.get('time')}: {fields.get('cats.service')} from"
        f" {fields.get('cats.from') or 'an unknown site'},"
        f" status {fields.get('http.response.status_code')} after {took} ms"
        + (f", answered by {instance} at {site}, model {model}" if answered else ", no instance")
    )
    attempts = fields.get("cats.attempts")
    if isinstance(attempts, int | float) and attempts > 1:
        words += f", attempt {attempts:.0f}: those before failed"
    if (flags := fields.get("cats.flags")) not in (None, "-"):
        words += f", flags {flags}"
    at = when(fields)
    if sample is None or at is None:
        return [words, "which plan stood then is not known: no history is kept yet"]
    shares = sample["services"].get(fields.get("cats.service"), {}).get("shares", {})
    share = shares.get(instance)
    stood = (
        f"plan {sample['plan']} stood {abs(sample['at'] - at):.0f} s"
        f" {'before' if sample['at'] <= at else 'after'} it"
    )
    if answered:
        stood += (
            f", and {instance} had {share:.1%} of the service's requests"
            if share
            else f", and {instance} had no share worth keeping: a probe, a retry or a fallback"
        )
    return [words, stood]
