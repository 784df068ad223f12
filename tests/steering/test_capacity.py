"""Learning what instances can do, from reports made by a known engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import Config
from controlplane.fleet.view import FleetView
from controlplane.model import Signal
from controlplane.steering.capacity import CapacityLearner
from controlplane.steering.estimate import Estimate
from controlplane.steering.layout import build_layout
from testbed.fakes.views import make_config, make_instance, make_reported, make_view


class Fluid:
    """An engine of known slots, slowdown and pace; occupancy is given, completions follow."""

    def __init__(self, slots: int, slowdown: float, pace: float, seed: int = 1) -> None:
        self.slots, self.slowdown, self.pace = slots, slowdown, pace
        self.rng = np.random.default_rng(seed)

    def second(self, number: int) -> tuple[dict[Signal, float], dict[Signal, float]]:
        """Return gauges and rates of a second with *number* requests inside."""
        busy = min(number, self.slots)
        rate = busy / (1 + self.slowdown * max(busy - 1, 0)) / self.pace
        gauges = {Signal.RUNNING: float(busy), Signal.WAITING: float(number - busy)}
        return gauges, {Signal.COMPLETED: float(self.rng.poisson(rate))}


def one(engine: str = "generic", **settings: object) -> Config:
    """Configure a single instance."""
    return make_config(instances=[make_instance("a", "near", engine=engine, **settings)])


def learn(
    learner: CapacityLearner,
    config: Config,
    engine: Fluid,
    numbers: list[int],
    *,
    start: float = 0.0,
    left_out: frozenset[Signal] = frozenset(),
) -> Estimate:
    """Report one second after the other; give the last estimate."""
    layout = build_layout(config, config.instances)
    estimate: list[Estimate] = []
    for second, number in enumerate(numbers):
        at = start + second
        gauges, rates = engine.second(number)
        shown = make_reported(
            config,
            "a",
            at=at,
            gauges={s: v for s, v in gauges.items() if s not in left_out},
            rates={s: v for s, v in rates.items() if s not in left_out},
        )
        view: FleetView = make_view(config, at=at, instances={"a": shown})
        estimate = learner.observe(view, layout)
    return estimate[0]


def wander(low: int, high: int, seconds: int, seed: int = 2) -> list[int]:
    """Return occupancies between *low* and *high*."""
    return [int(n) for n in np.random.default_rng(seed).integers(low, high + 1, seconds)]


def test_a_queue_is_learned() -> None:
    """Slots from what runs while others wait, pace from completions over occupancy."""
    estimate = learn(CapacityLearner(), one(slots=32), Fluid(4, 0.0, 0.5), wander(0, 8, 60))

    assert 4 == estimate.slots
    assert pytest.approx(0.5, rel=0.12) == estimate.pace
    assert estimate.slowdown < 0.03
    assert estimate.uncertainty < 0.12


def test_a_batching_engine_is_learned() -> None:
    """How completions grow with the batch says the slowdown, and capacity with it."""
    truth = Fluid(16, 0.17, 0.4)
    tide = [round(10 - 9 * np.cos(second / 6)) for second in range(200)]
    estimate = learn(CapacityLearner(), one("vllm"), truth, tide)

    assert pytest.approx(16 / (1 + 0.17 * 15) / 0.4, rel=0.12) == estimate.capacity
    assert 0.1 < estimate.slowdown < 0.25


def test_slots_grow_while_nobody_ever_waits() -> None:
    """An instance that was never seen full may be larger than its prior."""
    estimate = learn(CapacityLearner(), one(slots=8), Fluid(64, 0.0, 0.5), wander(10, 30, 20))

    assert estimate.slots > 30


@pytest.mark.parametrize("factor", [2.5, 0.4])
def test_a_change_of_pace_is_noticed_within_four_seconds(factor: float) -> None:
    """After a drop to 40 %, or a rise, the old evidence is forgotten at once."""
    learner, config = CapacityLearner(), one()
    learn(learner, config, Fluid(8, 0.0, 0.5), wander(6, 12, 60))

    estimate = learn(learner, config, Fluid(8, 0.0, 0.5 * factor), wander(8, 12, 4), start=60.0)

    assert pytest.approx(0.5 * factor, rel=0.35) == estimate.pace
    assert learner.changed_at["a"] >= 60.0


def test_constant_load_raises_no_alarm() -> None:
    """Chance alone is not taken for a change."""
    learner = CapacityLearner()
    learn(learner, one(), Fluid(8, 0.0, 0.5), wander(2, 10, 300))

    assert {} == learner.changed_at


class Clumpy(Fluid):
    """The same engine, whose completions come by the half dozen."""

    def second(self, number: int) -> tuple[dict[Signal, float], dict[Signal, float]]:
        """Return gauges and rates of a second with *number* requests inside."""
        gauges, rates = super().second(number)
        busy = gauges[Signal.RUNNING]
        clumps = self.rng.poisson(busy / self.pace / 6.0)
        return gauges, rates | {Signal.COMPLETED: 6.0 * float(clumps)}


def test_completions_in_clumps_are_seldom_taken_for_a_change() -> None:
    """Prompts read one after another and requests of uneven length end in clumps."""
    alarms = 0
    for seed in range(4):
        learner, engine = CapacityLearner(), Clumpy(8, 0.0, 0.5, seed)
        learn(learner, one(slots=8), engine, wander(2, 8, 60))
        for minute in range(1, 5):
            learn(learner, one(slots=8), engine, wander(2, 8, 60), start=60.0 * minute)
            alarms += learner.changed_at.get("a", 0.0) >= 60.0 * minute

    # Of sixteen minutes; with the scatter of Poisson counts it was each of them.
    assert alarms <= 9


def test_a_change_is_noticed_among_clumps() -> None:
    """It takes longer, but not for ever."""
    learner, engine = CapacityLearner(), Clumpy(8, 0.0, 0.5)
    learn(learner, one(slots=8), engine, wander(2, 8, 120))
    engine.pace = 2.0
    estimate = learn(learner, one(slots=8), engine, wander(6, 8, 60), start=120.0)

    assert learner.changed_at["a"] >= 120.0
    assert pytest.approx(2.0, rel=0.4) == estimate.pace


def test_nothing_reported_is_the_prior() -> None:
    """Without any signal the configured slots and service time are believed."""
    config = one(slots=12, service_time="250ms")

    estimate = CapacityLearner().observe(make_view(config), build_layout(config, config.instances))

    assert [(12.0, 0.25, "prior")] == [(b.slots, b.pace, b.source) for b in estimate]


def test_occupancy_alone_is_used_as_state() -> None:
    """Without completions the pace stays the prior's, and the backlog is still seen."""
    estimate = learn(
        CapacityLearner(),
        one(service_time="500ms"),
        Fluid(4, 0.0, 0.2),
        wander(9, 9, 10),
        left_out=frozenset({Signal.COMPLETED}),
    )

    assert pytest.approx(0.5) == estimate.pace
    assert 9 == estimate.number


