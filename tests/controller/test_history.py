"""The history: what was, in bounded memory, also after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.controller import history as module
from controlplane.controller.history import (
    COARSE_SPAN,
    FINE_SPAN,
    MAX_POINTS,
    History,
    Query,
    Sample,
    make_sample,
    pack_sample,
)
from controlplane.fleet.traffic_view import TrafficView
from controlplane.model import Reading, Signal, Source
from controlplane.runtime.kept_files import restore_kept, save_kept
from controlplane.steering import Steering
from testbed.fakes.views import make_config, make_instance, make_reported, make_view

CONFIG = make_config(
    instances=[make_instance("a", "near"), make_instance("b", "far", address="10.0.0.2:80")]
)


def sample(at: float, demand: float = 8.0) -> Sample:
    """Return a sample of the Unix time *at*."""
    reading = Reading(demand, Source.ENVOY, at)
    view = make_view(
        CONFIG,
        at=at,
        demand={("near", "chat"): demand, ("far", "chat"): 2.0},
        instances={
            name: make_reported(CONFIG, name, at=at, gauges={Signal.RUNNING: 2.0})
            for name in ("a", "b")
        },
        traffic={
            ("near", "chat", "a"): TrafficView(reading, 0.25, Reading(0.5, Source.ENVOY, at), None)
        },
    )
    return make_sample(view, Steering(CONFIG).decide(view), epoch=0.0)


def filled(seconds: float, *, step: float = 5.0) -> History:
    """Return a history of *seconds* whose demand is the time."""
    history = History()
    one = sample(1.0)
    for tick in range(int(seconds / step) + 1):
        at = 1e6 + tick * step
        history.add(*pack_sample({**one, "at": at}))
    return history


def test_a_query_gives_each_figure_over_time() -> None:
    """Demand, latency predicted and observed, failures and shares, oldest first."""
    history = History()
    for tick in range(3):
        history.add(*pack_sample(sample(100.0 + 5 * tick, demand=4.0 + tick)))

    answer = history.query(Query(service="chat", site="near", instance="a"))()
    chat = answer["services"]["chat"]

    assert [100.0, 105.0, 110.0] == answer["at"]
    assert 5.0 == answer["step"]
    assert sorted(chat["demand"]) == chat["demand"]
    assert [0.5] * 3 == chat["observed"]
    assert [0.25] * 3 == chat["failures"]
    assert all(value > 0 for value in chat["predicted"])
    assert pytest.approx(1.0, abs=0.02) == sum(each[-1] for each in chat["shares"].values())
    assert 3 == len(answer["instance"]["phase"])


def test_a_service_without_a_site_is_summed_over_its_client_sites() -> None:
    """Demand adds up; latency is the mean over requests."""
    history = History()
    history.add(*pack_sample(sample(100.0)))

    whole = history.query(Query())()["services"]["chat"]
    near = history.query(Query(service="chat", site="near"))()["services"]["chat"]
    far = history.query(Query(service="chat", site="far"))()["services"]["chat"]

    assert whole["demand"][0] == pytest.approx(near["demand"][0] + far["demand"][0])


def test_a_day_is_kept_at_a_minute_and_answered_in_bounded_points() -> None:
    """The last quarter of an hour is finer; what is older than a day is gone."""
    history = filled(COARSE_SPAN + 7200.0, step=30.0)

    fine = history.query(Query(FINE_SPAN))()["at"]
    day = history.query(Query(COARSE_SPAN))()["at"]

    assert FINE_SPAN >= fine[-1] - fine[0]
    assert 30.0 == fine[1] - fine[0]
    assert MAX_POINTS >= len(day)
    assert COARSE_SPAN - 300 <= day[-1] - day[0] <= COARSE_SPAN
    assert fine[-1] == pytest.approx(day[-1], abs=60)


def test_memory_is_bounded_whatever_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many bytes the oldest samples go."""
    monkeypatch.setattr(module, "MAX_BYTES", 20_000)

    history = filled(800.0)

    assert 10_000 < history._fine._bytes <= 20_000
    assert 1e6 + 800.0 == history.query(Query())()["at"][-1]


def test_it_outlives_the_process_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    """A file that was cut costs its end only."""
    before = filled(600.0)
    save_kept(before.file, before.encode(), tmp_path)
    after, cut = History(), History()

    assert "" == restore_kept(after, tmp_path)
    assert before.query(Query())() == after.query(Query())()
    path = tmp_path / "history.bin"
    path.write_bytes(path.read_bytes()[:-20])
    assert "sample unreadable" in restore_kept(cut, tmp_path)
    assert before.query(Query())() == cut.query(Query())()  # the cut one was a coarse sample


@pytest.mark.parametrize("content", [b"", b"{}", b"cats history 1\n\x00\xff\xff\xff\xff"])
def test_what_is_no_history_is_reported(tmp_path: Path, content: bytes) -> None:
    """And nothing of it is taken."""
    (tmp_path / "history.bin").write_bytes(content)
    history = History()

    assert restore_kept(history, tmp_path)
    assert [] == history.query(Query())()["at"]


def test_a_moment_is_the_sample_nearest_to_it() -> None:
    """With all instances, as they were."""
    history = filled(600.0)

    moment: Any = history.nearest(1e6 + 61.0)()

    assert 1e6 + 60.0 == moment["at"]
    assert {"a", "b"} == moment["instances"].keys()
    assert History().nearest(0.0)() is None
