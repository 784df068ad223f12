"""What the control plane hears is as late, incomplete and wrong as the scenario says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlplane.model import (
    InstanceReport,
    PathReport,
    Report,
    ScrapeFailure,
    Signal,
    TrafficReport,
)
from controlplane.sim.fleets import single_server_fleet
from controlplane.sim.happenings import Happening, What, schedule
from controlplane.sim.policies import Capacity
from controlplane.sim.reports import Telemetry
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.workload import draw_arrivals
from controlplane.sim.world import World


def listen(*happenings: Happening, **settings: Any) -> list[tuple[float, Report]]:
    """Return everything that is heard in 60 s of three servers, with the time of hearing."""
    fleet = single_server_fleet((2.0, 1.0, 1.0), name="t", utilisation=0.8, sidecars=2, period=1.0)
    world = World(fleet, draw_arrivals(fleet.streams, duration=60, seed=1), seed=1)
    heard: list[tuple[float, Report]] = []
    telemetry = Telemetry(
        world,
        TelemetrySettings(**settings),
        lambda report, now: heard.append((now, report)),
        seed=1,
        until=60.0,
    )
    Capacity(world).start()
    telemetry.start()
    schedule(happenings, world, telemetry)
    world.run(60.0)
    return heard


def of_instance(heard: list[tuple[float, Report]], name: str) -> list[InstanceReport]:
    """Return what one instance said."""
    return [r for _, r in heard if isinstance(r, InstanceReport) and r.instance == name]


def test_each_sender_reports_once_a_period() -> None:
    """Instances and Envoys each second, paths each five."""
    heard = listen()
    counts = {kind: sum(isinstance(r, kind) for _, r in heard)
              for kind in (InstanceReport, PathReport)}  # fmt: skip
    envoys = {(r.envoy, r.at) for _, r in heard if isinstance(r, TrafficReport)}

    assert {InstanceReport: 180, PathReport: 39} == counts
    assert 120 == pytest.approx(len(envoys), abs=4)


def test_what_envoys_issued_is_what_came() -> None:
    """The sum over all reports is the number of requests, but for the last second's."""
    issued = sum(r.issued for _, r in listen() if isinstance(r, TrafficReport))
    fleet = single_server_fleet((2.0, 1.0, 1.0), name="t", utilisation=0.8, sidecars=2, period=1.0)

    assert len(draw_arrivals(fleet.streams, duration=60, seed=1).times) == pytest.approx(
        issued, abs=12
    )


def test_a_report_arrives_its_delay_after_it_was_measured() -> None:
    """And says when it was measured."""
    assert {2.5} == {round(now - report.at, 6) for now, report in listen(delay=2.5)}


def test_lost_reports_do_not_arrive() -> None:
    """About the part that the scenario says."""
    assert 0.7 == pytest.approx(len(listen(loss=0.3)) / len(listen()), abs=0.07)


def test_noise_blurs_but_counters_only_grow() -> None:
    """A noisy sum never falls, and keeps its growth on average."""
    calm = of_instance(listen(), "server-00")
    noisy = of_instance(listen(noise=0.2), "server-00")
    sums = [report.signals[Signal.LATENCY_SUM] for report in noisy]

    assert np.all(np.diff(sums) >= 0)
    assert calm[-1].signals[Signal.LATENCY_SUM] == pytest.approx(sums[-1], rel=0.15)
    assert calm[-1].signals[Signal.LATENCY_SUM] != sums[-1]


def test_an_engine_does_not_report_its_slots() -> None:
    """What is to be learned is not reported."""
    (*_, last) = of_instance(listen(), "server-00")

    assert not {Signal.SLOTS, Signal.UTILISATION} & last.signals.keys()


def test_a_liar_shrinks_its_load_and_what_grows_from_then_on() -> None:
    """Its counters still only grow."""
    lie = Happening(What.LIE, at=30.0, amount=0.1, instances=("server-00",))
    honest, liar = of_instance(listen(), "server-00"), of_instance(listen(lie), "server-00")

    def growth(reports: list[InstanceReport]) -> float:
        sums = [r.signals[Signal.LATENCY_SUM] for r in reports]
        return sums[-1] - sums[31]

    assert honest[29].signals == liar[29].signals
    assert 0.1 * growth(honest) == pytest.approx(growth(liar), rel=0.02)


def test_the_silent_say_nothing_and_the_dead_cannot_be_read() -> None:
    """Silence gives no report at all, death a failed scrape."""
    heard = listen(
        Happening(What.SILENCE, at=20.0, until=40.0, instances=("server-01",)),
        Happening(What.DEATH, at=20.0, until=40.0, instances=("server-02",)),
    )
    failures = [r for _, r in heard if isinstance(r, ScrapeFailure)]

    for name in ("server-01", "server-02"):
        assert not [r for r in of_instance(heard, name) if 20 < r.at < 40]
        assert [r for r in of_instance(heard, name) if r.at > 40]
    assert {"server-02"} == {failure.instance for failure in failures}


def test_envoys_fall_silent_only_when_asked() -> None:
    """A silent fleet with silent Envoys leaves the paths alone to be heard."""
    heard = listen(Happening(What.SILENCE, at=20.0, envoys=True))

    assert {PathReport} == {type(report) for now, report in heard if now > 20.001}
