"""``cats explain`` as a person reads it."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.cli.explain import print_explanation

DOCUMENT: dict[str, Any] = {
    "service": "chat",
    "from": "north",
    "policy": "static",
    "demand": 2.0,
    "plan": "v1",
    "held": False,
    "note": "observe mode: the decided shares are proposed, not pushed",
    "instances": [
        {"instance": "a", "site": "north", "share": 0.5, "weight": 5000, "priority": 0},
        {"instance": "b", "site": "cloud", "share": 0.5, "weight": 5000, "priority": 0},
    ],
    "excluded": [{"instance": "c", "site": "cloud", "reason": "drained by an override"}],
    "envoys": [{"id": "e1", "acknowledged": True}, {"id": "e2", "acknowledged": False}],
}


def test_observe_mode_reports_what_it_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Anyone who watches before trusting sees both the split in force and the one proposed."""
    proposed = [
        {"instance": "a", "share": 0.8, "priority": 0},
        {"instance": "b", "share": 0.2, "priority": 0},
        {"instance": "c", "share": 1.0, "priority": 1},
    ]
    print_explanation({**DOCUMENT, "proposed": proposed})

    assert "without observe mode it would be: a 80.0%, b 20.0%" in capsys.readouterr().out


def test_what_gets_nothing_and_who_lags_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Exclusions carry their reason, and Envoys that hold older weights their names."""
    print_explanation(DOCUMENT)
    reported = capsys.readouterr().out

    assert "no requests: c (drained by an override)" in reported
    assert "have acknowledged these weights; not yet: e2" in reported
    assert "without observe mode" not in reported


def test_the_state_of_an_instance_its_age_and_what_ends_it_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For each instance that is not plainly live, or that fails what others answer."""
    states = [
        {"instance": "b", "phase": "not_ready", "since": 12.0, "reason": "asleep",
         "awaited": "a report that it is ready", "disbelieved": []},
        {"instance": "c", "phase": "live", "since": 3.0, "reason": "gauges that froze",
         "awaited": "", "disbelieved": ["running", "waiting"]},
    ]  # fmt: skip
    failing = [
        {"instance": "a", "service": "chat", "probability": 0.5, "class": "client_error",
         "since": 7.0, "awaited": "good answers"}
    ]  # fmt: skip

    print_explanation({**DOCUMENT, "states": states, "failing": failing})
    shown = " ".join(capsys.readouterr().out.split())

    assert (
        "a: fails 50% of its requests more than other instances do (client error) for 7 s" in shown
    )
    assert "it awaits good answers" in shown
    assert "b: not ready for 12 s: asleep; it awaits a report that it is ready" in shown
    assert "c: live for 3 s: gauges that froze; not believed: running, waiting" in shown


def test_instances_in_the_same_state_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A site that is dead fills no screen; of who is out of service no signal is listed."""
    states = [
        {"instance": name, "phase": "expired", "since": 22.0, "reason": "silent for 73 s",
         "awaited": "a report", "disbelieved": ["running", "waiting"]}
        for name in "abc"
    ]  # fmt: skip

    print_explanation({**DOCUMENT, "states": states})
    shown = " ".join(capsys.readouterr().out.split())

    assert "a, b, c: expired for 22 s: silent for 73 s; it awaits a report no requests" in shown
