"""Failures are priced per instance and service, as far as others do not show them as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import Config
from controlplane.fleet.traffic_view import Outcomes, OutcomeView
from controlplane.steering import Plan, Steering
from controlplane.steering.failures import DOUBT, FADE, LONGEST_DOUBT, FailureLearner
from controlplane.steering.layout import build_layout
from testbed.fakes.views import make_config, make_instance, make_service, make_view

NAMES = ("a", "b", "c")


def fleet(**settings: object) -> Config:
    """Return three equal instances of one service at one site."""
    return make_config(
        services=[make_service("chat", service_time="100ms", **settings)],
        instances=[make_instance(name, "near", slots=16) for name in NAMES],
    )


def outcome(answered: float, failed: float, *, rate: float = 5.0, **classes: float) -> OutcomeView:
    """Return what Envoys have counted in all."""
    counts = Outcomes(answered=answered, server_error=failed, **classes)
    return OutcomeView(recent=counts, total=counts, rate=rate, in_progress=0.0, at=0.0)


class Story:
    """Outcomes second by second, and what steering makes of them."""

    def __init__(self, config: Config, *, rate: float = 5.0) -> None:
        self.config = config
        self.steering = Steering(config)
        self.learner = FailureLearner()
        self.rate = rate
        self.at = 0.0
        self.sent = dict.fromkeys(NAMES, rate)
        self.totals = {name: [0.0, 0.0, 0.0] for name in NAMES}

    def go(
        self, seconds: int, fails: Mapping[str, float], *, kind: str = "server_error"
    ) -> tuple[Plan, np.ndarray]:
        """Let instances fail that part of what the plan sends them; return plan and learned."""
        place = 1 if kind == "server_error" else 2
        for _ in range(seconds):
            self.at += 1.0
            outcomes = {
                (name, "chat"): outcome(
                    total[0], total[1], rate=self.sent[name], client_error=total[2]
                )
                for name, total in self.totals.items()
            }
            view = make_view(
                self.config,
                at=self.at,
                demand={("near", "chat"): 3 * self.rate},
                outcomes=outcomes,
            )
            plan = self.steering.decide(view)
            learned = self.learner.observe(view, build_layout(self.config, self.config.instances))
            self.sent = dict.fromkeys(NAMES, 0.0)
            for each in plan.assignments["chat", "near"].allocations:
                sent = self.sent[each.instance] = each.share * 3 * self.rate
                failed = sent * fails.get(each.instance, 0.0)
                self.totals[each.instance][0] += sent - failed
                self.totals[each.instance][place] += failed
        return plan, learned[0]


def shares(plan: Plan) -> dict[str, float]:
    """Return what each instance gets."""
    found = {a.instance: a.share for a in plan.assignments["chat", "near"].allocations}
    return {name: found.get(name, 0.0) for name in NAMES}


@pytest.mark.parametrize("kind", ["server_error", "client_error"])
def test_an_instance_that_fails_everything_gets_next_to_nothing(kind: str) -> None:
    """Within five seconds, however fast its failures come; probes alone go on."""
    story = Story(fleet())
    story.go(10, {})

    plan, _ = story.go(5, {"a": 1.0}, kind=kind)

    assert shares(plan)["a"] <= 0.01
    why = next(
        (x.why for x in plan.assignments["chat", "near"].allocations if x.instance == "a"), None
    )
    excluded = {e.instance for e in plan.assignments["chat", "near"].excluded}
    assert "a" in excluded or (why is not None and why.failure > 1.0)


def test_an_instance_that_answers_again_is_used_again() -> None:
    """Half a minute after it has recovered it has its whole share."""
    story = Story(fleet())
    story.go(10, {})
    story.go(30, {"a": 1.0})

    plan, _ = story.go(30, {})

    assert shares(plan)["a"] == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("part", [0.05, 0.5, 1.0])
def test_a_failure_that_all_instances_show_moves_nothing(part: float) -> None:
    """It is the client's: a model that no instance has."""
    story = Story(fleet())
    before, _ = story.go(10, {})

    after, learned = story.go(20, dict.fromkeys(NAMES, part), kind="client_error")

    assert not learned.any()
    assert shares(after) == pytest.approx(shares(before), abs=0.02)


def test_one_failure_in_a_hundred_keeps_an_instance_in_service() -> None:
    """Chance and rare failures are no reason to leave an instance out."""
    story = Story(fleet(), rate=50.0)

    plan, _ = story.go(30, {"a": 0.01})

    assert shares(plan)["a"] > 0.2


