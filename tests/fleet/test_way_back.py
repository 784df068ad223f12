"""Odd metrics cost trust in the metrics, not traffic; and every phase has a way back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest

from controlplane.errors import ReportError
from controlplane.fleet import FleetState, InstanceView, Phase
from controlplane.fleet.trials import FIRST_WAIT, LONGEST_WAIT, TRIAL
from controlplane.model import (
    FailureClass,
    InstanceReport,
    Report,
    ScrapeFailure,
    Signal,
    Source,
    TrafficReport,
)
from testbed.fakes.views import make_config, make_instance

At = float
Page = Callable[[At], Mapping[Signal, float] | None]
"""What the metrics of an instance say at an instant; None if they cannot be read."""


def healthy(at: At) -> Mapping[Signal, float]:
    """Answer ten requests a second of half a second each."""
    return {
        Signal.RUNNING: 5.0, Signal.WAITING: 0.0, Signal.KV_USE: 0.3,
        Signal.COMPLETED: 10.0 * at, Signal.LATENCY_SUM: 5.0 * at, Signal.LATENCY_COUNT: 10.0 * at,
    }  # fmt: skip


def seen(at: At, instance: str = "a", **counts: float) -> TrafficReport:
    """Make an Envoy's report of one second: ten good answers of half a second."""
    counts = {
        "issued": 10.0, "succeeded": 10.0, "in_progress": 5.0, "latency_sum": 5.0,
        "latency_count": 10.0, **counts,
    }  # fmt: skip
    return TrafficReport("e", "near", "chat", instance, at, 1.0, **counts)  # type: ignore[arg-type]


class Fleet:
    """Two instances at one site, of which b is always well."""

    def __init__(self, *, scraped: bool = True) -> None:
        scrape = {"url": "http://127.0.0.1:1/metrics", "period": "1s"} if scraped else None
        self.state = FleetState(
            make_config(
                sites=["near"],
                instances=[
                    make_instance("a", "near", scrape=scrape),
                    make_instance("b", "near", address="10.0.0.2:80"),
                ],
            ),
            now=0.0,
        )
        self.now = 0.0

    def run(
        self,
        seconds: int,
        page: Page | None = None,
        *,
        answers: bool = True,
        traffic: Mapping[str, float] | None = None,
        more: Callable[[At], list[Report]] | None = None,
    ) -> InstanceView:
        """Let seconds pass; return a as it is known then."""
        for _ in range(seconds):
            self.now += 1.0
            reports: list[Report] = [
                InstanceReport("b", Source.SCRAPE, self.now, healthy(self.now)),
                seen(self.now, "b"),
            ]
            if page is not None:
                signals = page(self.now)
                reports.append(
                    ScrapeFailure("a", self.now, "status 500")
                    if signals is None
                    else InstanceReport("a", Source.SCRAPE, self.now, signals, empty=not signals)
                )
            if traffic is not None:
                reports.append(seen(self.now, "a", **traffic))
            elif answers:
                reports.append(seen(self.now))
            reports += more(self.now) if more else []
            for report in reports:
                try:
                    self.state.apply(report, now=self.now)
                except ReportError:
                    assert more is not None or page is not None
            view = self.state.view(now=self.now)
        return view.instances["a"]


def four_workers() -> Page:
    """Answer from one of four processes in turn, each with counters of its own."""
    turns = itertools.cycle([0, 2, 1, 3, 3, 0, 2])
    begun = (4000.0, 2500.0, 3100.0, 900.0)

    def page(at: At) -> Mapping[Signal, float]:
        done = begun[next(turns)] + 2.5 * at
        return {
            Signal.RUNNING: 1.0, Signal.WAITING: 0.0,
            Signal.COMPLETED: done, Signal.LATENCY_SUM: done / 2, Signal.LATENCY_COUNT: done,
        }  # fmt: skip

    return page


