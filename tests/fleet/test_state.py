"""The fleet's picture follows from reports and the instant alone."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping
from itertools import pairwise

import pytest

from controlplane.config import (
    Config,
    Instance,
    Match,
    Model,
    Network,
    Path,
    Scrape,
    Service,
    ServiceModel,
    Site,
    SiteKind,
    Steering,
)
from controlplane.errors import ReportError
from controlplane.fleet import FleetState, Phase
from controlplane.model import (
    InstanceReport,
    PathReport,
    Reading,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
    TrafficReport,
)

SCRAPE = Scrape(url="http://127.0.0.1:1/metrics", period="1s")


def make_instance(name: str, *, site: str = "north", scrape: Scrape | None = SCRAPE) -> Instance:
    """Return an instance that is scraped every second."""
    return Instance(name=name, site=site, address="10.0.0.1:8000", model="small", scrape=scrape)


def make_config(
    *instances: Instance,
    paths: tuple[Path, ...] = (),
    expiry: str = "30s",
    slow_start: str = "10s",
) -> Config:
    """Return two edges and a class of devices, one service, and the instances a and b or others."""
    return Config(
        version=1,
        sites=(
            Site(name="north", kind=SiteKind.EDGE),
            Site(name="south", kind=SiteKind.EDGE),
            Site(name="phones", kind=SiteKind.DEVICE),
        ),
        models=(Model(name="small"),),
        services=(
            Service(
                name="chat", match=(Match(path="/v1/chat"),), models=(ServiceModel(name="small"),)
            ),
        ),
        instances=instances or (make_instance("a"), make_instance("b", site="south")),
        network=Network(paths=paths),
        steering=Steering(expiry=expiry, slow_start=slow_start),
    )


def said(
    at: float,
    signals: Mapping[Signal, float] | None = None,
    *,
    instance: str = "a",
    source: Source = Source.SCRAPE,
    ready: bool = True,
) -> InstanceReport:
    """Return a report of an instance."""
    return InstanceReport(
        instance, source, at, {Signal.RUNNING: 1.0} if signals is None else signals, ready=ready
    )


def seen(
    at: float,
    issued: float,
    *,
    envoy: str = "e1",
    instance: str = "a",
    succeeded: float | None = None,
    failed: float = 0.0,
    in_progress: float = 0.0,
    latency: float = 0.0,
    site: str = "north",
) -> TrafficReport:
    """Return a second of one Envoy's traffic."""
    succeeded = issued if succeeded is None else succeeded
    return TrafficReport(
        envoy=envoy,
        site=site,
        service="chat",
        instance=instance,
        at=at,
        interval=1.0,
        issued=issued,
        succeeded=succeeded,
        failed=failed,
        in_progress=in_progress,
        latency_sum=latency * succeeded,
        latency_count=succeeded,
    )


