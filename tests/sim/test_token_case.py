"""Classes by the length of prompts in the simulator: drawn, timed to the first token, compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controlplane.sim.engine_spec import EngineLoad, EngineSpec
from controlplane.sim.instances import SimEngine
from controlplane.sim.kernel import Kernel
from controlplane.sim.run import run_trial
from controlplane.sim.suite import run_case
from controlplane.sim.token_case import LONG, draw_token_fleet, join_classes, token_cases
from controlplane.sim.token_engine import TokenEngine
from controlplane.sim.trial import Trial
from controlplane.sim.workload import Stream, draw_arrivals, read_trace


@pytest.mark.parametrize("independent", [False, True])
def test_classes_are_the_requests_of_one_service_by_the_length_of_their_prompts(
    independent: bool,
) -> None:
    """Both draw from one source, and each request belongs to one of them."""
    fleet = draw_token_fleet(3, independent=independent)
    whole = tuple(replace(each, lengths=(0.0, np.inf)) for each in fleet.streams[::2])
    drawn = draw_arrivals(fleet.streams, duration=120.0, seed=3)
    one = draw_arrivals(whole, duration=120.0, seed=3)
    assert len(one.times) == len(drawn.times) > 500
    assert sorted(zip(one.times, one.prompt, strict=True)) == sorted(
        zip(drawn.times, drawn.prompt, strict=True)
    )
    services = np.array([each.service for each in fleet.streams])[drawn.stream]
    assert ((drawn.prompt >= LONG) == (services == "long")).all()


def test_independent_requests_have_the_lengths_of_a_trace_and_times_of_their_own() -> None:
    """The bursts of recorded code completions are gone, what they ask for is not."""
    stream = Stream("clients", "chat", 20.0, trace="azure-code")
    recorded = draw_arrivals([stream], duration=300.0, seed=1)
    alone = draw_arrivals([replace(stream, independent=True)], duration=300.0, seed=1)

    def scatter(times: np.ndarray) -> float:
        gaps = np.diff(times)
        return float(gaps.std() / gaps.mean())

    assert 1.0 == pytest.approx(scatter(alone.times), abs=0.1)
    assert scatter(recorded.times) > 2.0
    trace = read_trace("azure-code")
    assert trace["prompt"].mean() == pytest.approx(alone.prompt.mean(), rel=0.1)
    assert {*zip(alone.prompt, alone.output, strict=True)} <= {
        *zip(trace["prompt"], trace["output"], strict=True)
    }


def test_an_engine_says_when_the_first_token_of_a_prompt_would_come() -> None:
    """After the prompts before it, and after an end if its slots are taken."""
    kernel = Kernel()
    load = EngineLoad([0.0] * 3, [800.0, 1600.0, 80.0], [10.0, 20.0, 1.0], [np.inf] * 3)
    engine = TokenEngine(
        0, EngineSpec(2, kind="tokens"), kernel, load, finish=lambda *_: None, lapse=lambda *_: None
    )
    assert 0.01 == pytest.approx(engine.seconds_to_first(0.0, 0.0, 80.0))
    engine.arrive(0.0, 0)
    assert 0.11 == pytest.approx(engine.seconds_to_first(0.0, 0.0, 80.0))
    assert 0.06 == pytest.approx(engine.seconds_to_first(0.05, 0.0, 80.0))
    engine.arrive(0.05, 1)
    # Both slots are taken: the first leaves ten tokens of 0.02 s after all has been read.
    assert 0.05 + 0.2 + 0.01 + 0.2 == pytest.approx(engine.seconds_to_first(0.05, 0.0, 80.0))
    kernel.at(0.05, engine.arrive, 2)
    kernel.run(10.0, [], lambda *_: None)
    assert [0.1, 0.3, 0.51] == pytest.approx(load.first, abs=0.01)


def test_an_engine_that_counts_work_says_when_an_answer_would_come() -> None:
    """At the rate of the batch, and after an end if its slots are taken."""
    kernel, load = Kernel(), EngineLoad([1.0, 3.0], [0.0] * 2, [0.0] * 2, [np.inf] * 2)
    engine = SimEngine(
        0, EngineSpec(2, slowdown=0.5), kernel, load, finish=lambda *_: None, lapse=lambda *_: None
    )
    assert 1.0 == pytest.approx(engine.seconds_to_first(0.0, 1.0, 0.0))
    engine.arrive(0.0, 0)
    assert 1.5 == pytest.approx(engine.seconds_to_first(0.0, 1.0, 0.0))
    engine.arrive(0.0, 1)
    assert 3.0 == pytest.approx(engine.seconds_to_first(0.0, 1.0, 0.0))


def test_a_run_says_when_first_tokens_came_and_the_oracle_is_ahead() -> None:
    """Half a minute of the suite's case."""
    fleet = draw_token_fleet(2, independent=True, load=0.6)
    trial = join_classes(Trial("t", fleet, 40.0, (("steady", 10.0, 40.0),)))
    runs = {
        name: run_trial(trial, name, seed=2).windows["steady"]
        for name in ("length_oracle", "round_robin")
    }
    assert 0.0 < runs["length_oracle"].first_p99 < runs["length_oracle"].p99
    assert runs["length_oracle"].first_p99 < 0.8 * runs["round_robin"].first_p99


def test_one_class_gets_the_very_same_requests() -> None:
    """What differs in the other world is the configuration alone."""
    trial = Trial("t", draw_token_fleet(2), 20.0, ())
    other = join_classes(trial)
    assert ["short"] == [each.name for each in other.fleet.config.services]
    one, two = (draw_arrivals(each.fleet.streams, duration=20.0, seed=2) for each in (trial, other))
    assert one.times.tolist() == two.times.tolist()
    assert one.prompt.tolist() == two.prompt.tolist()


def test_the_case_compares_classes_with_one_class_and_with_the_oracle() -> None:
    """A short form of it, measured as the suite does."""
    case = token_cases()[1]
    short = replace(
        case,
        trial=lambda seed, _: Trial(
            "t", draw_token_fleet(seed, independent=True), 30.0, (("steady", 10.0, 30.0),)
        ),
    )
    against_one, against_oracle = run_case(short, 5, quick=True, clock=lambda: 0.0)
    assert 0.1 < against_one < 10.0
    assert against_oracle > 1.0