def test_several_workers_behind_one_port_cost_no_traffic() -> None:
    """Their counters are not believed, what Envoys see is, and the cause is named."""
    fleet = Fleet()

    view = fleet.run(40, four_workers())

    assert (Phase.LIVE, 1.0, 1.0, 1.0) == (view.phase, view.confidence, view.ramp, view.trust)
    assert "several processes answer behind one address" in view.reason
    assert "PROMETHEUS_MULTIPROC_DIR" in view.reason
    assert not {Signal.RUNNING, Signal.COMPLETED} & view.readings.keys()
    assert not view.rates


def test_counters_that_only_grow_are_believed_again() -> None:
    """The doubt ends within a minute or so of honest counters."""
    fleet = Fleet()
    fleet.run(40, four_workers())

    doubted = fleet.run(30, healthy)
    view = fleet.run(60, healthy)

    assert "behind one address" in doubted.reason
    assert ("", Phase.LIVE) == (view.reason, view.phase)
    assert {Signal.RUNNING, Signal.COMPLETED} <= view.readings.keys()


def test_gauges_that_froze_at_full_stop_counting() -> None:
    """A known defect of engines after a mass abort: they move again with the next request."""
    fleet = Fleet()
    frozen = {
        Signal.RUNNING: 106.0, Signal.WAITING: 15.0, Signal.KV_USE: 0.904,
        Signal.COMPLETED: 50.0, Signal.LATENCY_SUM: 25.0, Signal.LATENCY_COUNT: 50.0,
    }  # fmt: skip

    before = fleet.run(5, lambda _: frozen, answers=False)
    view = fleet.run(15, lambda at: {**frozen, Signal.POWER: 70 + at}, answers=False)
    after = fleet.run(5, healthy)

    assert 106.0 == before.readings[Signal.RUNNING].value
    assert not {Signal.RUNNING, Signal.WAITING, Signal.KV_USE} & view.readings.keys()
    assert (Phase.LIVE, 1.0, 1.0) == (view.phase, view.confidence, view.trust)
    assert "121 requests inside that have stood still" in view.reason
    assert 5.0 == after.readings[Signal.RUNNING].value
    assert after.reason == ""


def test_an_instance_that_gets_no_more_requests_may_stand_still() -> None:
    """Answers of a moment ago are no sign of a cached page."""
    fleet = Fleet()
    fleet.run(20, healthy)
    idle = {**healthy(fleet.now), Signal.RUNNING: 0.0}

    views = [fleet.run(1, lambda _: idle, answers=False) for _ in range(30)]

    assert {""} == {view.reason for view in views}
    assert {1.0} == {view.confidence for view in views}


def test_a_claim_of_requests_that_envoys_wait_for_counts() -> None:
    """An instance that hangs with full gauges is full."""
    fleet = Fleet()
    hung = {Signal.RUNNING: 20.0, Signal.WAITING: 4.0, Signal.COMPLETED: 500.0}

    view = fleet.run(
        20, lambda _: hung, traffic={"issued": 0, "succeeded": 0, "in_progress": 24,
                                     "latency_sum": 0, "latency_count": 0}
    )  # fmt: skip

    assert 20.0 == view.readings[Signal.RUNNING].value


@pytest.mark.parametrize("factor", [1 / 1500, 1000.0], ids=["far too short", "milliseconds"])
def test_latencies_that_envoys_refute_are_dropped_and_not_the_instance(factor: float) -> None:
    """A server that counts a request as done once it is handed over, for one."""
    fleet = Fleet()

    view = fleet.run(30, lambda at: {**healthy(at), Signal.LATENCY_SUM: 5.0 * at * factor})

    assert (1.0, 1.0, Phase.LIVE) == (view.trust, view.confidence, view.phase)
    assert Signal.LATENCY_SUM not in view.rates
    assert {Signal.RUNNING, Signal.COMPLETED} <= view.readings.keys()
    assert "latencies are of something else" in view.reason
    assert "" == fleet.run(90, healthy).reason