class TestPhases:
    """Where an instance stands between unknown and trusted."""

    def test_an_instance_that_never_reports_and_promised_nothing_serves_on_its_prior(self) -> None:
        """Telemetry is not a condition of service."""
        fleet = FleetState(make_config(make_instance("a", scrape=None)), now=0.0)

        view = fleet.view(now=1000.0).instances["a"]

        assert (Phase.UNKNOWN, 0.0, 1.0) == (view.phase, view.confidence, view.ramp)

    def test_an_instance_that_should_be_scraped_and_never_was_expires(self) -> None:
        """Anyone who promised telemetry and gives none is drained, and the reason is reported."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(ScrapeFailure("a", 1.0, "connection refused"), now=1.0)

        before, after = (fleet.view(now=now).instances["a"] for now in (29.0, 30.0))

        assert Phase.UNKNOWN is before.phase
        assert Phase.EXPIRED is after.phase
        assert "connection refused" in after.reason

    def test_an_unread_instance_that_answers_envoys_is_not_drained(self) -> None:
        """A wrong metrics address must not take capacity away."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(seen(39.0, 5.0), now=39.0)

        assert Phase.UNKNOWN is fleet.view(now=40.0).instances["a"].phase

    @pytest.mark.parametrize(
        ("age", "phase", "confidence"),
        [
            pytest.param(0.0, Phase.LIVE, 1.0, id="just_reported"),
            pytest.param(3.0, Phase.LIVE, 1.0, id="two_reports_lost"),
            pytest.param(16.5, Phase.STALE, 0.5, id="half_way"),
            pytest.param(29.9, Phase.STALE, 0.1 / 27, id="nearly_gone"),
            pytest.param(30.0, Phase.EXPIRED, 0.0, id="expired"),
        ],
    )
    def test_silence_lowers_confidence_from_three_periods_to_the_expiry(
        self, age: float, phase: Phase, confidence: float
    ) -> None:
        """Old knowledge fades, it does not break off."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(1.0), now=1.0)

        view = fleet.view(now=1.0 + age).instances["a"]

        assert phase is view.phase
        assert pytest.approx(confidence, abs=1e-9) == view.confidence

    def test_a_cold_start_serves_at_once(self) -> None:
        """When everything is new nothing is."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(1.0), now=1.0)

        view = fleet.view(now=1.0)

        assert [Phase.LIVE, Phase.UNKNOWN] == [one.phase for one in view.instances.values()]
        assert [1.0, 1.0] == [one.ramp for one in view.instances.values()]

    @pytest.mark.parametrize(
        ("slow_start", "rising"), [("10s", [0.1, 0.5, 1.0]), ("20s", [0.1, 0.25, 0.5])]
    )
    def test_an_added_instance_rises_over_the_slow_start(
        self, slow_start: str, rising: list[float]
    ) -> None:
        """A cold cache must not get a full share at once."""
        both = make_config(make_instance("a"), make_instance("b"), slow_start=slow_start)
        fleet = FleetState(make_config(make_instance("a")), now=0.0)
        fleet.reconfigure(both, now=100.0)
        for now in (101.0, 105.0, 110.0):
            for name in "ab":
                fleet.apply(said(now, instance=name), now=now)

        ramps = [fleet.view(now=now).instances["b"].ramp for now in (100.0, 105.0, 110.0)]

        assert rising == ramps

    @pytest.mark.parametrize(
        "gone",
        [
            pytest.param("silent", id="from_silence"),
            pytest.param("not_ready", id="from_not_ready"),
            pytest.param("restarted", id="from_a_restart"),
        ],
    )
    def test_an_instance_that_comes_back_starts_slowly(self, gone: str) -> None:
        """Whatever took it away, its caches are cold."""
        fleet = FleetState(make_config(), now=0.0)
        for second in range(1, 61):
            now = float(second)
            fleet.apply(said(now, instance="b"), now=now)
            if second <= 10 or second == 60:
                completed = 0.0 if second == 60 and gone == "restarted" else 5.0
                fleet.apply(said(now, {Signal.COMPLETED: completed}), now=now)
            elif gone == "not_ready":
                fleet.apply(said(now, {Signal.COMPLETED: 5.0}, ready=False), now=now)
            elif gone == "restarted":
                fleet.apply(said(now, {Signal.COMPLETED: 5.0}), now=now)

        view = fleet.view(now=61.0).instances["a"]

        assert (Phase.STARTING, 0.1) == (view.phase, view.ramp)

    def test_a_fleet_that_comes_back_as_a_whole_serves_at_once(self) -> None:
        """There is no one else to take the rest."""
        fleet = FleetState(make_config(), now=0.0)
        for now in (1.0, 100.0):
            for name in "ab":
                fleet.apply(said(now, instance=name), now=now)

        assert {1.0} == {one.ramp for one in fleet.view(now=100.0).instances.values()}

    def test_an_engine_that_says_it_is_not_ready_is_shown_so(self) -> None:
        """Its own word counts."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(1.0, ready=False), now=1.0)

        assert Phase.NOT_READY is fleet.view(now=1.0).instances["a"].phase

    def test_a_phase_keeps_the_instant_of_its_change(self) -> None:
        """An operator sees since when."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(1.0), now=1.0)
        changed = [fleet.view(now=now).instances["a"].changed_at for now in (1.0, 2.0, 9.0, 12.0)]

        assert [1.0, 1.0, 9.0, 9.0] == changed


