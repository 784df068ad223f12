"""The emulated batching engine."""

from __future__ import annotations

import math
import random

import pytest

from testbed.fakes.engine import BatchingEngine, Curve, Demand, Mark

CURVE = Curve(base=0.2, crowding=0.02, slots=4)
UNIT = Demand(prompt_tokens=0, output_tokens=100)
"""A request of work 1."""


def make_engine(curve: Curve = CURVE) -> BatchingEngine:
    """Return an idle engine at time 0."""
    return BatchingEngine(curve, now=0.0)


def run(engine: BatchingEngine, until: float = math.inf) -> list[Mark]:
    """Advance from mark to mark, as a timer would."""
    marks: list[Mark] = []
    while (at := engine.next_at()) is not None and at <= until:
        marks += engine.advance(now=at)
    return marks


def ends(marks: list[Mark]) -> dict[int, float]:
    """Return ticket -> instant of its end."""
    return {mark.ticket: mark.at for mark in marks if mark.last}


@pytest.mark.parametrize("running", [1, 2, 3, 4])
def test_a_full_batch_takes_what_the_curve_says(running: int) -> None:
    """Requests that run together from start to end each take base + crowding * n."""
    engine = make_engine()
    tickets = [engine.submit(UNIT, now=0.0) for _ in range(running)]

    finished = ends(run(engine))

    expected = 0.2 + 0.02 * running
    assert pytest.approx(dict.fromkeys(tickets, expected)) == finished


def test_an_arrival_slows_down_what_already_runs() -> None:
    """Work done before the arrival counts at the old speed, the rest at the new one."""
    engine = make_engine()
    first = engine.submit(UNIT, now=0.0)
    run(engine, until=0.11)
    second = engine.submit(UNIT, now=0.11)

    finished = ends(run(engine))

    # Half of the first is done at 0.11; the other half takes 0.12, as does half of the second.
    assert pytest.approx({first: 0.23, second: 0.23 + 0.11}) == finished


def test_requests_beyond_the_slots_wait_in_order() -> None:
    """Two that find the batch full start when it empties, first come first served."""
    engine = make_engine(Curve(base=0.1, crowding=0.0, slots=1))
    tickets = [engine.submit(UNIT, now=0.0) for _ in range(3)]

    assert (1, 2) == (engine.running, engine.waiting)
    assert pytest.approx(dict(zip(tickets, (0.1, 0.2, 0.3), strict=True))) == ends(run(engine))
    assert pytest.approx(0.1 + 0.2) == engine.queueing.total


def test_capacity_is_what_a_flooded_engine_finishes() -> None:
    """The rate of completions under flood is the curve's capacity."""
    engine = make_engine()
    for _ in range(400):
        engine.submit(UNIT, now=0.0)

    marks = run(engine)

    assert pytest.approx(CURVE.capacity, rel=0.01) == 400 / marks[-1].at


def test_latency_under_poisson_arrivals_is_what_theory_says() -> None:
    """Latency below capacity is that of the birth-death chain, (base + crowding) / (1 - load).

    Its occupancy is negative binomial, whatever the distribution of work; *load* is
    crowding * rate. The mean-field value, base / (1 - load), is too low by the request itself.
    """
    rng = random.Random(7)
    engine = make_engine(Curve(base=0.2, crowding=0.01, slots=64))
    now, rate = 0.0, 40.0
    for _ in range(20_000):
        now += rng.expovariate(rate)
        run(engine, until=now)
        engine.advance(now=now)
        engine.submit(UNIT, now=now)
    run(engine)

    mean = engine.latency.total / engine.completed

    assert pytest.approx(0.21 / (1 - 0.01 * rate), rel=0.02) == mean


def test_a_training_job_stretches_what_is_left() -> None:
    """With half the machine gone, the second half of a request takes twice as long."""
    engine = make_engine()
    ticket = engine.submit(UNIT, now=0.0)
    run(engine, until=0.11)
    engine.train(0.5, now=0.11)

    assert pytest.approx({ticket: 0.11 + 0.22}) == ends(run(engine))


def test_a_frozen_engine_goes_on_where_it_stopped() -> None:
    """Nothing is worked while frozen, and nothing is lost."""
    engine = make_engine()
    ticket = engine.submit(UNIT, now=0.0)
    engine.advance(now=0.1)
    engine.freeze(True, now=0.1)

    assert engine.next_at() is None

    engine.freeze(False, now=5.0)

    assert pytest.approx({ticket: 5.12}) == ends(run(engine))


@pytest.mark.parametrize("waiting", [False, True], ids=["running", "waiting"])
def test_a_cancelled_request_frees_its_place(waiting: bool) -> None:
    """Neither batch, queue nor cache remembers a client that hung up."""
    engine = make_engine(Curve(base=0.1, crowding=0.0, slots=1))
    tickets = [engine.submit(UNIT, now=0.0) for _ in range(2)]
    gone, stays = (tickets[1], tickets[0]) if waiting else (tickets[0], tickets[1])
    engine.cancel(gone, now=0.0)

    assert [stays] == list(ends(run(engine)))
    assert (0, 0, 0.0) == (engine.running, engine.waiting, engine.kv_use)


def test_a_streamed_answer_comes_in_pieces_that_add_up() -> None:
    """The first token comes after the prompt is read, the last piece has every token."""
    engine = make_engine()
    engine.submit(Demand(prompt_tokens=1000, output_tokens=81, pieces=8), now=0.0)

    marks = run(engine)

    assert [1, 11, 21, 31, 41, 51, 61, 71, 81] == [mark.tokens for mark in marks]
    assert pytest.approx(0.22 * 0.21) == marks[0].at
    assert [False] * 8 + [True] == [mark.last for mark in marks]
    assert (1000, 81) == (engine.prompt_tokens, engine.output_tokens)


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_an_impossible_training_share_is_refused(share: float) -> None:
    """A job cannot take less than nothing, nor the whole machine."""
    with pytest.raises(ValueError, match="training job"):
        make_engine().train(share, now=0.0)