def test_a_buggy_agent_harms_no_instance_that_is_scraped_truthfully() -> None:
    """Strikes and quarantine are the source's."""
    fleet = Fleet()

    view = fleet.run(
        30,
        healthy,
        more=lambda at: [InstanceReport("a", Source.AGENT, at, {Signal.RUNNING: -1.0})],
    )

    assert (Phase.LIVE, 1.0, 1.0, "") == (view.phase, view.confidence, view.trust, view.reason)
    assert Source.SCRAPE is view.readings[Signal.RUNNING].source


@pytest.mark.parametrize("claim", [{"running": 8.0, "waiting": 500.0}, {"running": 0.0}])
def test_an_agents_plausible_nonsense_does_not_outlast_what_is_scraped(
    claim: dict[str, float],
) -> None:
    """It claims a queue that is not there, or none where there is one; then it is repaired."""
    fleet = Fleet()
    busy = {Signal.RUNNING: 20.0, Signal.WAITING: 10.0}

    def page(at: float) -> dict[Signal, float]:
        return {**healthy(at), **busy}

    def lie(at: float) -> list[Report]:
        claimed = {Signal(name): value + at % 2 for name, value in claim.items()}
        signals = {**page(at), **claimed}
        if "waiting" not in claim:
            signals[Signal.WAITING] = at % 2
        return [InstanceReport("a", Source.AGENT, at, signals, reporter="buggy")]

    early = fleet.run(1, page, more=lie)
    late = fleet.run(1, page, more=lie)
    views = [fleet.run(1, page, more=lie) for _ in range(60)]

    assert Source.AGENT is early.readings[Signal.RUNNING].source
    for view in (late, *views):
        assert (20.0, 10.0) == tuple(
            view.readings[signal].value for signal in (Signal.RUNNING, Signal.WAITING)
        )
        assert (Phase.LIVE, 1.0, 1.0) == (view.phase, view.confidence, view.trust)
        assert "its own metrics 30; its own metrics count" in view.reason

    def truth(at: float) -> list[Report]:
        return [InstanceReport("a", Source.AGENT, at, page(at), reporter="buggy")]

    repaired = fleet.run(2, page, more=truth)
    assert Source.AGENT is repaired.readings[Signal.RUNNING].source
    assert "" == repaired.reason


def test_an_agent_that_is_a_second_late_is_no_liar() -> None:
    """Of an instance that swings between empty and full it says what was."""
    fleet = Fleet()

    def page(at: float) -> dict[Signal, float]:
        return {**healthy(at), Signal.RUNNING: 40.0 if at % 6 < 3 else 1.0}

    def late(at: float) -> list[Report]:
        return [InstanceReport("a", Source.AGENT, at, page(at - 1.0), reporter="x")]

    views = [fleet.run(1, page, more=late) for _ in range(60)]

    assert {Source.AGENT} == {view.readings[Signal.RUNNING].source for view in views}
    assert {""} == {view.reason for view in views}


def test_an_agents_word_counts_again_when_the_scrape_fails() -> None:
    """What cannot be compared is believed: it may be the better one."""
    fleet = Fleet()

    def lie(at: float) -> list[Report]:
        signals = {**healthy(at), Signal.RUNNING: 60.0 + at % 2}
        return [InstanceReport("a", Source.AGENT, at, signals, reporter="x")]

    scraped = fleet.run(20, healthy, more=lie)
    alone = fleet.run(30, lambda _: None, more=lie)

    assert 5.0 == scraped.readings[Signal.RUNNING].value
    assert alone.readings[Signal.RUNNING].value >= 60.0


def test_an_agent_that_turns_buggy_leaves_what_is_scraped() -> None:
    """Once it is in quarantine its last word no longer wins over a fresh scrape."""
    fleet = Fleet()
    fleet.run(5, healthy, more=lambda at: [
        InstanceReport("a", Source.AGENT, at, {Signal.RUNNING: 77.0})
    ])  # fmt: skip

    view = fleet.run(10, healthy, more=lambda at: [
        InstanceReport("a", Source.AGENT, at, {Signal.RUNNING: float("nan")})
    ])  # fmt: skip

    assert 5.0 == view.readings[Signal.RUNNING].value


