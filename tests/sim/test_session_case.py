"""Sessions in the simulator: drawn, remembered by engines, kept in place by a hash."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from controlplane.model import Signal
from controlplane.sim.engine_spec import EngineLoad, EngineSpec
from controlplane.sim.kernel import Kernel
from controlplane.sim.results import Outcome
from controlplane.sim.run import run_trial
from controlplane.sim.session_case import draw_session_fleet, session_case
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.target_fleets import steady
from controlplane.sim.token_engine import build_engine
from controlplane.sim.workload import Sessions, Stream, draw_arrivals


def test_turns_come_at_the_rate_of_their_stream() -> None:
    """Sessions of eight turns, twenty seconds apart, as if they had always been coming."""
    stream = Stream("north", "chat", 20.0, sessions=Sessions(turns=8, pause=20))
    drawn = draw_arrivals([stream], duration=400.0, seed=1)
    assert 20.0 == pytest.approx(len(drawn.times) / 400.0, rel=0.1)
    first, second = (np.sum((drawn.times >= t) & (drawn.times < t + 200)) for t in (0, 200))
    assert 1.0 == pytest.approx(first / second, rel=0.2)
    assert (np.diff(drawn.times) >= 0).all()
    gaps = [
        np.diff(drawn.times[drawn.session == session]).mean()
        for session in np.unique(drawn.session)
        if np.sum(drawn.session == session) > 1
    ]
    assert 20.0 == pytest.approx(float(np.mean(gaps)), rel=0.2)


def test_requests_of_no_session_are_as_before() -> None:
    """Nothing is drawn for them."""
    assert 0 == len(draw_arrivals([Stream("north", "chat", 5.0)], duration=20.0, seed=1).session)


@pytest.mark.parametrize(("room", "ends"), [(2, [1.0, 1.7, 2.7]), (1, [1.0, 1.7, 2.7, 3.7])])
def test_an_engine_reads_the_rest_of_a_prompt_that_it_remembers(
    room: int, ends: list[float]
) -> None:
    """Half of the work is the prompt, of which 0.6 are saved while its session is remembered."""
    sessions = [7, 7, 8, 7][: len(ends)]
    count = len(sessions)
    load = EngineLoad(
        [1.0] * count, [100.0] * count, [0.0] * count, [np.inf] * count, session=sessions
    )
    kernel, ended = Kernel(), []
    engine = build_engine(
        0,
        EngineSpec(1, cached_sessions=room),
        kernel,
        load,
        finish=lambda now, _: ended.append(round(now, 6)),
        lapse=lambda *_: None,
    )
    for request in range(count):
        engine.arrive(0.0, request)
    kernel.run(20.0, [], lambda *_: None)
    assert ends == ended
    signals = engine.signals(20.0)
    assert (100.0 * count, 60.0) == (
        signals[Signal.PREFIX_QUERIES],
        signals[Signal.PREFIX_HITS],
    )
    # The first token comes after the part of the time that reading takes: 0.5, 0.2 of 0.7 ...
    assert signals[Signal.TTFT_SUM] < signals[Signal.LATENCY_SUM]


def sidecar() -> Sidecar:
    """Return an Envoy before four instances."""
    return Sidecar(
        0, envoy="e", site="north", service="chat", usable=range(4), out=[0.0] * 4,
        back=[0.0] * 4, need=[1.0] * 4, timeout=np.inf, source=random.Random(1),
    )  # fmt: skip


def test_sessions_follow_the_weights_and_move_as_little_as_those_change() -> None:
    """The hash gives shares by weight; a tenth more for one moves a fortieth of the sessions."""
    envoy = sidecar()
    envoy.push([(item, 100, 0) for item in range(4)])
    before = [envoy.pick_session(session) for session in range(4000)]
    assert all(850 < count < 1150 for count in Counter(before).values())
    assert [1000.0] * 4 == pytest.approx(envoy.expected())
    envoy.push([(0, 110, 0), *((item, 100, 0) for item in range(1, 4))])
    after = [envoy.pick_session(session) for session in range(4000)]
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert 20 < moved < 150


def test_a_run_says_how_many_turns_stayed_warm() -> None:
    """A short run under the control plane and with fixed weights, which move no session."""
    fleet = draw_session_fleet(1, load=0.2, clients=4)
    trial = steady(fleet, ("steady", 10.0, 40.0))
    fixed = run_trial(trial, "capacity", seed=1)
    assert 1.0 == fixed.warm["steady"] == fixed.warm_instance["steady"]
    ours = run_trial(trial, "controlplane", seed=1)
    assert 0.3 < ours.warm["steady"] <= 1.0
    assert ours.crowded > 1.0
    assert not run_trial(trial, "controlplane:sessionless", seed=1).crowded > 0


@pytest.mark.parametrize(
    ("pushes", "measured"), [((10.0, 70.0, 80.0), 100 * 300 / 1800 / 2), ((10.0,), np.inf)]
)
def test_a_short_run_counts_for_the_pushes_that_half_an_hour_would_have(
    pushes: tuple[float, ...], measured: float
) -> None:
    """Of five minutes after the first, in which two were made, it is twelve; 100 are promised."""
    (pushed,) = [each for each in session_case().measures if "pushes" in each.name]
    ours = Outcome("controlplane", 1, {}, {}, pushes, arrivals=np.array([0.0, 360.0]))
    assert measured == pytest.approx(pushed.of({"controlplane": ours}))