def test_the_silence_of_clients_is_no_reason_to_forget() -> None:
    """Half an hour without requests; the instance goes on reporting that it is idle."""
    learner, config = CapacityLearner(), one()
    before = learn(learner, config, Fluid(4, 0.0, 0.11), wander(1, 4, 60))
    after = learn(learner, config, Fluid(4, 0.0, 0.11), [0] * 1800, start=60.0)

    assert after.pace == pytest.approx(before.pace, rel=0.01)
    assert after.known == pytest.approx(before.known, rel=0.01)


def test_a_default_is_not_known() -> None:
    """What evidence has no part in is not known, however fresh the reports are."""
    idle = learn(CapacityLearner(), one(), Fluid(4, 0.0, 0.11), [0] * 60)
    busy = learn(CapacityLearner(), one(), Fluid(4, 0.0, 0.11), wander(1, 4, 60))

    assert idle.known == pytest.approx(0.0)
    assert busy.known > 0.98


def test_silence_fades_to_the_prior() -> None:
    """As confidence falls to nothing, so does what was learned."""
    learner, config = CapacityLearner(), one(service_time="1s")
    learn(learner, config, Fluid(4, 0.0, 0.25), wander(2, 4, 60))
    layout = build_layout(config, config.instances)
    stale = make_reported(config, "a", at=60.0, gauges={Signal.RUNNING: 3.0}, confidence=0.0)

    estimate = learner.observe(make_view(config, at=100.0, instances={"a": stale}), layout)[0]

    assert pytest.approx(1.0, rel=0.05) == estimate.pace


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, 2.25, id="as the others"),
        pytest.param({"slots": 8}, 8.0, id="as configured"),
    ],
)
def test_what_was_never_full_is_taken_for_as_large_as_others_of_its_model(
    settings: dict[str, int], expected: float
) -> None:
    """Four instances of one slot; one of them happens to have no one waiting when it reports."""
    names = ("a", "b", "c", "d")
    config = make_config(
        instances=[make_instance(name, "near", **(settings if name == "d" else {}))
                   for name in names]
    )  # fmt: skip
    shown = {
        name: make_reported(
            config,
            name,
            at=1.0,
            gauges={Signal.RUNNING: 1.0, Signal.WAITING: 0.0 if name == "d" else 3.0},
            rates={Signal.COMPLETED: 1.0},
        )
        for name in names
    }
    layout = build_layout(config, config.instances)

    estimates = CapacityLearner().observe(make_view(config, at=1.0, instances=shown), layout)

    assert [1.0, 1.0, 1.0, expected] == [estimate.slots for estimate in estimates]