def test_a_truthful_agent_beside_a_buggy_one_is_believed() -> None:
    """Two agents that report one instance are two sources."""
    fleet = Fleet(scraped=False)

    view = fleet.run(
        20,
        more=lambda at: [
            InstanceReport("a", Source.AGENT, at, healthy(at), reporter="good"),
            InstanceReport("a", Source.AGENT, at, {Signal.RUNNING: -1.0}, reporter="bad"),
        ],
    )

    assert (Phase.LIVE, 1.0) == (view.phase, view.confidence)
    assert 5.0 == view.readings[Signal.RUNNING].value


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(lambda _: None, id="a page that answers 500"),
        pytest.param(lambda _: {}, id="an empty page"),
        pytest.param(lambda _: {Signal.RUNNING: float("nan")}, id="nonsense"),
    ],
)
@pytest.mark.parametrize("was_read", [False, True], ids=["from the beginning", "later"])
def test_bad_metrics_of_an_instance_that_answers_cost_no_traffic(
    page: Page, was_read: bool
) -> None:
    """It stays in service for as long as Envoys get answers, at full share."""
    fleet = Fleet()
    if was_read:
        fleet.run(10, healthy)

    views = [fleet.run(1, page) for _ in range(120)]

    assert not {Phase.EXPIRED, Phase.NOT_READY} & {view.phase for view in views}
    assert {1.0} == {view.confidence for view in views[10:]}
    # An engine whose counters are gone has restarted, which costs it one slow start.
    assert {1.0} == {view.ramp for view in views[12:]}
    assert views[-1].trust == 1.0
    assert "what Envoys see counts" in views[-1].reason
    assert Signal.RUNNING not in views[-1].readings


def test_metrics_that_return_are_believed_at_once_and_without_slow_start() -> None:
    """What answered all along has warm caches."""
    fleet = Fleet()
    fleet.run(10, healthy)
    fleet.run(60, lambda _: None)

    view = fleet.run(2, healthy)

    assert (Phase.LIVE, 1.0, 1.0) == (view.phase, view.confidence, view.ramp)


@pytest.mark.parametrize("was_read", [False, True])
def test_what_is_out_of_service_is_tried_again_less_and_less_often(was_read: bool) -> None:
    """A dead machine costs a few seconds of a small share, ever more rarely; never none."""
    fleet = Fleet()
    fleet.run(10, healthy if was_read else None, answers=False)

    views = [fleet.run(1, lambda _: None, answers=False) for _ in range(1500)]

    tried = [n for n, view in enumerate(views) if "tried again" in view.reason]
    begun = [n for n in tried if n - 1 not in tried]
    waits = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert begun[0] <= 30 + FIRST_WAIT + 2
    assert all(earlier <= later for earlier, later in itertools.pairwise(waits))
    assert max(waits) <= LONGEST_WAIT + TRIAL + 2
    assert {0.1} == {views[n].ramp for n in tried}
    assert {Phase.EXPIRED, Phase.UNKNOWN} >= {view.phase for view in views[31:]}


def test_an_instance_that_answers_its_trial_is_back() -> None:
    """Envoys' word alone brings it back."""
    fleet = Fleet()
    fleet.run(10, healthy)
    while "tried again" not in (view := fleet.run(1, lambda _: None, answers=False)).reason:
        assert fleet.now < 120

    view = fleet.run(3, lambda _: None, answers=True)

    assert (Phase.UNKNOWN, 1.0, 1.0) == (view.phase, view.confidence, view.ramp)


