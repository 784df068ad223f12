"""How a batch slows down is learned from the tokens that engines count as they make them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from controlplane.model import Signal
from controlplane.sim.engine_spec import EngineLoad, EngineSpec
from controlplane.sim.instances import SimEngine
from controlplane.sim.kernel import Kernel
from controlplane.sim.token_engine import build_engine
from controlplane.steering.capacity import CapacityLearner
from controlplane.steering.estimate import Estimate
from controlplane.steering.layout import build_layout
from controlplane.steering.token_rates import (
    SLOWDOWNS,
    SUMS,
    TokenInterval,
    fit_batches,
    token_products,
)
from testbed.fakes.views import make_config, make_instance, make_reported, make_view

GAUGES = (Signal.RUNNING, Signal.WAITING)
COUNTERS = (
    Signal.COMPLETED,
    Signal.LATENCY_SUM,
    Signal.LATENCY_COUNT,
    Signal.OUTPUT_TOKENS,
    Signal.PROMPT_TOKENS,
)
Said = dict[Signal, float]


def as_they_are(signals: Said, _ended: float) -> Said:
    """Return what the simulated engine says."""
    return signals


def when_requests_end(signals: Said, ended: float) -> Said:
    """Return the same of an engine that counts a request's tokens when it ends."""
    return signals | {Signal.OUTPUT_TOKENS: ended}


def not_at_all(signals: Said, _ended: float) -> Said:
    """Return the same of an engine that counts no tokens."""
    return {each: value for each, value in signals.items() if each is not Signal.OUTPUT_TOKENS}


def learn(
    spec: EngineSpec,
    *,
    rate: float,
    seed: int = 1,
    said: Callable[[Said, float], Said] = as_they_are,
    slow: tuple[float, float] = (math.inf, 1.0),
    fast: float = math.inf,
    fewer: tuple[float, float] = (math.inf, 1.0),
    period: float = 1.0,
    seconds: int = 100,
    restarts: tuple[float, ...] = (),
) -> Estimate:
    """Return what is learned of an engine, asked *rate* times a second for a second's work.

    *slow* is an instant and the part of its speed that is left from then on until *fast*; *fewer*
    an instant and the part of the rate that is left from then on. It reports once a *period*; at
    *restarts* another learner goes on from the memory of the one before.
    """
    rng = np.random.default_rng(seed)
    size = int(rate * seconds * 1.3)
    work = rng.lognormal(-0.18, 0.6, size)
    prompt = rng.lognormal(math.log(1000.0) - 0.5, 1.0, size)
    kernel, ended = Kernel(), [0.0]

    def finish(_now: float, request: int) -> None:
        ended[0] += 50.0 * work[request]

    output = (50.0 * work).tolist()
    load = EngineLoad(work.tolist(), prompt.tolist(), output, [math.inf] * size)
    engine: SimEngine = build_engine(0, spec, kernel, load, finish=finish, lapse=finish)
    config = make_config(instances=[make_instance("a", "near", engine="vllm")])
    layout, learners = build_layout(config, config.instances), [CapacityLearner()]
    found: list[Estimate] = []
    last: Mapping[Signal, float] = {}

    def report(now: float) -> None:
        nonlocal last
        if now >= slow[0]:
            engine.change(now, factor=slow[1] if now < fast else 1.0)
        signals = said(engine.signals(now), ended[0])
        shown = make_reported(
            config,
            "a",
            at=now,
            gauges={each: signals[each] for each in GAUGES},
            rates={
                each: (signals[each] - last.get(each, 0.0)) / period
                for each in COUNTERS
                if each in signals
            },
        )
        last = signals
        if now in restarts:
            memory = json.loads(json.dumps(learners[-1].memory(now=now), allow_nan=False))
            learners.append(CapacityLearner())
            assert () == learners[-1].remember(memory, now=now)
        found[:] = learners[-1].observe(make_view(config, at=now, instances={"a": shown}), layout)

    kernel.every(period, report, start=period)
    times = np.cumsum(rng.exponential(1.0 / rate, size))
    later = times > fewer[0]
    times[later] = fewer[0] + (times[later] - fewer[0]) / fewer[1]
    kernel.run(float(seconds), times.tolist(), engine.arrive)
    return found[0]


