"""Alerts: what needs an operator, each once, with since when and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.admin_api.alerts import KEPT, AlertBook, find_alerts

SITE = {
    "name": "north", "phases": {"live": 2}, "lagging": 0, "envoys": 3,
    "power": 100.0, "power_budget": 200.0,
}  # fmt: skip


def make_overview(**fields: Any) -> dict[str, Any]:
    """Make a sound overview but for *fields*."""
    sound = {
        "frozen": False, "config": {"faults": []}, "refusals": [], "sites": [SITE],
        "instances": [], "notes": [],
    }  # fmt: skip
    return {**sound, **fields}


def expired(count: int) -> list[dict[str, Any]]:
    """Make instances that are out of service for one reason."""
    return [{"name": f"i{n}", "phase": "expired", "reason": "silent"} for n in range(count)]


@pytest.mark.parametrize(
    ("overview", "kind", "words"),
    [
        pytest.param({"frozen": True}, "fleet silent", "last plan is kept", id="silent"),
        pytest.param(
            {"config": {"faults": ["fleet.yaml:3:1: x: is wrong"]}},
            "configuration rejected", "is wrong", id="configuration",
        ),
        pytest.param(
            {"refusals": [{"envoy": "e1", "site": "", "type": "Cluster", "text": "no"}]},
            "resources rejected", "e1 at an unknown site rejects Cluster: no", id="rejected",
        ),
        pytest.param(
            {"sites": [{**SITE, "phases": {"expired": 2}}] * 9},
            "site out of service", "at north, north, north, north, north, north and 3 more",
            id="dead sites",
        ),
        pytest.param({"sites": [{**SITE, "lagging": 2}]}, "Envoys lag", "2 of 3", id="lagging"),
        pytest.param(
            {"sites": [{**SITE, "power": 300.0}]}, "power budget exceeded", "300 W", id="power"
        ),
        pytest.param(
            {"instances": expired(9)}, "instances expired", "and 3 more: expired", id="instances"
        ),
        pytest.param(
            {"notes": [{"service": "chat", "from": "north", "note": "overload"}] * 2},
            "fallback in use", "chat: overload (from north, north)", id="note",
        ),
    ],
)  # fmt: skip
def test_each_trouble_is_one_alert(overview: dict[str, Any], kind: str, words: str) -> None:
    """It says what is the case and what to do."""
    (alert,) = find_alerts(make_overview(**overview))

    assert kind == alert["kind"]
    assert words in alert["text"]
    assert alert["remedy"]


def test_a_sound_fleet_has_none() -> None:
    """Nothing cries wolf."""
    assert [] == [*find_alerts(make_overview(), agents=[{"id": "a", "clock_offset": 0.1}])]


def test_the_bus_and_the_clocks_of_agents_are_watched() -> None:
    """Beside the overview."""
    agents = [{"id": "a", "clock_offset": -7.0}]
    kinds = {each["kind"] for each in find_alerts(make_overview(), agents=agents, bus_ok=False)}

    assert {"bus unreachable", "clock off"} == kinds


def test_an_alert_keeps_its_date_until_it_ends() -> None:
    """The worst first; one that comes again after a minute is a new one."""
    book = AlertBook()
    slow = {"id": "slow", "level": "warn"}
    dead = {"id": "dead", "level": "bad"}

    assert [10.0] == [each["since"] for each in book.date([slow], at=10.0)]
    assert [("dead", 20.0), ("slow", 10.0)] == [
        (each["id"], each["since"]) for each in book.date([slow, dead], at=20.0)
    ]
    assert [] == book.date([], at=30.0)
    assert [90.0] == [each["since"] for each in book.date([slow], at=90.0)]


def test_an_alert_keeps_its_date_through_trials() -> None:
    """An instance that goes on trial again and again, and fails, has been out all the while."""
    book = AlertBook()
    out = {"id": "instances expired", "level": "bad"}
    for start in range(0, 1000, 50):
        dates = [each["since"] for each in book.date([out], at=float(start))]
        assert [0.0] == dates
        assert [] == book.date([], at=start + 20.0)
        assert [] == book.date([], at=start + 25.0)


def test_many_alerts_that_end_are_forgotten() -> None:
    """A year of different ones takes no memory."""
    book = AlertBook()
    for at in range(1000):
        book.date([{"id": f"fault {at}", "level": "warn"}], at=float(at))

    assert len(book._seen) <= KEPT + 1


def test_an_alert_is_the_same_while_its_seconds_count_on() -> None:
    """Instances that are silent for different times are one alert, dated when it began."""

    def at(seconds: int) -> list[dict[str, Any]]:
        instances = [
            {"name": f"i{n}", "phase": "expired", "reason": f"silent for {seconds + n} s"}
            for n in range(3)
        ]
        return [*find_alerts(make_overview(instances=instances))]

    book = AlertBook()
    (first,) = book.date(at(10), at=100.0)
    (second,) = book.date(at(20), at=110.0)

    assert (100.0, "silent for 20 s") == (second["since"], second["text"][-15:])
    assert first["id"] == second["id"]
