"""Simulated engines obey the laws of the queues that they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest

from controlplane.model import Signal
from controlplane.sim.engine_spec import EngineLoad, EngineSpec
from controlplane.sim.instances import SimEngine
from controlplane.sim.kernel import Kernel
from controlplane.sim.token_engine import build_engine


class Bench:
    """One engine fed with given arrivals; keeps when each was answered or given up."""

    def __init__(
        self,
        spec: EngineSpec,
        times: Sequence[float],
        work: Sequence[float],
        *,
        prompt: Sequence[float] = (),
        output: Sequence[float] = (),
        deadline: Sequence[float] = (),
    ) -> None:
        self.kernel, self.times = Kernel(), times
        self.done: dict[int, float] = {}
        self.lapsed: dict[int, float] = {}
        size = len(times)
        load = EngineLoad(
            work, prompt or [0.0] * size, output or [0.0] * size, deadline or [math.inf] * size
        )
        self.engine: SimEngine = build_engine(
            0,
            spec,
            self.kernel,
            load,
            finish=lambda now, request: self.done.update({request: now}),
            lapse=lambda now, request: self.lapsed.update({request: now}),
        )

    def run(self, until: float = 1e9) -> Bench:
        """Feed everything that arrives before *until*."""
        self.kernel.run(until, self.times, self.engine.arrive)
        return self


def erlang_wait(servers: int, load: float, service: float) -> float:
    """Return the mean wait of an M/M/c queue (Erlang C)."""
    offered = load * servers
    terms = sum(offered**k / math.factorial(k) for k in range(servers))
    last = offered**servers / math.factorial(servers) / (1 - load)
    return last / (terms + last) * service / (servers * (1 - load))


@pytest.mark.parametrize(
    ("slots", "load"),
    [
        pytest.param(1, 0.7, id="M/M/1"),
        pytest.param(4, 0.8, id="M/M/4"),
        pytest.param(16, 0.9, id="M/M/16"),
    ],
)
def test_a_queue_waits_as_erlang_says(slots: int, load: float) -> None:
    """The mean wait of Poisson arrivals with exponential work is that of Erlang C."""
    rng, count = np.random.default_rng(7), 200_000
    times = np.cumsum(rng.exponential(1 / (slots * load), count)).tolist()
    bench = Bench(EngineSpec(slots), times, rng.exponential(1.0, count).tolist()).run()

    wait = bench.engine.queue_sum / count

    assert erlang_wait(slots, load, 1.0) == pytest.approx(wait, rel=0.06)


def test_requests_inside_are_rate_times_latency() -> None:
    """Little's law holds for a batching engine, sampled at instants that ignore its state."""
    rng, count = np.random.default_rng(3), 60_000
    times = np.cumsum(rng.exponential(1 / 8, count)).tolist()
    bench = Bench(EngineSpec(16, 1.0, 0.1), times, rng.lognormal(-0.87, 0.6, count).tolist())
    inside: list[int] = []
    bench.kernel.every(0.37, lambda _now: inside.append(bench.engine.present), start=1.0)

    bench.run(times[-1])
    engine = bench.engine

    rate = engine.completed / times[-1]
    assert rate * engine.latency_sum / engine.completed == pytest.approx(np.mean(inside), rel=0.02)


def test_a_batch_of_equal_requests_takes_the_batching_curve() -> None:
    """Alone a request takes 0.5 s; each further one in the batch adds a tenth of that."""
    for size in (1, 4, 16):
        bench = Bench(EngineSpec(16, 1.0, 0.1), [0.0] * size, [0.5] * size).run(100.0)

        assert {0.5 * (1 + 0.1 * (size - 1))} == {round(t, 9) for t in bench.done.values()}


def test_service_within_a_batch_is_shared_equally() -> None:
    """A short request that joins a long one slows both while it is there."""
    bench = Bench(EngineSpec(2, 1.0, 1.0), [0.0, 1.0], [2.0, 0.5]).run(100.0)

    # Alone from 0 to 1; together at half rate until the short one ends at 2; alone again.
    assert {1: 2.0, 0: 2.5} == pytest.approx(bench.done)


def test_those_beyond_the_slots_wait_in_order() -> None:
    """First come, first served."""
    bench = Bench(EngineSpec(1), [0.0, 0.1, 0.2], [1.0, 1.0, 1.0]).run(100.0)

    assert {0: 1.0, 1: 2.0, 2: 3.0} == pytest.approx(bench.done)
    assert 0.9 + 1.8 == pytest.approx(bench.engine.queue_sum)