class TestFrozen:
    """A silent fleet keeps its plan."""

    def test_the_view_is_frozen_when_all_that_ever_reported_are_silent(self) -> None:
        """A partition of the telemetry says nothing about the instances."""
        fleet = FleetState(make_config(), now=0.0)
        frozen = [fleet.view(now=0.0).frozen]
        fleet.apply(said(1.0), now=1.0)
        frozen += [fleet.view(now=now).frozen for now in (1.0, 10.0, 100.0)]
        fleet.apply(said(100.0, instance="b"), now=100.0)
        frozen.append(fleet.view(now=100.0).frozen)

        assert [False, False, True, True, False] == frozen

    def test_late_reports_freeze_nothing_while_they_come(self) -> None:
        """A slow line makes what is known stale, not the fleet silent."""
        fleet = FleetState(make_config(), now=0.0)
        for at in range(1, 20):
            fleet.apply(said(float(at)), now=at + 10.0)
        views = [fleet.view(now=now) for now in (29.5, 60.0)]

        assert [Phase.STALE, Phase.EXPIRED] == [view.instances["a"].phase for view in views]
        assert [False, True] == [view.frozen for view in views]


class TestReadings:
    """Values with source, time and age."""

    def test_a_reading_reports_its_source_and_instant(self) -> None:
        """Provenance goes with every value."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(1.0, {Signal.KV_USE: 0.25}), now=1.5)

        readings = fleet.view(now=2.0).instances["a"].readings

        assert {Signal.KV_USE: Reading(0.25, Source.SCRAPE, 1.0)} == readings

    def test_a_view_does_not_change_with_later_reports(self) -> None:
        """It is a value, not a window."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(1.0, {Signal.RUNNING: 1.0}), now=1.0)
        fleet.apply(seen(1.0, 5.0), now=1.0)
        view = fleet.view(now=1.0)
        fleet.apply(said(2.0, {Signal.RUNNING: 9.0}), now=2.0)
        fleet.apply(seen(2.0, 50.0), now=2.0)
        fleet.apply(PathReport("north", "south", Source.AGENT, 2.0, rtt=0.5), now=2.0)

        assert 1.0 == view.instances["a"].readings[Signal.RUNNING].value
        assert pytest.approx(5.0) == view.traffic["north", "chat", "a"].rate.value
        assert 0.04 == view.paths["north", "south"].rtt.value

    def test_a_better_source_wins_while_it_is_fresh(self) -> None:
        """The agent beside the instance knows best; when it is gone the scrape counts."""
        fleet = FleetState(make_config(), now=0.0)
        for second in range(1, 4):
            now = float(second)
            fleet.apply(said(now, {Signal.RUNNING: 2.0}, source=Source.AGENT), now=now)
            fleet.apply(said(now + 0.1, {Signal.RUNNING: 7.0, Signal.WAITING: 1.0}), now=now + 0.1)
        both = fleet.view(now=3.5).instances["a"].readings
        for second in range(4, 20):
            fleet.apply(said(float(second), {Signal.RUNNING: 8.0}), now=float(second))
        alone = fleet.view(now=19.0).instances["a"].readings

        assert Reading(2.0, Source.AGENT, 3.0) == both[Signal.RUNNING]
        assert Reading(1.0, Source.SCRAPE, 3.1) == both[Signal.WAITING]
        assert Reading(8.0, Source.SCRAPE, 19.0) == alone[Signal.RUNNING]

    def test_a_report_older_than_the_last_is_dropped(self) -> None:
        """Reports may overtake each other on the way."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(2.0, {Signal.RUNNING: 2.0}), now=2.0)
        fleet.apply(said(1.0, {Signal.RUNNING: 1.0}), now=2.0)

        assert 2.0 == fleet.view(now=2.0).instances["a"].readings[Signal.RUNNING].value


class TestRates:
    """Growth of counters between reports."""

    def test_every_completion_is_in_exactly_one_interval(self) -> None:
        """A learner that adds up the intervals it has not seen yet misses nothing."""
        fleet = FleetState(make_config(), now=0.0)
        rng = random.Random(7)
        now, completed, added, last = 0.0, 0.0, 0.0, 0.0
        for _ in range(200):
            now += rng.uniform(0.2, 1.4)
            completed += rng.randint(0, 5)
            fleet.apply(said(now, {Signal.COMPLETED: completed}), now=now)
            view = fleet.view(now=now).instances["a"]
            reading = view.rates.get(Signal.COMPLETED)
            if reading is not None and reading.at != last:
                assert view.interval >= 0.8
                added += reading.value * view.interval
                last = reading.at or 0.0
            else:
                pending = completed - added

        assert pytest.approx(completed) == added + (0.0 if last == now else pending)

    def test_a_restart_gives_no_rate_rather_than_a_wrong_one(self) -> None:
        """Counters that run backwards say that the engine is new."""
        fleet = FleetState(make_config(), now=0.0)
        for now, completed in ((1.0, 100.0), (2.0, 110.0), (3.0, 4.0)):
            fleet.apply(said(now, {Signal.COMPLETED: completed}), now=now)
        restarted = fleet.view(now=3.0).instances["a"].rates
        fleet.apply(said(4.0, {Signal.COMPLETED: 7.0}), now=4.0)

        assert {} == restarted
        assert 3.0 == fleet.view(now=4.0).instances["a"].rates[Signal.COMPLETED].value


class TestRefusals:
    """What cannot be believed."""

    @pytest.mark.parametrize(
        ("report", "words"),
        [
            pytest.param(
                said(1.0, instance="aa"),
                "the configuration has no instance 'aa'",
                id="unknown_instance",
            ),
            pytest.param(said(1.0, {Signal.RUNNING: float("nan")}), "running is nan", id="nan"),
            pytest.param(said(1.0, {Signal.WAITING: -1.0}), "waiting is -1", id="negative"),
            pytest.param(said(1.0, {Signal.KV_USE: 20.0}), "kv_use is 20", id="percentage"),
            pytest.param(said(1.0, {Signal.POWER: 9.2e18}), "power is 9.2e+18", id="sentinel"),
            pytest.param(said(10.0), "in the future", id="future"),
            pytest.param(said(-100.0), "101 s ago", id="long_ago"),
            pytest.param(
                PathReport("north", "sowth", Source.AGENT, 1.0, rtt=0.1),
                "the configuration has no site 'sowth'",
                id="unknown_site",
            ),
            pytest.param(
                PathReport("north", "south", Source.AGENT, 1.0), "neither", id="empty_path"
            ),
            pytest.param(
                PathReport("north", "south", Source.AGENT, 1.0, rtt=-0.1), "rtt", id="negative_rtt"
            ),
            pytest.param(
                SiteReport("north", Source.AGENT, 1.0, power=float("inf")), "power", id="power"
            ),
            pytest.param(seen(1.0, -5.0), "issued is -5", id="negative_traffic"),
            pytest.param(seen(1.0, 5.0, site="nroth"), "no site 'nroth'", id="client_site"),
        ],
    )
    def test_what_cannot_be_is_refused_with_its_reason(
        self, report: InstanceReport, words: str
    ) -> None:
        """Nothing of it reaches the view."""
        fleet = FleetState(make_config(), now=0.0)

        with pytest.raises(ReportError, match=words.replace("+", r"\+")):
            fleet.apply(report, now=1.0)

        assert {} == fleet.view(now=1.0).instances["a"].readings

    def test_unknown_names_cost_no_search_in_a_large_fleet(self) -> None:
        """A thousand reports on instances that were removed take less than a tenth of a second."""
        instances = [make_instance(f"edge-{n:05}") for n in range(5000)]
        fleet = FleetState(make_config(*instances), now=0.0)

        spent = []
        for _ in range(3):  # a collection of garbage may fall into one
            began = time.process_time()
            for number in range(1000):
                with contextlib.suppress(ReportError):
                    fleet.apply(said(1.0, instance=f"edge-x{number:05}"), now=1.0)
            spent.append(time.process_time() - began)

        assert min(spent) < 0.1

    def test_repeated_nonsense_leads_to_quarantine_and_sense_out_of_it(self) -> None:
        """One odd report is forgiven, a habit is not, and no one is locked out for ever."""
        fleet = FleetState(make_config(), now=0.0)
        phases = []
        for second in range(1, 11):
            now = float(second)
            value = float("nan") if second <= 4 else 1.0
            try:
                fleet.apply(said(now, {Signal.RUNNING: value}), now=now)
            except ReportError:
                assert second <= 4
            phases.append(fleet.view(now=now).instances["a"].phase)

        assert [Phase.UNKNOWN] * 2 + [Phase.QUARANTINED] * 6 == phases[:8]
        assert Phase.LIVE is phases[9]

    @pytest.mark.parametrize("value", [float("nan"), -1.0, 1e12])
    def test_an_agents_nonsense_costs_nothing_of_an_instance_that_is_scraped(
        self, value: float
    ) -> None:
        """The agent alone is in quarantine: phase, readings and confidence are the scrape's."""
        fleets = [FleetState(make_config(), now=0.0) for _ in range(2)]
        alone, beside = fleets
        for second in range(1, 11):
            now = float(second)
            for fleet in fleets:
                signals = {Signal.RUNNING: 3.0, Signal.COMPLETED: 5.0 * now}
                fleet.apply(said(now, signals, source=Source.SCRAPE), now=now)
            with pytest.raises(ReportError):
                beside.apply(said(now, {Signal.RUNNING: value}, source=Source.AGENT), now=now)

            assert alone.view(now=now).instances["a"] == beside.view(now=now).instances["a"]

        assert Phase.LIVE is beside.view(now=10.0).instances["a"].phase

    def test_a_jump_that_nothing_can_make_is_refused_and_the_next_report_goes_on(self) -> None:
        """A counter that wrapped must not count as a flood of completions."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.apply(said(1.0, {Signal.COMPLETED: 10.0}), now=1.0)
        with pytest.raises(ReportError, match="nothing is that fast"):
            fleet.apply(said(2.0, {Signal.COMPLETED: 1e12}), now=2.0)
        fleet.apply(said(3.0, {Signal.COMPLETED: 1e12 + 5}), now=3.0)

        assert 5.0 == fleet.view(now=3.0).instances["a"].rates[Signal.COMPLETED].value

    def test_two_instances_behind_one_name_are_noticed(self) -> None:
        """Their counters run backwards at every other report."""
        fleet = FleetState(make_config(), now=0.0)
        for second in range(1, 20):
            completed = second + (1000.0 if second % 2 else 0.0)
            fleet.apply(said(float(second), {Signal.COMPLETED: completed}), now=float(second))

        view = fleet.view(now=19.0).instances["a"]

        assert (Phase.LIVE, 1.0) == (view.phase, view.trust)
        assert Signal.COMPLETED not in view.readings
        assert not view.rates
        assert "PROMETHEUS_MULTIPROC_DIR" in view.reason
        assert "backwards" in view.reason

    def test_one_page_that_a_later_one_overtook_is_no_doubt(self) -> None:
        """While the lead changes hands two replicas read an instance, and share what they read."""
        fleet = FleetState(make_config(), now=0.0)
        for now, completed in ((1.0, 100.0), (2.0, 106.0), (2.1, 104.0), (3.1, 112.0)):
            fleet.apply(said(now, {Signal.COMPLETED: completed}), now=now)

        view = fleet.view(now=3.1).instances["a"]

        assert "" == view.reason
        assert pytest.approx(8.0) == view.rates[Signal.COMPLETED].value


class TestDemand:
    """Requests a second per client site and service."""

    def feed(
        self, fleet: FleetState, rate: float, seconds: range, rng: random.Random, envoys: int = 1
    ) -> list[float]:
        """Let Envoys see Poisson arrivals; give the demand after each second."""
        demand = []
        for second in seconds:
            now = float(second)
            for envoy in range(envoys):
                count, left = 0, 1.0
                while (left := left - rng.expovariate(rate / envoys)) > 0:
                    count += 1
                for instance, part in (("a", count // 2), ("b", count - count // 2)):
                    fleet.apply(
                        seen(now, float(part), envoy=f"e{envoy}", instance=instance), now=now
                    )
            demand.append(fleet.view(now=now).demand["north", "chat"].value)
        return demand

    def test_noise_is_smoothed_to_less_than_half(self) -> None:
        """Weights must not follow the dice."""
        fleet = FleetState(make_config(), now=0.0)

        demand = self.feed(fleet, 100.0, range(1, 301), random.Random(1), envoys=3)[20:]

        mean = sum(demand) / len(demand)
        deviation = (sum((value - mean) ** 2 for value in demand) / len(demand)) ** 0.5
        assert pytest.approx(100.0, rel=0.03) == mean
        assert deviation < 5.0  # one second of Poisson arrivals deviates by 10

    @pytest.mark.parametrize("after", [pytest.param(160.0, id="up"), pytest.param(50.0, id="down")])
    def test_a_step_is_followed_within_two_seconds(self, after: float) -> None:
        """A change beyond noise must not wait for an average."""
        fleet = FleetState(make_config(), now=0.0)
        rng = random.Random(2)
        self.feed(fleet, 100.0, range(1, 31), rng, envoys=2)

        demand = self.feed(fleet, after, range(31, 33), rng, envoys=2)

        assert pytest.approx(after, rel=0.25) == demand[-1]

    def test_what_was_counted_is_there_unsmoothed(self) -> None:
        """For a filter that knows more; one Envoy's parts and all Envoys added up."""
        fleet = FleetState(make_config(), now=0.0)
        for second, issued in enumerate((40.0, 50.0, 44.0), 1):
            for envoy in ("e1", "e2"):
                for instance in "ab":
                    report = seen(float(second), issued, envoy=envoy, instance=instance)
                    fleet.apply(report, now=float(second))
        key = ("north", "chat")

        assert Reading(4 * 44.0, Source.ENVOY, 3.0) == fleet.view(now=3.0).counted[key]
        assert key not in fleet.view(now=20.0).counted

    def test_an_envoy_that_vanishes_stops_to_count(self) -> None:
        """Its requests come no more, or come through another."""
        fleet = FleetState(make_config(), now=0.0)
        for second in range(1, 31):
            fleet.apply(seen(float(second), 40.0, envoy="e1"), now=float(second))
            if second <= 15:
                fleet.apply(seen(float(second), 40.0, envoy="e2"), now=float(second))

        assert pytest.approx(40.0, rel=0.02) == fleet.view(now=30.0).demand["north", "chat"].value

    def test_demand_is_held_while_all_envoys_are_silent_and_then_absent(self) -> None:
        """Silence of reports is not silence of clients."""
        fleet = FleetState(make_config(), now=0.0)
        for second in range(1, 11):
            fleet.apply(seen(float(second), 40.0), now=float(second))
        key = ("north", "chat")

        held = fleet.view(now=30.0).demand[key]
        gone = key in fleet.view(now=41.0).demand
        fleet.set_clients({"south": 1})

        assert Reading(40.0, Source.ENVOY, 10.0) == held
        assert not gone
        assert key not in fleet.view(now=30.0).demand

    def test_without_envoys_reports_instances_counters_report_the_demand(self) -> None:
        """What leaves plus what piles up inside is what came in, spread by connected Envoys."""
        fleet = FleetState(make_config(), now=0.0)
        fleet.set_clients({"north": 3, "south": 1})
        for second in range(1, 31):
            now = float(second)
            signals = {
                Signal.COMPLETED: 6.0 * second,
                Signal.RUNNING: 8.0,
                Signal.WAITING: 2.0 * second,
            }
            fleet.apply(said(now, signals), now=now)

        demand = fleet.view(now=30.0).demand

        assert {("north", "chat"): 6.0, ("south", "chat"): 2.0} == {
            key: pytest.approx(reading.value) for key, reading in demand.items()
        }
        assert {Source.SCRAPE} == {reading.source for reading in demand.values()}


