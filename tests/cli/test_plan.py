"""``cats plan``, ``cats explain`` and ``cats top`` print what they are given."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from controlplane.cli import cats

FLEET = """
version: 1
sites: [{name: north, kind: edge}, {name: cloud, kind: cloud}]
models: [{name: m}]
services: [{name: chat, match: [{path: /v1}], models: [{name: m}]}]
instances:
  - {name: a, site: north, address: "127.0.0.1:9001", model: m}
  - {name: b, site: cloud, address: "127.0.0.1:9002", model: m}
"""


def run(*args: str) -> tuple[int, str, str]:
    """Return status, standard output and standard error of ``cats ARGS``."""
    result = CliRunner().invoke(cats, args, prog_name="cats")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """Return a configuration's file name."""
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    return str(tmp_path / "fleet.yaml")


def reports(tmp_path: Path, line: str) -> str:
    """Write a report file of one line."""
    (tmp_path / "reports.yaml").write_text(f"version: 1\nreports: [{line}]\n", encoding="utf-8")
    return str(tmp_path / "reports.yaml")


def test_a_dry_run_sends_nobody_to_an_instance_that_is_not_ready(
    fleet: str, tmp_path: Path
) -> None:
    """The plan is the server's own, and says why."""
    file = reports(tmp_path, "{instance: a, ready: false}")

    status, out, _ = run("plan", "-c", fleet, "--reports", file, "--json")
    _, table, _ = run("plan", "-c", fleet, "--reports", file)

    plan = json.loads(out)
    assert 0 == status
    assert [("b", 1.0)] == [
        (item["instance"], item["share"]) for item in plan["services"]["chat"]["from"]["north"]
    ]
    assert ["a"] == [item["instance"] for item in plan["explanations"][0]["excluded"]]
    assert "chat from north: optimal, demand ~" in table
    assert "100%" in table
    assert "no requests: a (" in table
    assert "not ready)" in table


def test_a_report_of_an_unknown_instance_is_reported(fleet: str, tmp_path: Path) -> None:
    """One line, status 2."""
    file = reports(tmp_path, "{instance: ghost, signals: {running: 1}}")

    status, _, err = run("plan", "-c", fleet, "--reports", file)

    assert 2 == status
    assert "'ghost'" in err


def test_a_misspelt_name_in_a_report_is_reported_with_the_nearest_one(
    fleet: str, tmp_path: Path
) -> None:
    """A person asks, so the search is worth its time."""
    file = reports(tmp_path, "{from: norht, service: chat, rate: 1}")

    status, _, err = run("plan", "-c", fleet, "--reports", file)

    assert 2 == status
    assert "did you mean 'north'?" in err


def test_a_broken_report_file_is_reported_with_its_place(fleet: str, tmp_path: Path) -> None:
    """As a configuration would be."""
    file = reports(tmp_path, "{instance: a, signals: {running: -1}}")

    status, _, err = run("plan", "-c", fleet, "--reports", file)

    assert 2 == status
    assert err.startswith(f"{file}:2:")


