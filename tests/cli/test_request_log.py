"""A request is found in a log, and what became of it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cli import BadInput, explain
from controlplane.cli.request_log import find_request, request_words, when
from controlplane.resources.access_log_fields import REQUEST_ID

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


@pytest.mark.parametrize(
    "around",
    [
        lambda line: json.dumps({"log": line + "\n", "stream": "stdout"}),
        lambda line: json.dumps({"time": "t", "message": f"envoy: {line}"}),
        lambda line: json.dumps({"severity": "INFO", "jsonPayload": json.loads(line)}),
        lambda line: f'2026-11-29T01:00:00Z {{app="envoy", pod="r-1"}} {line} trailing',
        lambda line: json.dumps({"kubernetes": {"pod": "p"}, "MESSAGE": json.dumps({"log": line})}),
    ],
    ids=["docker", "a message", "a payload", "labels", "twice"],
)
def test_what_collectors_put_around_a_line_is_taken_off(tmp_path: Path, around: Any) -> None:
    """Few logs are read as Envoy wrote them."""
    (tmp_path / "log").write_text(around(json.dumps(LINE)))
    assert find_request("r-1", str(tmp_path / "log")) == LINE


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(LINE)[:-30],
        f"{REQUEST_ID}=r-1",
        '{"a": ' * 100_000 + "r-1",
        json.dumps({**LINE, REQUEST_ID: ["r-1"]}),
        "r-1" + "x" * 2_000_000 + json.dumps(LINE),
    ],
    ids=["cut", "no JSON", "deep", "another kind", "endless"],
)
def test_a_line_that_is_cut_is_an_error_that_says_so(tmp_path: Path, line: str) -> None:
    """It names the request, and nothing else of it can be read."""
    (tmp_path / "log").write_bytes(b"\xff\xfe\n" + line.encode())
    with pytest.raises(BadInput, match=r"line 2 of .* it was cut"):
        find_request("r-1", str(tmp_path / "log"))


def test_standard_input_may_hold_any_bytes() -> None:
    """As logs do in which clients' bytes went."""
    read = CliRunner().invoke(
        explain.command,
        ["--request", "r-2", "--log", "-"],
        input=b"\xff\xfe r-1 \x00\n" + json.dumps(LINE).encode(),
    )
    assert "no line of standard input has the request id 'r-2'" in read.output


@pytest.mark.parametrize("request_id", ["", "  "])
def test_an_empty_id_is_no_request(request_id: str) -> None:
    """It would be in every line."""
    with pytest.raises(BadInput, match="empty"):
        find_request(request_id, "-")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*LINE, "more"]), VALUES))
def test_whatever_a_line_holds_is_said_in_printable_words(fields: dict[str, Any]) -> None:
    """Fields may be missing, added, or of another kind: what a client sent is in some of them."""
    then = when(fields)
    for words in request_words({REQUEST_ID: "r-1", **fields}, sample(then or 0.0, 0.25)):
        assert words.isprintable()
        assert len(words) < 2000


def test_a_plan_of_another_time_is_not_said_to_have_stood() -> None:
    """The history reaches back a day; requests in old logs may be older."""
    words = request_words(LINE, sample((when(LINE) or 0.0) + 6000.0, 0.25))
    assert "which plan stood then is not kept; the nearest is of 100 min after it" == words[1]


def test_what_a_line_says_is_shown_without_a_control_plane(tmp_path: Path) -> None:
    """The rest fails with the reason."""
    (tmp_path / "log").write_text(json.dumps(LINE))
    asked = ["--request", "r-1", "--log", str(tmp_path / "log"), "--admin", "http://127.0.0.1:1"]
    found = CliRunner().invoke(explain.command, asked)

    assert "answered by a at cloud" in " ".join(found.stdout.split())
    assert isinstance(found.exception, SystemExit)
    assert 1 == found.exit_code