class TestTraffic:
    """What Envoys see of an instance."""

    def test_rate_failures_and_latency_are_windowed(self) -> None:
        """Ten seconds of the same give just that."""
        fleet = FleetState(make_config(), now=0.0)
        for second in range(1, 11):
            fleet.apply(
                seen(float(second), 10.0, succeeded=8.0, failed=2.0, in_progress=3.0, latency=0.5),
                now=float(second),
            )

        view = fleet.view(now=10.0).traffic["north", "chat", "a"]

        assert pytest.approx(10.0) == view.rate.value
        assert pytest.approx(0.2) == view.failures
        assert view.latency is not None
        assert pytest.approx(0.5) == view.latency.value
        assert pytest.approx(3.0) == view.in_progress


class TestTrust:
    """Claims against observation."""

    @pytest.mark.parametrize(
        ("observed", "word"),
        [
            pytest.param(seen(0, 10.0, succeeded=0.0, in_progress=40.0), "inside", id="hangs"),
            pytest.param(seen(0, 10.0, succeeded=2.0, failed=8.0), "fail", id="fails"),
            pytest.param(seen(0, 10.0, latency=4.0), "an answer", id="dawdles"),
        ],
    )
    def test_an_instance_that_claims_to_be_idle_and_is_not_loses_trust(
        self, observed: TrafficReport, word: str
    ) -> None:
        """It would draw ever more traffic otherwise; it recovers when claims fit again."""
        fleet = FleetState(make_config(), now=0.0)
        trusts = []
        for second in range(1, 121):
            now = float(second)
            lies = 20 < second <= 60
            report = seen(now, 10.0, latency=0.1)
            if lies:
                report = TrafficReport(
                    "e1", "north", "chat", "a", now, 1.0, observed.issued, observed.succeeded,
                    observed.failed, observed.in_progress, observed.latency_sum,
                    observed.latency_count,
                )  # fmt: skip
            fleet.apply(report, now=now)
            claims = {
                Signal.RUNNING: 1.0,
                Signal.COMPLETED: 10.0 * second,
                Signal.LATENCY_SUM: 1.0 * second,
                Signal.LATENCY_COUNT: 10.0 * second,
            }
            fleet.apply(said(now, claims), now=now)
            view = fleet.view(now=now).instances["a"]
            trusts.append(view.trust)
            if second == 60:
                assert word in view.reason

        assert {1.0} == set(trusts[:20])
        assert trusts[59] < 0.4
        assert trusts[119] > 0.9
        steps = [abs(after - before) for before, after in pairwise(trusts)]
        assert max(steps) < 0.3

    def test_a_load_that_rises_and_falls_is_no_contradiction(self) -> None:
        """Claims and observations lag alike."""
        fleet = FleetState(make_config(), now=0.0)
        completed = latency_sum = 0.0
        for second in range(1, 121):
            now = float(second)
            busy = second // 15 % 2 == 1
            rate, inside, latency = (20.0, 60.0, 3.0) if busy else (10.0, 1.0, 0.1)
            completed += rate
            latency_sum += rate * latency
            fleet.apply(seen(now, rate, in_progress=inside, latency=latency), now=now)
            claims = {
                Signal.RUNNING: inside,
                Signal.COMPLETED: completed,
                Signal.LATENCY_SUM: latency_sum,
                Signal.LATENCY_COUNT: completed,
            }
            fleet.apply(said(now, claims), now=now)

            assert 1.0 == fleet.view(now=now).instances["a"].trust

    def test_requests_on_a_long_wire_are_held_against_nobody(self) -> None:
        """In progress at the Envoy includes the network."""
        fleet = FleetState(
            make_config(paths=(Path(source="north", target="south", rtt="200ms"),)), now=0.0
        )
        for second in range(1, 31):
            now = float(second)
            fleet.apply(seen(now, 100.0, instance="b", in_progress=22.0, latency=0.22), now=now)
            claims = {
                Signal.RUNNING: 2.0,
                Signal.COMPLETED: 100.0 * second,
                Signal.LATENCY_SUM: 2.0 * second,
                Signal.LATENCY_COUNT: 100.0 * second,
            }
            fleet.apply(said(now, claims, instance="b"), now=now)

        assert 1.0 == fleet.view(now=30.0).instances["b"].trust