def test_the_price_of_a_failure_is_the_operators() -> None:
    """With ``failure_cost: 0s`` failures move nothing."""
    story = Story(fleet(failure_cost="0s"))

    plan, learned = story.go(20, {"a": 1.0})

    assert learned[0] > 0.5
    assert shares(plan)["a"] > 0.2


class Attempts:
    """What one instance of three has answered and failed so far; the others answer all."""

    def __init__(self) -> None:
        self.config = fleet()
        self.layout = build_layout(self.config, self.config.instances)
        self.learner = FailureLearner()
        self.counts = (0.0, 0.0)

    def look(self, at: float, *, answered: float = 0.0, failed: float = 0.0) -> float:
        """Let attempts end; return the probability of failure that is its own."""
        self.counts = (self.counts[0] + answered, self.counts[1] + failed)
        outcomes = {(name, "chat"): outcome(100.0 + 5 * at, 0.0) for name in ("b", "c")}
        outcomes["a", "chat"] = outcome(*self.counts)
        view = make_view(self.config, at=at, outcomes=outcomes)
        return float(self.learner.observe(view, self.layout)[0, 0])


def test_an_old_failure_fades_while_nothing_is_sent() -> None:
    """What is known of an instance loses half its weight in `FADE` seconds, down to `DOUBT`."""
    attempts = Attempts()

    first, later = attempts.look(0.0, failed=40.0), attempts.look(FADE)

    assert first > 0.5
    assert later < 0.6 * first


def test_silence_after_a_failure_is_no_sign_of_health() -> None:
    """An instance that Envoys have ejected is not tried in full as soon as they forget."""
    attempts = Attempts()
    attempts.look(0.0, answered=40.0)
    attempts.look(1.0, answered=2.0, failed=3.0)

    assert all(attempts.look(1.0 + second) > 0.02 for second in range(1, int(LONGEST_DOUBT)))


def test_silence_does_not_last_for_ever() -> None:
    """Where no probe reaches it, an instance is tried again after `LONGEST_DOUBT`."""
    attempts = Attempts()
    attempts.look(0.0, failed=20.0)
    held = [attempts.look(float(second)) for second in range(1, int(LONGEST_DOUBT))]

    assert min(held) > DOUBT / 3
    assert attempts.look(LONGEST_DOUBT + 3 * FADE) == 0


def test_one_good_answer_after_a_silence_is_believed() -> None:
    """A few seconds later nothing is held against it any more."""
    attempts = Attempts()
    attempts.look(0.0, failed=20.0)
    for second in range(1, 25):
        attempts.look(float(second))

    attempts.look(25.0, answered=1.0)

    assert attempts.look(28.0) == 0


@pytest.mark.parametrize("kind", ["server_error", "client_error"])
def test_what_fails_is_stated_with_its_class_and_since_when(kind: str) -> None:
    """For explanations, events and metrics; and it is gone from there when it answers again."""
    story = Story(fleet())
    story.go(10, {})

    failing, _ = story.go(20, {"a": 1.0}, kind=kind)
    well, _ = story.go(60, {})

    (item,) = failing.failing
    assert ("a", "chat", kind) == (item.instance, item.service, item.kind.value)
    assert 10 < item.since < 14
    assert item.probability > 0.2
    assert () == well.failing


class Instances:
    """What each of some instances answers and fails, and the price that is learned for each."""

    def __init__(self, count: int) -> None:
        names = [f"i{number}" for number in range(count)]
        self.config = make_config(
            services=[make_service("chat", service_time="100ms")],
            instances=[make_instance(name, "near", slots=16) for name in names],
        )
        self.layout = build_layout(self.config, self.config.instances)
        self.learner = FailureLearner()
        self.counts = dict.fromkeys(names, (0.0, 0.0))
        self.at = 0.0

    def cycle(self, attempts: Sequence[float], fails: Sequence[float]) -> list[float]:
        """Let so many attempts end at each and that part of them fail; return what is its own."""
        self.at += 1.0
        outcomes = {}
        for name, tried, part in zip(self.counts, attempts, fails, strict=True):
            answered, failed = self.counts[name]
            self.counts[name] = answered + tried * (1.0 - part), failed + tried * part
            outcomes[name, "chat"] = outcome(*self.counts[name], rate=tried)
        view = make_view(self.config, at=self.at, outcomes=outcomes)
        learned = self.learner.observe(view, self.layout)[0]
        return [float(learned[self.layout.column[name]]) for name in self.counts]


