"""A request is found in a log, and what became of it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.cli import BadInput
from controlplane.cli.request_log import find_request, request_words, when
from controlplane.resources.access_log import REQUEST_ID

LINE: dict[str, Any] = {
    REQUEST_ID: "r-1",
    "time": "2026-11-29T01:00:00.500Z",
    "cats.service": "chat",
    "cats.from": "north",
    "cats.instance": "a",
    "cats.site": "cloud",
    "cats.duration_ms": 120,
    "cats.attempts": 1,
    "cats.flags": "-",
    "http.response.status_code": 200,
    "gen_ai.response.model": "m",
}


def sample(at: float, share: float) -> dict[str, Any]:
    """Return the history's sample of an instant."""
    return {"at": at, "plan": "v7", "services": {"chat": {"shares": {"a": share}}}}


def test_the_newest_line_of_a_request_is_found_among_others(tmp_path: Path) -> None:
    """Whatever else is in the log, and whatever a collector put before the line."""
    log = tmp_path / "log"
    other = LINE | {REQUEST_ID: "r-2", "note": "r-1"}
    log.write_text(
        "\n".join(
            [
                "not json r-1",
                json.dumps(LINE | {"cats.attempts": 9}),
                f"envoy-0 stdout F {json.dumps(LINE)}",
                json.dumps(other),
                '{"r-1": broken',
            ]
        )
    )

    assert find_request("r-1", str(log)) == LINE


@pytest.mark.parametrize(("name", "words"), [("log", "envoy.access_log"), ("none", "No such file")])
def test_a_request_that_is_not_there_is_an_error_with_its_remedy(
    tmp_path: Path, name: str, words: str
) -> None:
    """The file or the line is missing."""
    (tmp_path / "log").write_text(json.dumps(LINE))

    with pytest.raises(BadInput, match=words):
        find_request("r-9", str(tmp_path / name))


def test_the_plan_that_stood_and_its_share_are_said() -> None:
    """From the history's sample nearest to the request."""
    at = when(LINE)
    assert at is not None
    words, then = request_words(LINE, sample(at - 3.0, 0.25))

    assert "answered by a at cloud, model m" in words
    assert "plan v7 stood 3 s before it, and a had 25.0% of the service's requests" in then


@pytest.mark.parametrize(
    ("fields", "share", "words"),
    [
        ({"cats.attempts": 3}, 0.2, "attempt 3: those before failed"),
        ({"cats.flags": "UF"}, 0.2, "flags UF"),
        ({"cats.instance": None, "http.response.status_code": 503}, 0.2, "no instance"),
        ({}, 0.0, "a probe, a retry or a fallback"),
        ({"time": "yesterday"}, 0.2, "not known"),
    ],
    ids=["retried", "flags", "no instance", "no share", "no time"],
)
def test_what_is_unusual_about_a_request_is_said(
    fields: dict[str, Any], share: float, words: str
) -> None:
    """Each on its own."""
    assert words in " ".join(request_words(LINE | fields, sample(when(LINE) or 0.0, share)))