class TestPaths:
    """The network between sites."""

    def test_every_ordered_pair_is_there_with_its_source(self) -> None:
        """Measured before configured before assumed; within a site the local one."""
        config = make_config(paths=(Path(source="north", target="south", rtt="10ms"),))
        fleet = FleetState(config, now=0.0)
        fleet.apply(PathReport("phones", "south", Source.AGENT, 1.0, rtt=0.007), now=1.0)

        paths = fleet.view(now=1.0).paths

        assert 9 == len(paths)
        assert Reading(0.0005, Source.DEFAULT) == paths["north", "north"].rtt
        assert Reading(0.01, Source.CONFIG) == paths["north", "south"].rtt
        assert Reading(0.01, Source.CONFIG) == paths["south", "north"].rtt
        assert Reading(0.04, Source.DEFAULT) == paths["north", "phones"].rtt
        assert Reading(0.007, Source.AGENT, 1.0) == paths["phones", "south"].rtt
        assert Reading(0.007, Source.AGENT, 1.0) == paths["south", "phones"].rtt

    def test_a_measurement_expires_to_what_is_configured(self) -> None:
        """A dead probe must not speak for ever."""
        config = make_config(paths=(Path(source="north", target="south", rtt="10ms"),))
        fleet = FleetState(config, now=0.0)
        fleet.apply(PathReport("north", "south", Source.AGENT, 1.0, rtt=0.5), now=1.0)

        values = [
            fleet.view(now=now).paths["north", "south"].rtt.value for now in (1.0, 60.0, 61.0)
        ]

        assert [0.5, 0.5, 0.01] == values

    def test_a_congested_path_shows_within_three_probes(self) -> None:
        """A stray probe is halved, a change gets through."""
        fleet = FleetState(make_config(), now=0.0)
        for second, rtt in enumerate((0.01, 0.01, 0.11, 0.11, 0.11), 1):
            fleet.apply(
                PathReport("north", "south", Source.AGENT, float(second), rtt=rtt),
                now=float(second),
            )

        assert fleet.view(now=5.0).paths["north", "south"].rtt.value > 0.09