@pytest.mark.parametrize("bad", [0.13, 0.3, 1.0])
@pytest.mark.parametrize("cycles", [1, 2, 5])
def test_a_bad_moment_of_the_other_is_no_excuse_for_one_that_fails_everything(
    bad: float, cycles: int
) -> None:
    """It failed while the other answered; that the other fails later says nothing of that."""
    two = Instances(2)
    for _ in range(10):
        two.cycle([5, 5], [0, 0])
    left = two.cycle([5, 5], [1, 0])[0]

    held = [two.cycle([0, 10], [0, bad])[0] for _ in range(cycles)]

    assert left > 0.1
    assert held == pytest.approx([left] * cycles)
    assert two.cycle([1, 10], [1, 0])[0] > left


def test_one_that_fails_everything_is_dearer_than_one_that_fails_half_for_long() -> None:
    """Each is priced by what it fails more than the other; probes of the worse one say so."""
    two = Instances(2)
    prices = [two.cycle([second % 8 == 0, 10], [1, 0.5 * (second > 20)]) for second in range(80)]

    assert all(worse > better for worse, better in prices[8:])


def test_most_of_a_fleet_that_fails_is_no_excuse_for_any_of_them() -> None:
    """The one that answers well says what clients would get elsewhere."""
    many = Instances(20)
    for _ in range(10):
        many.cycle([5] * 20, [0] * 20)
    for _ in range(15):
        good, *failing = many.cycle([5] * 20, [0] + [1] * 19)

    assert good == 0
    assert min(failing) > 0.1


def test_of_one_that_is_alone_nothing_is_its_own() -> None:
    """There is no other that could answer."""
    one = Instances(1)

    assert [0] * 10 == [one.cycle([5], [1])[0] for _ in range(10)]


_PARTS = st.floats(0, 1)
_COUNTS = st.integers(0, 30)


@given(moments=st.lists(st.tuples(_COUNTS, _PARTS), min_size=1, max_size=20))
@settings(deadline=None)
def test_what_others_do_meanwhile_takes_no_price_from_one_that_is_not_tried(
    moments: list[tuple[int, float]],
) -> None:
    """Down to `DOUBT` it fades with time alone, and then not at all."""
    two, calm = Instances(2), Instances(2)
    for fleet_of_two in (two, calm):
        for _ in range(5):
            fleet_of_two.cycle([10, 10], [0, 0])
        for _ in range(5):
            fleet_of_two.cycle([10, 10], [1, 0])

    for count, part in moments:
        price = two.cycle([0, count], [0, part])[0]
        assert price == pytest.approx(calm.cycle([0, 10], [0, 0])[0])
        assert price > DOUBT / 2


@given(
    cycles=st.lists(
        st.tuples(st.lists(st.integers(1, 30), min_size=3, max_size=3), _PARTS), max_size=30
    ),
)
@settings(deadline=None)
def test_what_all_fail_alike_has_no_price_however_it_comes_and_goes(
    cycles: list[tuple[list[int], float]],
) -> None:
    """Nor does it matter how often each is tried: one that is tried seldom learns faster."""
    three = Instances(3)
    for attempts, part in cycles:
        assert three.cycle(attempts, [part] * 3) == pytest.approx([0] * 3, abs=1e-9)


@given(fails=st.lists(_PARTS, min_size=2, max_size=12))
@settings(deadline=None)
def test_in_any_mix_the_best_has_no_price_and_what_is_clearly_worse_has_one(
    fails: list[float],
) -> None:
    """By no more than what it fails more than the best."""
    some = Instances(len(fails))
    for _ in range(20):
        prices = some.cycle([50] * len(fails), fails)

    best = min(fails)
    for part, price in zip(fails, prices, strict=True):
        assert price <= part - best + 1e-9
        assert price > 0 or part - best < 0.4


@given(fails=st.lists(_PARTS, min_size=2, max_size=8), worse=_PARTS)
@settings(deadline=None)
def test_a_price_falls_by_no_more_than_others_get_worse(fails: list[float], worse: float) -> None:
    """But for what is chance among so many attempts where more fail."""
    before, after = Instances(len(fails)), Instances(len(fails))
    changed = [fails[0], max(fails[1], worse), *fails[2:]]
    for _ in range(20):
        price = before.cycle([50] * len(fails), fails)[0]
        later = after.cycle([50] * len(fails), changed)[0]

    assert later >= price - (changed[1] - fails[1]) - 0.12
