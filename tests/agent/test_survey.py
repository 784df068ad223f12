"""What the agent makes of a round, and what it keeps while no one listens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.agent.exporters import Exported
from controlplane.agent.gpus import GpuState
from controlplane.agent.machine import MachineState
from controlplane.agent.probes import Measured
from controlplane.agent.survey import (
    Item,
    Local,
    MachineSnapshot,
    Outbox,
    build_batch,
    build_items,
    draw_of,
)
from controlplane.model import (
    InstanceReport,
    PathReport,
    Report,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
)
from controlplane.telemetry.batches import parse_batch
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb

IDLE = MachineState(cpu=0.3, memory=0.5, pressure=0.1, power=None, battery=None)
ME = pb.Agent(id="north-1", site="north", version="1")


def said(signals: dict[Signal, float], at: float = 9.0) -> InstanceReport:
    """Return a scrape of the instance a."""
    return InstanceReport("a", Source.SCRAPE, at, signals)


def sent(items: list[Item], *, now: float = 10.0, unix_now: float = 1e9) -> tuple[Report, ...]:
    """Return what a control plane makes of *items*, received at 100 of its own clock."""
    batch = build_batch(items, agent=ME, sequence=1, now=now, unix_now=unix_now)
    received = pb.ReportBatch.FromString(batch.SerializeToString())
    parsed = parse_batch(received, received_at=100.0)
    assert () == parsed.refused
    return parsed.reports


def test_a_round_arrives_at_the_control_plane_as_it_was_measured() -> None:
    """Through the wire format and back: values, provenance and ages."""
    around = MachineSnapshot(10.0, IDLE, training=0.25, power=120.0, battery=0.4)
    items = build_items(
        [said({Signal.RUNNING: 3.0}), ScrapeFailure("b", 9.5, "status 503")],
        [Measured("cloud", 8.0, rtt=0.0123), Measured("cloud", 8.0, bandwidth=1e6)],
        around,
        local={"a": Local("vllm")},
    )

    instance, failure, rtt, bandwidth, site = sent(items)

    assert isinstance(instance, InstanceReport)
    assert (Source.AGENT, 99.0) == (instance.source, round(instance.at, 6))
    assert {
        Signal.RUNNING: 3.0, Signal.UTILISATION: 0.3, Signal.MEMORY: 0.5,
        Signal.PRESSURE: 0.1, Signal.TRAINING: 0.25,
    } == instance.signals  # fmt: skip
    assert isinstance(failure, ScrapeFailure)
    assert "status 503" == failure.reason
    assert isinstance(rtt, PathReport)
    assert ("north", "cloud", 0.0123) == (rtt.from_site, rtt.to_site, rtt.rtt)
    assert isinstance(bandwidth, PathReport)
    assert 1e6 == bandwidth.bandwidth
    assert isinstance(site, SiteReport)
    assert ("north", 120.0, 0.4) == (site.site, site.power, site.battery)


@pytest.mark.parametrize(("mains", "reports"), [(True, 1), (False, 0)])
def test_a_battery_that_is_not_in_use_is_reported_as_mains(mains: bool, reports: int) -> None:
    """Its charge would stand otherwise; a machine without any has nothing to say."""
    around = MachineSnapshot(10.0, IDLE, mains=mains)

    found = [r for r in sent(build_items([], [], around, local={})) if isinstance(r, SiteReport)]

    assert [None] * reports == [report.battery for report in found]


@pytest.mark.parametrize(
    ("on_gpus", "pushed", "expected"),
    [
        pytest.param((0.75, 0.25), None, 0.5, id="on its GPUs, however busy a processor is"),
        pytest.param((0.0, 0.0), None, 0.0, id="on others' GPUs"),
        pytest.param((None, None), None, 0.9, id="on processors, as no driver says otherwise"),
        pytest.param((0.75, 0.25), 0.6, 0.6, id="more, as the job says itself"),
    ],
)
def test_a_job_counts_by_what_it_takes_of_an_instances_gpus(
    on_gpus: tuple[float | None, float | None], pushed: float | None, expected: float
) -> None:
    """Its processor time counts where no driver says of GPUs."""
    around = MachineSnapshot(10.0, IDLE, training=pushed, processes=0.9)
    gpus = tuple(GpuState(0.9, None, None, training) for training in on_gpus)

    (report,) = sent(build_items([said({})], [], around, local={"a": Local("vllm", gpus)}))

    assert isinstance(report, InstanceReport)
    assert expected == report.signals[Signal.TRAINING]


def test_an_instances_own_word_beats_the_machines() -> None:
    """And its own GPUs beat the processors."""
    around = MachineSnapshot(10.0, IDLE)
    gpus = (GpuState(0.9, 0.8, 300.0), GpuState(0.2, 0.1, 50.0))
    local = {"a": Local("vllm", gpus)}

    (own,) = sent(build_items([said({Signal.UTILISATION: 0.7})], [], around, local=local))
    (gpu,) = sent(build_items([said({})], [], around, local=local))

    assert isinstance(own, InstanceReport)
    assert isinstance(gpu, InstanceReport)
    assert 0.7 == own.signals[Signal.UTILISATION]
    assert (0.9, 0.8, 350.0) == (
        gpu.signals[Signal.UTILISATION],
        gpu.signals[Signal.MEMORY],
        gpu.signals[Signal.POWER],
    )


@pytest.mark.parametrize(
    ("reason", "reported"),
    [
        ("its pool has no ready endpoint", "its pool has no ready endpoint"),
        ("", "its agent says that it is not ready"),
        ("long " * 100, ("long " * 100)[:200]),
    ],
)
def test_why_an_instance_is_not_ready_crosses(reason: str, reported: str) -> None:
    """What its engine says, not only that it does; bounded."""
    asleep = InstanceReport("a", Source.SCRAPE, 9.0, {}, ready=False, not_ready_reason=reason)

    (report,) = sent(build_items([asleep], [], MachineSnapshot(10.0, IDLE), local={}))

    assert isinstance(report, InstanceReport)
    assert (False, reported) == (report.ready, report.not_ready_reason)


@pytest.mark.parametrize(
    ("processors", "battery", "exported", "gpus", "watts"),
    [
        pytest.param(None, None, Exported(), [], None, id="no_sensor"),
        pytest.param(40.0, None, Exported(), [], 50.0, id="processors"),
        pytest.param(40.0, None, Exported(power=41.0), [], 50.0, id="processors_told_twice"),
        pytest.param(None, None, Exported(power=41.0), [], 51.0, id="node_exporter"),
        pytest.param(40.0, None, Exported(gpu_power=300.0), [], 350.0, id="dcgm_beside"),
        pytest.param(
            40.0, None, Exported(gpu_power=300.0), [200.0, 90.0], 340.0, id="gpus_told_twice"
        ),
        pytest.param(None, None, Exported(gpu_power=300.0), [], 310.0, id="gpus_alone"),
        pytest.param(20.0, 0.7, Exported(gpu_power=5.0), [6.0], 20.0, id="discharge_is_all"),
        pytest.param(None, None, Exported(power=15.0, battery=0.7), [], 15.0, id="told_discharge"),
    ],
)
def test_every_part_of_the_draw_counts_once(
    processors: float | None,
    battery: float | None,
    exported: Exported,
    gpus: list[float],
    watts: float | None,
) -> None:
    """Anyone who says of it, and however many do; 10 W are seen by no sensor."""
    machine = MachineState(cpu=0.3, memory=0.5, pressure=None, power=processors, battery=battery)
    states = [GpuState(None, None, power) for power in gpus]

    assert watts == draw_of(machine, exported, states, idle=10.0)


def test_only_one_agent_of_a_site_reports_its_power() -> None:
    """Two would overwrite each other."""
    around = MachineSnapshot(10.0, IDLE, power=120.0)

    assert [] == build_items([], [], around, local={}, reports_power=False)


def test_a_wall_clock_that_jumps_changes_no_age() -> None:
    """Ages come from the monotonic clock alone."""
    items = build_items([said({}, at=4.0)], [], MachineSnapshot(10.0, IDLE), local={})

    (before,) = sent(items, now=10.0, unix_now=1e9)
    (after,) = sent(items, now=10.0, unix_now=2e9)

    assert round(before.at, 6) == round(after.at, 6) == 94.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "take", "fail"]), st.integers(0, 30), st.floats(0, 20))
    )
)
def test_the_outbox_is_bounded_and_loses_nothing_in_silence(
    steps: list[tuple[str, int, float]],
) -> None:
    """Every report is waiting, sent or counted as dropped; the oldest go first."""
    outbox = Outbox(keep=10.0, most=50)
    now = 0.0
    put = sent_count = 0
    for step, count, pause in steps:
        now += pause
        if step == "put":
            outbox.put([Item(now, pb.SiteReport()) for _ in range(count)], now=now)
            put += count
        elif step == "take":
            sent_count += len(outbox.take())
        else:
            taken = outbox.take()
            outbox.give_back(taken, now=now)

        assert len(outbox) <= 50
        assert put == sent_count + len(outbox) + outbox.dropped
        instants = [item.at for item in outbox._items]
        assert sorted(instants) == instants
