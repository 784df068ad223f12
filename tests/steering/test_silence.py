"""How long a plan stays after a silence of all, and after a restart: reports come one by one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from controlplane.fleet.traffic_view import Outcomes, OutcomeView
from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.model import Signal
from controlplane.steering.silence import Silence
from testbed.fakes.views import make_config, make_instance, make_reported, make_view

CONFIG = make_config(
    instances=[make_instance(name, "near") for name in "abc"],
    steering={"period": "1s", "expiry": "30s"},
)


def seen(at: float, heard: Mapping[str, float], *, dead: str = "") -> FleetView:
    """Make the view at *at* of instances by when each was heard; those in *dead* are expired."""

    def shown(name: str, spoke: float) -> InstanceView:
        silent = Phase.EXPIRED if name in dead else Phase.STALE
        phase = Phase.LIVE if at - spoke <= 3.0 else silent
        return make_reported(CONFIG, name, at=spoke, gauges={Signal.RUNNING: 1.0}, phase=phase)

    return make_view(
        CONFIG,
        at=at,
        instances={name: shown(name, spoke) for name, spoke in heard.items()},
        frozen=all(at - spoke > 3.0 for spoke in heard.values()),
    )


def stays(silence: Silence, at: float, *, dead: str = "", **heard: float) -> bool:
    """Return whether the plan stays at *at*."""
    return bool(silence.observe(seen(at, heard, dead=dead)))


def test_the_plan_stays_until_each_has_been_heard_again() -> None:
    """The first report alone would be weighed against old ones of the others."""
    silence = Silence()

    assert not stays(silence, 1.0, a=0.5, b=0.6, c=0.7)
    assert stays(silence, 7.0, a=0.5, b=0.6, c=0.7)
    assert stays(silence, 7.5, a=7.4, b=0.6, c=0.7)
    assert stays(silence, 8.0, a=7.4, b=7.8, c=0.7)
    assert not stays(silence, 8.5, a=7.4, b=7.8, c=8.3)
    assert not stays(silence, 9.0, a=8.8, b=7.8, c=8.3)


def test_one_that_does_not_come_back_is_not_waited_for_long() -> None:
    """What fell silent for good is judged by the others' plan after its turn has passed."""
    silence = Silence()
    assert not stays(silence, 1.0, a=0.5, b=0.6, c=0.7)
    assert stays(silence, 7.0, a=0.5, b=0.6, c=0.7)
    held = [
        stays(silence, 7.5 + turn, a=7.4 + turn, b=7.4 + turn, c=0.7, dead="c" if turn > 1 else "")
        for turn in range(6)
    ]

    assert [True, True, False, False, False, False] == held


def test_what_came_before_a_pause_is_no_word_of_the_present() -> None:
    """A process that was stopped finds the last reports unread, and all of them old."""
    silence = Silence()

    assert not stays(silence, 1.0, a=0.5, b=0.6, c=0.7)
    assert stays(silence, 8.0, a=1.2, b=0.6, c=0.7)
    assert stays(silence, 8.5, a=8.3, b=0.6, c=0.7)
    assert not stays(silence, 9.0, a=8.8, b=8.7, c=8.6)


def test_what_was_read_first_after_a_pause_is_not_weighed_against_what_is_old() -> None:
    """As where a process that was stopped reads a page before it comes to its next decision."""
    silence = Silence()

    assert not stays(silence, 1.0, a=0.5, b=0.6, c=0.7)
    assert stays(silence, 8.0, a=7.9, b=0.6, c=0.7)
    assert stays(silence, 8.5, a=7.9, b=8.3, c=0.7)
    assert not stays(silence, 9.0, a=8.9, b=8.3, c=8.6)


def test_what_was_silent_before_a_pause_is_not_waited_for() -> None:
    """A process whose decisions always come late would hold its plan for one that is dead."""
    silence = Silence()
    assert not stays(silence, 1.0, a=0.5, b=0.6, c=0.7)
    for at in np.arange(2.0, 6.0):
        assert not stays(silence, at, a=at - 0.1, b=at - 0.1, c=0.7)

    for at in np.arange(9.0, 40.0, 3.0):
        assert not stays(silence, at, a=at - 0.1, b=at - 0.1, c=0.7)


def test_decisions_that_always_come_late_are_no_pauses() -> None:
    """One that dies among many, whose decisions outlast their period, holds nothing."""
    silence = Silence()
    for at in np.arange(1.0, 30.0, 3.0):
        assert not stays(silence, at, a=at - 0.1, b=at - 0.1, c=at - 0.1)

    for at in np.arange(31.0, 50.0, 3.0):
        assert not stays(silence, at, a=at - 0.1, b=at - 0.1, c=27.9)


