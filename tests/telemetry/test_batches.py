"""Agents' batches become reports, each believed on its own."""

from __future__ import annotations

import contextlib
import math

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.errors import ReportError
from controlplane.fleet import plausibility
from controlplane.model import (
    InstanceReport,
    PathReport,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
)
from controlplane.telemetry import batches
from controlplane.telemetry.batches import Batch, parse_batch
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb


def stamp(seconds: float) -> Timestamp:
    """Return an instant of the agent's clock, which began at 1000."""
    whole, part = divmod(1000 + seconds, 1)
    return Timestamp(seconds=int(whole), nanos=round(part * 1e9))


def make_batch(
    *instances: pb.InstanceReport,
    paths: tuple[pb.PathReport, ...] = (),
    sites: tuple[pb.SiteReport, ...] = (),
) -> pb.ReportBatch:
    """Return a batch sent at 10 of the agent's clock."""
    return pb.ReportBatch(
        agent=pb.Agent(id="agent-1", site="north"),
        sequence=7,
        sent_at=stamp(10),
        instances=instances,
        paths=paths,
        sites=sites,
    )


def make_instance(**fields: object) -> pb.InstanceReport:
    """Return an instance that was measured at 9.5 of the agent's clock."""
    return pb.InstanceReport(**({"instance": "a", "measured_at": stamp(9.5)} | fields))  # type: ignore[arg-type]


def test_everything_in_a_batch_becomes_a_report_on_our_clock() -> None:
    """Half a second before it was sent is half a second before it came."""
    batch = make_batch(
        make_instance(
            signals={"running": 2.0, "kv_use": 1.0001, "new_signal": 5.0},
            missing=["waiting", "what"],
            not_ready=True,
        ),
        make_instance(instance="b", failure="connection refused"),
        paths=(
            pb.PathReport(to_site="south", measured_at=stamp(9), rtt=Duration(nanos=5_000_000)),
            pb.PathReport(from_site="west", to_site="south", bandwidth=1e6),
        ),
        sites=(pb.SiteReport(measured_at=stamp(8), power=250.0),),
    )

    expected = Batch(
        sequence=7,
        reports=(
            InstanceReport(
                "a", Source.AGENT, 49.5, {Signal.RUNNING: 2.0, Signal.KV_USE: 1.0},
                ready=False, missing=(Signal.WAITING,),
                not_ready_reason="its agent says that it is not ready", reporter="agent-1",
            ),
            ScrapeFailure("b", 49.5, "connection refused"),
            PathReport("north", "south", Source.AGENT, 49.0, rtt=0.005),
            PathReport("west", "south", Source.AGENT, 50.0, bandwidth=1e6),
            SiteReport("north", Source.AGENT, 48.0, power=250.0, reporter="agent-1"),
        ),
        refused=(),
        refused_count=0,
        unknown_signals=1,
    )  # fmt: skip
    assert expected == parse_batch(batch, received_at=50.0)