@pytest.mark.parametrize(("slowdown", "rate"), [(0.01, 8.0), (0.05, 6.0), (0.16, 3.5)])
def test_slowdown_and_pace_are_learned_without_bias(slowdown: float, rate: float) -> None:
    """In the mean of four engines both are right, whatever completions seem to say."""
    spec = EngineSpec(32, 1.0, slowdown)
    found = [learn(spec, rate=rate, seed=seed) for seed in range(4)]

    assert pytest.approx(slowdown, abs=0.02) == np.mean([each.slowdown for each in found])
    assert pytest.approx(1.0, rel=0.15) == np.mean([each.pace for each in found])


def test_a_prompt_slows_requests_down_as_long_as_it_is_read() -> None:
    """A tenth of the time alone, it is most of what further requests cost."""
    spec = EngineSpec(64, 1.0, 0.02, kind="tokens", prefill_rate=10_000.0)
    found = [learn(spec, rate=4.0, seed=seed) for seed in range(4)]

    # 0.1 s of prompt and 1 s of decoding alone.
    assert pytest.approx((0.1 + 0.02) / 1.1, abs=0.03) == np.mean([e.slowdown for e in found])
    assert pytest.approx(1.1, rel=0.2) == np.mean([each.pace for each in found])


def test_tokens_that_are_counted_when_requests_end_say_no_more_than_these() -> None:
    """They scatter like completions, and are left out."""
    spec = EngineSpec(32, 1.0, 0.16)

    late = learn(spec, rate=3.5, said=when_requests_end)
    mute = learn(spec, rate=3.5, said=not_at_all)

    assert pytest.approx(mute.slowdown, abs=0.005) == late.slowdown
    assert pytest.approx(mute.pace, rel=0.01) == late.pace


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.6])
def test_a_change_of_speed_is_noticed_in_four_reports(factor: float) -> None:
    """The curve stays, and what requests take follows at once."""
    spec = EngineSpec(32, 1.0, 0.05)
    found = [learn(spec, rate=6.0, seed=seed, slow=(60.0, factor), seconds=64) for seed in range(3)]

    assert pytest.approx(1.0 / factor, rel=0.15) == np.median([each.pace for each in found])
    assert pytest.approx(0.05, abs=0.025) == np.median([each.slowdown for each in found])


@pytest.mark.parametrize("rate", [13.0, 20.0])
@pytest.mark.parametrize("said", [as_they_are, when_requests_end])
def test_requests_that_are_short_beside_the_period_are_learned_without_bias(
    rate: float, said: Callable[[Said, float], Said]
) -> None:
    """Of 40 ms, read every 200: gauges that happen to find two inside say nothing of the rest."""
    spec = EngineSpec(8, 25.0, 0.1)
    found = [
        learn(spec, rate=rate, seed=seed, said=said, period=0.2, seconds=30) for seed in range(2)
    ]

    assert pytest.approx([0.04] * 2, rel=0.25) == [each.pace for each in found]


@pytest.mark.parametrize("said", [as_they_are, when_requests_end, not_at_all])
@pytest.mark.parametrize("period", [0.2, 1.0])
def test_a_machine_that_is_fast_again_is_known_by_few_requests(
    period: float, said: Callable[[Said, float], Said]
) -> None:
    """A trickle is too little for a batch, whose tokens would show its speed."""
    spec = EngineSpec(8, 25.0, 0.1)
    found = [
        learn(
            spec, rate=40.0, seed=seed, said=said, slow=(5.0, 0.1), fast=8.0,
            fewer=(7.0, 0.25 / 40.0), period=period, seconds=60,
        )
        for seed in range(2)
    ]  # fmt: skip

    assert max(each.pace for each in found) < 0.04 * 3.0


def test_what_tokens_said_outlives_a_restart() -> None:
    """Sums of products may be negative and large; all of them are taken up again.

    Only the gauge before is not kept, so that one interval is missing.
    """
    spec = EngineSpec(64, 1.0, 0.02, kind="tokens", prefill_rate=10_000.0)
    kept, restarted = learn(spec, rate=4.0), learn(spec, rate=4.0, restarts=(90.0,))

    assert pytest.approx(kept.slowdown, rel=0.1) == restarted.slowdown
    assert pytest.approx(kept.pace, rel=0.1) == restarted.pace


def test_nothing_is_said_before_enough_was_seen() -> None:
    """Seven intervals, however exact, are no curve."""
    running = np.array([8.0])
    seen = TokenInterval(running, np.zeros(1), np.ones(1), 40.0 * running, np.zeros(1))
    sums = 7.0 * token_products(seen, np.zeros(1))

    assert (1, len(SLOWDOWNS), SUMS) == sums.shape
    assert np.isnan(fit_batches(sums, np.zeros(1)).slowdown).all()