EXPLANATION = {
    "service": "chat", "from": "north", "policy": "optimal", "note": "capacity: refuted",
    "demand": 3.0, "plan": "v1", "held": True, "at": 1.0,
    "instances": [
        {
            "instance": "a", "site": "north", "share": 0.75, "weight": 7500, "priority": 0,
            "terms": {
                "rtt": 0.004, "transfer": 0.0, "service": 0.5, "queueing": 0.25, "penalty": 0.08,
                "energy": 0.0, "failure": 0.0, "crowding": 0.125,
            },
            "predicted_latency": 0.754, "marginal_cost": 0.959, "arrival_rate": 3.0,
            "capacity": 4.0, "confidence": 1.0, "previous_share": 0.5, "limits": ["max_share"],
            "ages": {}, "sources": {},
        },
        {"instance": "c", "site": "north", "share": 1.0, "weight": 1, "priority": 1},
    ],
    "excluded": [{"instance": "b", "site": "cloud", "reason": "drained"}],
    "envoys": [
        {"id": "e1", "acknowledged": True}, {"id": "e2", "acknowledged": False},
    ],
}  # fmt: skip
DOCUMENTS: dict[str, Any] = {
    "/api/v1/explain": EXPLANATION,
    "/api/v1/plan": {
        "version": "v1", "held": False, "canaries": [
            {"service": "chat", "from": "north", "policy": "nearest"}
        ],
        "services": {"chat": {"from": {"north": [EXPLANATION["instances"][0]], "cloud": []}}},  # type: ignore[index]
    },
    "/api/v1/overview": {
        "at": 100.0, "frozen": False, "mode": "steer", "config": {"ok": False},
        "plan": {"version": "v1", "held": False},
        "sites": [
            {
                "name": "north", "kind": "edge", "running": 3.0, "waiting": 0.0, "slots": 8.0,
                "envoys": 1, "lagging": 0, "power": None, "phases": {"stale": 1},
            }
        ],
        "instances": [
            {
                "name": "a", "site": "north", "phase": "stale", "reason": "silent for 12 s",
                "running": 3.0, "waiting": None, "planned": 0.5, "latency": 0.25, "age": 12.0,
                "confidence": 0.4, "rate": 6.0, "failures": 0.02,
            }
        ],
        "flows": {
            "chat": [
                {"from": "north", "rate": 1030.0, "to": [["a", 0.75], ["b", 0.25]]},
                {"from": "cloud", "rate": 0.0, "to": []},
            ]
        },
        "latency": {"chat": {"north": [0.2, 0.3]}},
        "canaries": [{"service": "chat", "from": "north", "policy": "nearest"}],
        "refusals": [{"envoy": "e1"}],
        "gone": {"count": 3, "id": "e2", "at": 60.0},
    },
}  # fmt: skip


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        found = DOCUMENTS.get(path)
        status, body = (200, found) if found else (404, {"error": "nothing here"})
        if "chta" in query:
            status, body = 404, {"error": "no service 'chta'; did you mean 'chat'?"}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[str]:
    """Serve the documents on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_explain_prints_every_term_in_milliseconds(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms, limits, fallbacks, exclusions, and which Envoys have not acknowledged it yet."""
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run("explain", "chat", "--from", "north", "--admin", api)

    assert 0 == status
    words = next(line for line in out.splitlines() if line.lstrip().startswith("a ")).split()
    assert ["a", "north", "75.0%", "50.0%", "7500"] == words[:5]
    assert ["4.0", "500", "250", "80", "125", "754", "959", "75%", "100%"] == words[5:14]
    assert ["max_share"] == words[14:]
    assert "transfer" not in out, "a term that is zero everywhere has no column"
    for expected in (
        "fallback, if all of these fail: c", "no requests: b (drained)", "capacity: refuted",
        "held",
        "1 of 2 connected Envoys of north have acknowledged these weights; not yet: e2",
    ):  # fmt: skip
        assert expected in out


def test_explain_is_a_sum_a_line_on_a_narrow_terminal(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 columns no number is cut and no line is longer."""
    monkeypatch.setenv("COLUMNS", "80")

    _, out, _ = run("explain", "chat", "--from", "north", "--admin", api)

    assert "a  75.0%  959 ms = rtt 4.0 + service 500 + queueing 250 + penalty 80" in out
    assert "+ crowding 125; load 75%, was 50.0%" in out
    assert 80 >= max(map(len, out.splitlines()))


def test_explain_lists_the_pairs_that_send_to_an_instance(api: str) -> None:
    """Without a service or a client site there is a line for each pair of both."""
    _, out, _ = run("explain", "--instance", "a", "--admin", api)

    assert ["chat", "north", "-", "566", "a", "75.0%"] == out.splitlines()[1].split()
    assert "cloud" not in out


def test_an_explanation_of_one_instance_leaves_out_the_others(api: str) -> None:
    """Also when it gets nothing, with the reason."""
    _, out, _ = run("explain", "chat", "--from", "north", "--instance", "b", "--admin", api)

    assert "no requests: b (drained)" in out
    assert "fallback" not in out


def test_explain_gives_the_document_as_it_is(api: str) -> None:
    """For scripts."""
    _, out, _ = run("explain", "chat", "--from", "north", "--admin", api, "--json")

    assert EXPLANATION == json.loads(out)


def test_top_shows_phases_shares_and_rejections(api: str) -> None:
    """What is wrong is in the first lines or beside its instance."""
    status, out, _ = run("top", "--once", "--admin", api)

    assert 0 == status
    for expected in (
        "rejecting: e1", "newest configuration is rejected", "stale", "silent for 12 s", "12.0s",
        "a 75%  b 25%", "no instance", "mode steer", "3 left, e2 40 s ago", "~50%", "~ assumed",
        "canary: nearest for chat from north", "250", "2.0%", "1030",
    ):  # fmt: skip
        assert expected in out


def test_top_shows_what_was_chosen(api: str) -> None:
    """By service, client site and instance."""
    _, out, _ = run("top", "--once", "--admin", api, "--from", "cloud", "--instance", "b")

    assert "silent for 12 s" not in out
    assert "north" not in out.split("instances", 1)[1]


def test_top_names_observe_mode(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal is not taken for what is pushed."""
    overview = "/api/v1/overview"
    monkeypatch.setitem(DOCUMENTS, overview, {**DOCUMENTS[overview], "mode": "observe"})

    assert "observe mode: decided, not pushed" in run("top", "--once", "--admin", api)[1]