@pytest.mark.parametrize("silent", ["one", "all but one"])
def test_some_that_fall_silent_hold_nothing(silent: str) -> None:
    """The others speak for the fleet; what is old of a few counts less from instant to instant."""
    silence = Silence()
    spoke = {"one": (0.5, 8.9, 8.9), "all but one": (0.5, 0.6, 8.9)}[silent]

    for at in np.arange(1.0, 10.0):
        now = {
            name: last if last < 1.0 else at - 0.1 for name, last in zip("abc", spoke, strict=True)
        }
        assert not silence.observe(seen(at, now))


PAGE = {"url": "http://10.0.0.1/metrics", "period": "1s", "timeout": "1s"}
RESTARTED = make_config(
    instances=[
        make_instance("a", "near", scrape=PAGE),
        make_instance("b", "near", scrape=PAGE),
        make_instance("unscraped", "near"),
    ],
    steering={"period": "1s", "expiry": "30s"},
)


def restarted(
    silence: Silence,
    at: float,
    *heard: str,
    unread: Phase = Phase.UNKNOWN,
    asked: str = "unscraped",
) -> bool:
    """Return whether the plan stays at *at*.

    Those in *heard* have been read or reported by agents, and Envoys have reported *asked*.
    """
    instances = {
        each.name: make_reported(RESTARTED, each.name, at=at - 0.1, gauges={Signal.RUNNING: 1.0})
        if each.name in heard
        else InstanceView(each, unread, confidence=0.0, ramp=1.0)
        for each in RESTARTED.instances
    }
    known = Outcomes(answered=1.0)
    outcomes = {(asked, "chat"): OutcomeView(known, known, 1.0, 0.0, at)} if asked else {}
    return bool(
        silence.observe(make_view(RESTARTED, at=at, instances=instances, outcomes=outcomes))
    )


def test_the_plan_of_an_earlier_run_stays_until_each_scraped_instance_was_read() -> None:
    """What was read first would be weighed against what is not known of the others."""
    silence = Silence()
    silence.resume()

    assert restarted(silence, 1.0)
    assert restarted(silence, 1.5, "a")
    assert not restarted(silence, 2.0, "a", "b")
    assert not restarted(silence, 2.5, "a")


@pytest.mark.parametrize(("by_agent", "by_envoys"), [("unscraped", ""), ("", "unscraped")])
def test_one_that_only_agents_or_envoys_report_is_waited_for_as_well(
    by_agent: str, by_envoys: str
) -> None:
    """Else the fleet that no one scrapes is decided of nothing."""
    silence = Silence()
    silence.resume()

    assert restarted(silence, 1.0, "a", "b", asked="")
    assert restarted(silence, 1.5, "a", "b", asked="a")
    assert not restarted(silence, 2.0, "a", "b", by_agent, asked=by_envoys)


def test_what_nobody_reports_is_not_waited_for_for_longer_than_reports_take() -> None:
    """No client asks it and it has no agent, or it is gone."""
    silence = Silence()
    silence.resume()

    assert [True, True, True, True, False, False] == [
        restarted(silence, 100.0 + second, "a", "b", asked="") for second in range(6)
    ]


def test_a_page_that_is_not_read_is_waited_for_although_envoys_report_its_instance() -> None:
    """What it says of its queue is not known yet."""
    silence = Silence()
    silence.resume()

    assert restarted(silence, 1.0, "b", "unscraped", asked="a")


def test_after_a_restart_an_instance_that_is_gone_is_not_waited_for_long() -> None:
    """Two turns of its page, and what can be said without it is decided."""
    silence = Silence()
    silence.resume()

    assert [True, True, True, True, False, False] == [
        restarted(silence, 100.0 + second, "a") for second in range(6)
    ]


def test_instances_that_expired_before_the_first_decision_are_waited_for_too() -> None:
    """A machine that is busy enough comes to it after longer than what is never heard counts."""
    silence = Silence()
    silence.resume()

    assert restarted(silence, 1.0, unread=Phase.EXPIRED)
    assert restarted(silence, 1.5, "a", unread=Phase.EXPIRED)
    assert not restarted(silence, 2.0, "a", "b")


def test_a_start_without_an_earlier_plan_waits_for_nothing() -> None:
    """Any plan is better than none."""
    assert not restarted(Silence(), 1.0)


def test_reports_that_are_always_late_still_move_the_plan() -> None:
    """A fleet on a slow line is heard every few seconds, each report older than counts as fresh."""
    silence = Silence()
    decided = 0
    for second in range(60):
        spoke = float(second - second % 5 - 4)
        decided += not stays(silence, float(second), a=spoke, b=spoke, c=spoke)

    assert 60 // 5 - 1 <= decided