def test_a_restart_is_known_by_counters_that_are_gone() -> None:
    """Some engines show no series before their first request: slow start, no doubt."""
    fleet = Fleet()
    fleet.run(10, healthy)

    gone = fleet.run(1, lambda _: {})
    later = fleet.run(15, lambda at: {
        Signal.RUNNING: 5.0, Signal.WAITING: 0.0, Signal.KV_USE: 0.3,
        Signal.COMPLETED: 10.0 * (at - 11), Signal.LATENCY_SUM: 5.0 * (at - 11),
        Signal.LATENCY_COUNT: 10.0 * (at - 11),
    })  # fmt: skip

    assert (Phase.STARTING, 0.1) == (gone.phase, gone.ramp)
    assert (Phase.LIVE, 1.0, ()) == (later.phase, later.confidence, later.missing)


def test_counters_that_appear_were_zero_until_then() -> None:
    """The first requests of an engine count."""
    fleet = Fleet()
    idle = {Signal.RUNNING: 0.0, Signal.WAITING: 0.0}
    fleet.run(3, lambda _: idle, answers=False)

    view = fleet.run(1, lambda _: {**idle, Signal.COMPLETED: 7.0, Signal.LATENCY_COUNT: 7.0,
                                   Signal.LATENCY_SUM: 3.5})  # fmt: skip

    assert pytest.approx(7.0) == view.rates[Signal.COMPLETED].value
    assert pytest.approx(0.5) == view.latency()


def test_an_old_counter_that_appears_gives_no_wild_rate() -> None:
    """A page that left it out so far, for one."""
    fleet = Fleet()
    idle = {Signal.RUNNING: 0.0, Signal.LATENCY_COUNT: 5.0}
    fleet.run(3, lambda _: idle)

    view = fleet.run(2, lambda _: {**idle, Signal.COMPLETED: 3e6})

    assert Signal.COMPLETED not in view.rates or not view.rates[Signal.COMPLETED].value


class TestUnscraped:
    """What nothing is read of is known from Envoys."""

    def test_it_is_known_as_well_as_a_scraped_one(self) -> None:
        """Full confidence and trust, and outcomes by class."""
        fleet = Fleet(scraped=False)

        view = fleet.run(20)

        assert (Phase.UNKNOWN, 1.0, 1.0) == (view.phase, view.confidence, view.trust)

    @pytest.mark.parametrize(
        "traffic",
        [
            pytest.param(
                {"succeeded": 1, "failed": 9, "latency_count": 1, "latency_sum": 0.5,
                 "in_progress": 0},
                id="it fails",
            ),
            pytest.param(
                {"succeeded": 0, "latency_count": 0, "latency_sum": 0, "in_progress": 60},
                id="it hangs",
            ),
        ],
    )  # fmt: skip
    def test_one_that_does_not_answer_loses_trust_and_gains_it_again(
        self, traffic: Mapping[str, float]
    ) -> None:
        """As a scraped one does."""
        fleet = Fleet(scraped=False)
        fleet.run(10)

        ill = fleet.run(10, traffic=traffic)
        well = fleet.run(60)

        assert ill.trust < 0.5
        assert ill.reason
        assert well.trust > 0.95

    def test_what_it_was_known_by_fades_with_its_last_answer(self) -> None:
        """Silence is silence."""
        fleet = Fleet(scraped=False)
        fleet.run(20)

        confidences = [fleet.run(1, answers=False).confidence for _ in range(40)]

        assert sorted(confidences, reverse=True) == confidences
        assert (1.0, 0.0) == (confidences[0], confidences[-1])


def test_failures_of_every_class_are_reported_in_the_view() -> None:
    """The reading that steering prices."""
    fleet = Fleet(scraped=False)
    fleet.run(5)
    report = TrafficReport(
        "e", "near", "chat", "a", 6.0, 1.0, 5.0, failed=3.0,
        failures={FailureClass.LATE: 3.0, FailureClass.CLIENT_ERROR: 2.0},
    )  # fmt: skip
    fleet.state.apply(report, now=6.0)

    total = fleet.state.view(now=6.0).outcomes["a", "chat"].total

    assert (50.0, 3.0, 2.0) == (total.answered, total.late, total.client_error)