def test_the_site_of_the_stream_stands_in_for_the_batchs_own() -> None:
    """Only the first batch must name it."""
    batch = make_batch(sites=(pb.SiteReport(battery=0.5),))
    batch.ClearField("agent")

    (report,) = parse_batch(batch, received_at=50.0, site="west").reports

    assert SiteReport("west", Source.AGENT, 50.0, battery=0.5) == report


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        pytest.param(make_batch(make_instance(instance="")), "instance is empty", id="nameless"),
        pytest.param(
            make_batch(make_instance(instance="x" * 100)), "is longer than 63", id="long_name"
        ),
        pytest.param(
            make_batch(make_instance(signals={f"s{n}": 1.0 for n in range(100)})),
            "100 signals; at most 64", id="many_signals",
        ),
        pytest.param(
            make_batch(make_instance(measured_at=stamp(12))),
            "measured 2.0 s after its batch was sent", id="future",
        ),
        pytest.param(
            make_batch(make_instance(measured_at=stamp(-900))), "at most 600", id="long_ago"
        ),
        pytest.param(
            make_batch(paths=(pb.PathReport(to_site="south"),)),
            "paths[0]: a path with neither rtt nor bandwidth", id="empty_path",
        ),
        pytest.param(
            make_batch(paths=(pb.PathReport(to_site="south", rtt=Duration(seconds=-1)),)),
            "paths[0]: rtt is -1", id="negative_rtt",
        ),
        pytest.param(
            make_batch(paths=(pb.PathReport(to_site="south", bandwidth=math.nan),)),
            "paths[0]: bandwidth is nan", id="nan_bandwidth",
        ),
        pytest.param(
            make_batch(sites=(pb.SiteReport(battery=50.0),)), "sites[0]: battery is 50",
            id="battery_in_per_cent",
        ),
    ],
)  # fmt: skip
def test_a_faulty_report_costs_itself_and_is_reported_in_a_line(
    batch: pb.ReportBatch, line: str
) -> None:
    """Its neighbours count."""
    batch.instances.append(make_instance(instance="fine", signals={"running": 1.0}))

    parsed = parse_batch(batch, received_at=50.0)

    assert 1 == parsed.refused_count
    assert line in parsed.refused[0]
    (fine,) = parsed.reports
    assert isinstance(fine, InstanceReport)
    assert ("fine", 49.5, {Signal.RUNNING: 1.0}, "agent-1") == (
        fine.instance, fine.at, fine.signals, fine.reporter,
    )  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e12])
def test_values_beyond_their_bounds_are_left_to_the_fleet(value: float) -> None:
    """Only there they count against their source; what is dropped here would count as silence."""
    batch = make_batch(make_instance(signals={"running": value}))

    (report,) = parse_batch(batch, received_at=50.0).reports

    assert isinstance(report, InstanceReport)
    with pytest.raises(ReportError, match=r"running is .*; it lies between 0 and 1e\+09"):
        plausibility.require_instance(report)


def test_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of reports, and of the lines that refuse them."""
    monkeypatch.setattr(batches, "MAX_REFUSED", 3)
    nameless = [make_instance(instance="") for _ in range(5)]

    parsed = parse_batch(make_batch(*nameless), received_at=50.0)
    monkeypatch.setattr(batches, "MAX_REPORTS", 4)

    assert (3, 5) == (len(parsed.refused), parsed.refused_count)
    with pytest.raises(ReportError, match="5 reports in one batch"):
        parse_batch(make_batch(*nameless), received_at=50.0)


@given(
    st.lists(
        st.builds(
            pb.InstanceReport,
            instance=st.text(max_size=70),
            measured_at=st.builds(
                Timestamp,
                seconds=st.integers(-(2**62), 2**62),
                nanos=st.integers(-(2**31), 2**31 - 1),
            ),
            signals=st.dictionaries(
                st.sampled_from([*(signal.value for signal in Signal), "other"]), st.floats()
            ),
            failure=st.text(max_size=5),
        ),
        max_size=4,
    ),
    st.lists(
        st.builds(
            pb.PathReport,
            to_site=st.text(max_size=5),
            rtt=st.builds(Duration, seconds=st.integers(-(2**62), 2**62)),
            bandwidth=st.floats(),
        ),
        max_size=2,
    ),
)
@settings(max_examples=100)
def test_whatever_comes_is_a_report_or_a_line(
    instances: list[pb.InstanceReport], paths: list[pb.PathReport]
) -> None:
    """Nothing an agent can encode raises, and the fleet takes no report of what cannot be."""
    parsed = parse_batch(make_batch(*instances, paths=tuple(paths)), received_at=50.0)

    assert len(instances) + len(paths) == len(parsed.reports) + parsed.refused_count
    for report in parsed.reports:
        if isinstance(report, InstanceReport):
            possible = all(0 <= value < 2.0**63 for value in report.signals.values())
            with contextlib.suppress(ReportError):
                plausibility.require_instance(report)
                assert possible