class TestPower:
    """What sites draw."""

    def test_a_site_draws_what_its_agent_says_else_what_its_instances_add_up_to(self) -> None:
        """The meter of the site knows of more than the instances."""
        config = make_config(make_instance("a"), make_instance("b"))
        fleet = FleetState(config, now=0.0)
        for name in "ab":
            fleet.apply(said(1.0, {Signal.POWER: 300.0}, instance=name), now=1.0)
        own = fleet.view(now=1.0).power["north"]
        fleet.apply(SiteReport("north", Source.AGENT, 2.0, power=900.0, battery=0.5), now=2.0)
        view = fleet.view(now=2.0)

        assert Reading(600.0, Source.SCRAPE, 1.0) == own
        assert Reading(900.0, Source.AGENT, 2.0) == view.power["north"]
        assert Reading(0.5, Source.AGENT, 2.0) == view.battery["north"]


class TestReconfigure:
    """A new configuration keeps what is still true."""

    def test_remaining_instances_keep_what_is_known_and_changed_ones_start_anew(self) -> None:
        """Another address is another instance."""
        fleet = FleetState(make_config(), now=0.0)
        for name in "ab":
            fleet.apply(said(1.0, instance=name), now=1.0)
        moved = make_instance("b", site="south").model_copy(update={"address": "10.0.0.9:1"})
        fleet.reconfigure(make_config(make_instance("a"), moved), now=2.0)

        instances = fleet.view(now=2.0).instances

        assert [Phase.LIVE, Phase.UNKNOWN] == [one.phase for one in instances.values()]
        assert [1.0, 0.1] == [one.ramp for one in instances.values()]