def learn_several(
    paces: list[float], counts: list[int], slots: list[int] | None = None
) -> list[Estimate]:
    """Let instances of one model, one request inside each, answer *counts* requests in turn."""
    names = [f"i{number}" for number in range(len(paces))]
    stated = [{} for _ in paces] if slots is None else [{"slots": each} for each in slots]
    config = make_config(
        instances=[
            make_instance(name, "near", **more) for name, more in zip(names, stated, strict=True)
        ]
    )
    layout = build_layout(config, config.instances)
    learner, estimates = CapacityLearner(), []
    for second in range(max(counts) + 1):
        shown = {
            name: make_reported(
                config,
                name,
                at=float(second),
                gauges={Signal.RUNNING: float(second <= count), Signal.WAITING: 0.0},
                rates={Signal.COMPLETED: 1 / pace if second <= count else 0.0},
            )
            for name, pace, count in zip(names, paces, counts, strict=True)
        }
        estimates = learner.observe(make_view(config, at=float(second), instances=shown), layout)
    return estimates


def test_few_slow_answers_leave_no_instance_out() -> None:
    """Of five equal instances one seemed a third slower at first, and was asked no more."""
    *others, unlucky = learn_several([0.1, 0.1, 0.1, 0.1, 0.13], [30, 30, 30, 30, 1])

    assert unlucky.pace == pytest.approx(others[0].pace, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(
    paces=st.lists(st.floats(0.08, 0.12), min_size=2, max_size=6),
    counts=st.lists(st.integers(1, 3), min_size=6, max_size=6),
)
def test_first_answers_make_no_difference_between_machines_of_one_kind(
    paces: list[float], counts: list[int]
) -> None:
    """However few there are; a promise would make seconds of it."""
    first, *others = learn_several(paces, counts[: len(paces)])

    assert [each.pace for each in others] == [pytest.approx(first.pace, rel=0.01)] * len(others)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_machines_of_one_kind_differ_once_their_answers_do(count: int) -> None:
    """Twice the pace is more than bad luck after half a minute."""
    slow, *others = learn_several([0.2] + [0.1] * (count - 1), [30] * count)

    assert slow.pace == pytest.approx(0.2, rel=0.1)
    assert [each.pace for each in others] == [pytest.approx(0.1, rel=0.1)] * len(others)


def test_first_answers_count_where_slots_are_different() -> None:
    """Two machines that are unlike by what was written of them need not be equally fast."""
    fast, slow = learn_several([0.1, 0.2], [3, 3], slots=[32, 8])

    assert slow.pace > 1.3 * fast.pace


def test_what_was_never_asked_is_as_those_that_were() -> None:
    """However few they are: the first to answer is no faster than the others for that."""
    first, *others = learn_several([0.1] * 5, [1, 0, 0, 0, 0])

    assert [each.pace for each in others] == [pytest.approx(first.pace, rel=0.01)] * 4


@settings(max_examples=60, deadline=None)
@given(pace=st.floats(0.01, 5.0), seconds=st.integers(1, 3))
def test_one_instance_alone_may_have_been_asked(pace: float, seconds: int) -> None:
    """A single pace differs from its own mean by rounding at most, which is no variance."""
    first, *others = learn_several([pace] * 4, [seconds, 0, 0, 0])

    assert first.pace > 0.0
    assert others[0].pace == others[1].pace == others[2].pace > 0.0


@pytest.mark.parametrize("seconds", [3, 30])
def test_an_instance_that_crawls_is_no_accident(seconds: int) -> None:
    """It is not taken to be as the others, though it had time for few answers."""
    *others, slow = learn_several([0.1, 0.1, 0.1, 0.1, 2.0], [30, 30, 30, 30, seconds])

    assert slow.pace > 1.5 * others[0].pace


def test_unequal_instances_keep_their_own_paces() -> None:
    """Where many answers show that they differ, none is drawn to the others."""
    paces = [0.1, 0.2, 0.3, 0.4]

    estimates = learn_several(paces, [90] * 4)

    assert [each.pace for each in estimates] == [pytest.approx(pace, rel=0.1) for pace in paces]
