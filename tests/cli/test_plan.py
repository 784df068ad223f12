"""``cats plan``, ``cats explain`` and ``cats top`` print what they are given."""

from __future__ import annotations

import json
import re
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
    """Give status, standard output and standard error of ``cats ARGS``."""
    result = CliRunner().invoke(cats, args, prog_name="cats")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """Give a configuration's file name."""
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


def test_a_report_of_an_unknown_instance_is_told(fleet: str, tmp_path: Path) -> None:
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


def test_a_broken_report_file_is_told_with_its_place(fleet: str, tmp_path: Path) -> None:
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
                "energy": 0.0, "crowding": 0.125,
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
    "/api/v1/envoys": {
        "at": 100.0,
        "envoys": [{"id": "e1", "types": {"Cluster": {"refused": "v0"}}}],
        "gone": [{"id": "e2", "site": "north", "role": "envoy", "gone_at": 60.0}],
        "gone_left_out": 2,
    },
    "/api/v1/fleet": {
        "frozen": False, "mode": "steer", "config": {"ok": False},
        "instances": [
            {
                "name": "a", "site": "north", "phase": "stale", "confidence": 0.5,
                "reason": "silent for 12 s", "signals": {"running": {"value": 3.0, "age": 12.0}},
            }
        ],
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


def test_top_shows_phases_shares_and_refusals(api: str) -> None:
    """Whatever is wrong stands in the first line or beside its instance."""
    status, out, _ = run("top", "--once", "--admin", api)

    assert 0 == status
    for expected in (
        "refusing: e1", "newest configuration is refused", "stale", "silent for 12 s", "12.0s",
        "a 75%", "nobody", "mode steer", "3 left, e2 40 s ago",
        "canary: nearest for chat from north",
    ):  # fmt: skip
        assert expected in out


def test_top_names_observe_mode(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes a proposal for what is pushed."""
    fleet = "/api/v1/fleet"
    monkeypatch.setitem(DOCUMENTS, fleet, {**DOCUMENTS[fleet], "mode": "observe"})

    assert "observe mode: decided, not pushed" in run("top", "--once", "--admin", api)[1]


def test_a_plan_tells_of_its_canary_beside_the_standing_policy(tmp_path: Path) -> None:
    """Both splits and both latencies; another policy for all ends the trial."""
    file = tmp_path / "canary.yaml"
    file.write_text(
        FLEET.replace("models: [{name: m}]}]", "models: [{name: m}], policy: static,"
                      " canary: {client_site: north, policy: nearest}}]")
        + "network: {paths: [{from: north, to: cloud, rtt: 30ms}]}\n",
        encoding="utf-8",
    )  # fmt: skip

    _, out, _ = run("plan", "-c", str(file))
    _, same, _ = run("plan", "-c", str(file), "--policy", "static")

    told = " ".join(out.split())
    assert "chat from north is decided by nearest; elsewhere static decides" in told
    assert re.search(r"it would be: a 50.0%, b 50.0%; predicted \d+ ms instead of \d+ ms", told)
    assert "chat north" in " ".join(same.split())
    assert "chat cloud" not in " ".join(same.split())


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        pytest.param(["explain", "chta"], 2, "did you mean 'chat'?", id="unknown service"),
        pytest.param(["explain", "chat", "--admin", "cp:18080"], 2, "is no URL", id="no URL"),
        pytest.param(
            ["explain", "chat", "--admin", "http://127.0.0.1:1"], 1, "'cats serve'", id="nobody"
        ),
    ],
)
def test_a_mistake_is_one_line(api: str, args: list[str], status: int, text: str) -> None:
    """With what to do about it."""
    given = args if "--admin" in args else [*args, "--admin", api]

    code, out, err = run(*given, "--from", "north")

    assert (status, "") == (code, out)
    assert 1 == len(err.splitlines())
    assert text in err


def test_two_configurations_are_compared(tmp_path: Path) -> None:
    """What a change would move is told before it is made."""
    fleet = Path("examples/cloud-edge-device/fleet.yaml")
    changed = tmp_path / "new.yaml"
    changed.write_text(
        fleet.read_text(encoding="utf-8") + "overrides: [{instance: north-a, drain: true}]\n",
        encoding="utf-8",
    )
    same = run("plan", "-c", str(fleet), "--against", str(fleet))
    other = run("plan", "-c", str(fleet), "--against", str(changed), "--json")
    policy = run("plan", "-c", str(fleet), "--policy", "nearest", "--json")
    wrong = run("plan", "-c", str(fleet), "--policy", "best")

    assert "no share moves" in same[1]
    pairs = json.loads(other[1])["pairs"]
    assert any(pair["shares"].get("north-a", [0, 1])[1] == 0 for pair in pairs)
    assert json.loads(policy[1])["pairs"]
    assert (2, True) == (wrong[0], "no policy 'best'; known:" in wrong[2])