def test_a_slowdown_stretches_what_is_in_service() -> None:
    """Half done at full speed, the rest at a quarter of it."""
    bench = Bench(EngineSpec(4), [0.0], [2.0])
    bench.kernel.at(1.0, lambda now, _: bench.engine.change(now, factor=0.25))
    bench.kernel.at(3.0, lambda now, _: bench.engine.change(now, factor=1.0))

    assert {0: 3.5} == pytest.approx(bench.run(100.0).done)


def test_a_training_job_takes_its_part_of_the_machine() -> None:
    """With 0.6 taken, 0.4 of the speed is left."""
    bench = Bench(EngineSpec(4), [1.0], [2.0])
    bench.kernel.at(0.0, lambda now, _: bench.engine.change(now, training=0.6))

    assert {0: 6.0} == pytest.approx(bench.run(100.0).done)


def test_death_fails_what_is_inside_and_what_comes() -> None:
    """After its revival the engine serves again and its counters start at 0."""
    bench = Bench(EngineSpec(1), [0.0, 0.1, 2.0, 4.0], [1.0] * 4)
    bench.kernel.at(0.5, lambda now, _: bench.engine.die(now))
    bench.kernel.at(3.0, lambda now, _: bench.engine.revive(now))
    bench.run(100.0)

    assert {0: 0.5, 1: 0.5, 2: 2.0} == bench.lapsed
    assert {3: 5.0} == pytest.approx(bench.done)
    assert 1.0 == bench.engine.signals(100.0)[Signal.COMPLETED]


def test_a_waiting_request_whose_client_has_gone_is_not_served() -> None:
    """It is given up when its turn comes, or when the engine is read."""
    bench = Bench(EngineSpec(1), [0.0, 0.1, 0.2], [3.0] * 3, deadline=[9.0, 1.0, 9.0]).run(100.0)

    assert [1] == list(bench.lapsed)
    assert {0: 3.0, 2: 6.0} == pytest.approx(bench.done)


def test_prefill_stops_decoding_and_then_tokens_come_in_step() -> None:
    """A second prompt of one second delays the first answer by that second."""
    spec = EngineSpec(4, kind="tokens", prefill_rate=1000, step_time=0.01)
    bench = Bench(spec, [0.0, 2.0], [0, 0], prompt=[500, 1000], output=[300, 100]).run(100.0)

    # The first prompt is read until 0.5, decodes until 2, stands still until 3, ends at 4.5.
    assert {0: 4.5, 1: 4.0} == pytest.approx(bench.done)
    signals = bench.engine.signals(100.0)
    assert 0.5 + 1.0 == pytest.approx(signals[Signal.TTFT_SUM])
    assert (1500.0, 400.0) == (signals[Signal.PROMPT_TOKENS], signals[Signal.OUTPUT_TOKENS])


def test_the_cache_bounds_what_is_admitted() -> None:
    """A request that does not fit into the key-value cache waits though slots are free."""
    spec = EngineSpec(4, kind="tokens", prefill_rate=1000, step_time=0.01, kv_tokens=1000)
    bench = Bench(spec, [0.0, 0.0], [0, 0], prompt=[600, 600], output=[100, 100])
    bench.run(1.0)

    signals = bench.engine.signals(1.0)
    assert (1.0, 1.0, 0.7) == (
        signals[Signal.RUNNING], signals[Signal.WAITING], signals[Signal.KV_USE],
    )  # fmt: skip


def test_the_stated_capacity_is_what_a_saturated_engine_answers() -> None:
    """Kept full, a batching engine completes slots / (work * (1 + slowdown * (slots - 1)))."""
    spec, count = EngineSpec(8, 1.6, 0.2), 4000
    bench = Bench(spec, [0.0] * count, [0.5] * count).run()

    assert spec.capacity(0.5) == pytest.approx(count / max(bench.done.values()))


@pytest.mark.parametrize("kind", ["work", "tokens"])
def test_tokens_are_counted_as_they_are_made(kind: Literal["work", "tokens"]) -> None:
    """Half-way through a request half of them are there."""
    spec = EngineSpec(4, 1.0, 0.1, kind=kind, prefill_rate=1e6)
    bench = Bench(spec, [0.0], [2.0], prompt=[1.0], output=[100.0]).run(1.0)

    assert pytest.approx(50.0, abs=0.1) == bench.engine.signals(1.0)[Signal.OUTPUT_TOKENS]
