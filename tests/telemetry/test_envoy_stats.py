"""Envoy's statistics to reports."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.errors import ReportError
from controlplane.model import FailureClass, TrafficReport
from controlplane.resources import names
from controlplane.telemetry import envoy_stats
from controlplane.telemetry.envoy_stats import EnvoyStats
from controlplane.telemetry.failure_classes import failure_class
from controlplane.wire.cats.envoy.v1 import metrics_pb2

Series = tuple[str, str, float]
"""Name without prefix, labels as ``KEY=VALUE ...``, value."""


def flush(at: float, *series: Series) -> list[metrics_pb2.MetricFamily]:
    """Make the families of one flush, as Envoy does: each series in one of its own."""
    families = []
    for name, labels, value in series:
        gauge = name == "in_progress"
        said = metrics_pb2.Value(value=value)
        metric = metrics_pb2.Metric(
            label=[
                metrics_pb2.LabelPair(name=pair.split("=")[0], value=pair.split("=")[1])
                for pair in labels.split()
            ],
            timestamp_ms=round(at * 1000),
            gauge=said if gauge else None,
            counter=None if gauge else said,
        )
        kind = metrics_pb2.GAUGE if gauge else metrics_pb2.COUNTER
        families.append(metrics_pb2.MetricFamily(name=f"cats.{name}", type=kind, metric=[metric]))
    return families


def stream() -> EnvoyStats:
    """Return the stream of an Envoy at the edge that flushes every second."""
    return EnvoyStats("e", "edge", 1.0)


A = "service=chat instance=a"


def test_the_names_are_those_that_the_loggers_are_built_with() -> None:
    """What Envoys are informed to count is what is read."""
    assert {
        f"{names.STATS_PREFIX}.{stat}"
        for stat in (
            names.STAT_REQUESTS,
            names.STAT_ANSWERS,
            names.STAT_LATENCY,
            names.STAT_TTFT,
            names.STAT_IN_PROGRESS,
            names.STAT_CLIENT_REQUESTS,
        )
    } == {
        envoy_stats.REQUESTS,
        envoy_stats.ANSWERS,
        envoy_stats.LATENCY,
        envoy_stats.TTFT,
        envoy_stats.IN_PROGRESS,
        envoy_stats.CLIENT_REQUESTS,
    }
    assert ("service", "instance", "code", "flags", "attempts") == (
        names.TAG_SERVICE,
        names.TAG_INSTANCE,
        names.TAG_CODE,
        names.TAG_FLAGS,
        names.TAG_ATTEMPTS,
    )


def test_a_flush_becomes_one_report_for_each_service_and_instance() -> None:
    """Counts, times and what is in progress stand together, in seconds."""
    stats = stream()
    stats.receive(flush(100.0, ("in_progress", A, 1)), now=5.0)

    reports = stats.receive(
        flush(
            101.5,
            ("requests", f"{A} code=200 flags=-", 4),
            ("requests", f"{A} code=503 flags=-", 1),
            ("answers", A, 3),
            ("latency_us", A, 1_500_000),
            ("ttft_us", A, 300_000),
            ("in_progress", A, 3),
        ),
        now=6.4,
    )

    assert [
        TrafficReport(
            envoy="e",
            site="edge",
            service="chat",
            instance="a",
            at=6.4,
            interval=1.5,
            issued=7.0,  # five ended, two more are in progress
            succeeded=3.0,
            failed=1.0,
            in_progress=3.0,
            latency_sum=1.5,
            latency_count=3.0,
            ttft_sum=0.3,
            failures={FailureClass.OVERLOAD: 1.0},
            abandoned=1.0,
        )
    ] == reports


@pytest.mark.parametrize(
    ("code", "flags", "answered", "expected"),
    [
        pytest.param("200", "-", 1, (1, 0), id="an answer"),
        pytest.param("404", "-", 0, (0, 0), id="a request that was wrong"),
        pytest.param("429", "-", 0, (0, 1), id="an instance that is full"),
        pytest.param("500", "-", 0, (0, 1), id="an error"),
        pytest.param("0", "UF", 0, (0, 1), id="no connection"),
        pytest.param("0", "UF,URX", 0, (0, 1), id="no connection, retries used up"),
        pytest.param("200", "UC", 0, (0, 1), id="broken in the middle of the answer"),
        pytest.param("0", "UT", 0, (0, 1), id="too slow"),
        pytest.param("0", "-", 0, (0, 0), id="a client that left before the answer"),
        pytest.param("200", "-", 0, (0, 0), id="a client that left within the answer"),
        pytest.param("0", "DC", 0, (0, 0), id="a client that left, reported by a flag"),
    ],
)
def test_an_attempt_succeeds_fails_or_says_nothing(
    code: str, flags: str, answered: int, expected: tuple[int, int]
) -> None:
    """An instance is charged with what it did, not with what clients do."""
    (report,) = stream().receive(
        flush(1.0, ("requests", f"{A} code={code} flags={flags}", 1), ("answers", A, answered)),
        now=0.0,
    )

    assert (1, *expected) == (report.issued, report.succeeded, report.failed)


@pytest.mark.parametrize(
    ("code", "flags", "expected"),
    [
        ("0", "UF", FailureClass.REFUSED),
        ("0", "UF,URX", FailureClass.REFUSED),
        ("401", "-", FailureClass.CLIENT_ERROR),
        ("404", "-", FailureClass.CLIENT_ERROR),
        ("408", "-", FailureClass.CLIENT_ERROR),
        ("429", "-", FailureClass.OVERLOAD),
        ("503", "-", FailureClass.OVERLOAD),
        ("529", "-", FailureClass.OVERLOAD),
        ("500", "-", FailureClass.SERVER_ERROR),
        ("502", "-", FailureClass.SERVER_ERROR),
        ("504", "-", FailureClass.SERVER_ERROR),
        ("0", "UC", FailureClass.UNANSWERED),
        ("0", "UPE", FailureClass.UNANSWERED),
        ("200", "UPE", FailureClass.UNANSWERED),
        ("200", "UT", FailureClass.UNANSWERED),
        ("0", "UT", FailureClass.LATE),
        ("200", "-", None),
        ("304", "-", None),
        ("101", "-", None),
        ("0", "DC", None),
        ("", "", None),
    ],
)
def test_failures_have_a_class(code: str, flags: str, expected: FailureClass | None) -> None:
    """The class follows from what Envoy 1.40 logs for each kind of misbehaviour."""
    assert expected == failure_class(code, flags)


def test_a_request_that_was_tried_again_is_asked_once() -> None:
    """Attempts are load; what was repeated is no demand."""
    (report,) = stream().receive(
        flush(
            1.0,
            ("requests", f"{A} code=503 flags=-", 4),
            ("requests", f"{A} code=200 flags=-", 3),
            ("answers", A, 3),
            ("client_requests", f"{A} code=200 flags=- attempts=2", 2),
            ("client_requests", f"{A} code=503 flags=URX attempts=2", 1),
        ),
        now=0.0,
    )

    assert (7.0, 3.0) == (report.issued, report.retries)


def test_retries_known_late_are_taken_from_later_attempts() -> None:
    """A request's attempts are known when it ends; demand is right over time and never negative."""
    stats = stream()
    asked = []
    for at, series in enumerate(
        [
            [("in_progress", A, 0)],
            [("requests", f"{A} code=0 flags=UT", 2), ("in_progress", A, 2)],
            [
                ("requests", f"{A} code=200 flags=-", 2),
                ("in_progress", A, 0),
                ("client_requests", f"{A} code=200 flags=- attempts=2", 2),
            ],
            [("requests", f"{A} code=200 flags=-", 3), ("in_progress", A, 0)],
        ]
    ):
        asked.append(sum(r.issued - r.retries for r in stats.receive(flush(at, *series), now=at)))

    assert [0.0, 4.0, 0.0, 1.0] == asked


def test_an_answer_that_envoy_cut_is_unanswered() -> None:
    """The log of attempts shows such a stream as one that a client left."""
    (report,) = stream().receive(
        flush(
            1.0,
            ("requests", f"{A} code=200 flags=-", 3),
            ("answers", A, 1),
            ("client_requests", f"{A} code=200 flags=UT attempts=1", 1),
            ("client_requests", f"{A} code=504 flags=UT attempts=1", 1),
        ),
        now=0.0,
    )

    assert {FailureClass.UNANSWERED: 1.0} == report.failures
    assert (1.0, 1.0, 1.0) == (report.succeeded, report.failed, report.abandoned)


@pytest.mark.parametrize("instance", ["", "-"])
def test_a_request_for_which_there_was_no_instance_is_demand(instance: str) -> None:
    """No attempt of it is logged; what failed on another attempt is counted there."""
    reports = stream().receive(
        flush(
            1.0,
            (
                "client_requests",
                f"service=chat instance={instance} code=503 flags=UH attempts=1",
                3,
            ),
            ("client_requests", f"{A} code=503 flags=UH attempts=1", 2),
        ),
        now=0.0,
    )
    unsent = next(each for each in reports if not each.instance)

    assert (3.0, 3.0) == (unsent.issued, unsent.failed)
    assert {FailureClass.REFUSED: 3.0} == unsent.failures
    assert 3.0 == sum(each.issued - each.retries for each in reports)


@pytest.mark.parametrize("attempts", ["", "-", "x", "0", "1", "-3", "\u0663"])
def test_attempts_that_are_no_number_repeat_nothing(attempts: str) -> None:
    """What an Envoy writes there is not trusted."""
    (report,) = stream().receive(
        flush(
            1.0,
            ("requests", f"{A} code=200 flags=-", 3),
            ("client_requests", f"{A} code=200 flags=- attempts={attempts}", 1),
        ),
        now=0.0,
    )

    assert 0.0 == report.retries


def test_requests_count_when_they_begin() -> None:
    """An answer of ten seconds is demand in the first of them, and once."""
    stats = stream()
    stats.receive(flush(0.0, ("in_progress", A, 0)), now=0.0)
    ended = f"{A} code=200 flags=-"
    flushes = [(0, 5), (0, 5), (2, 3), (3, 0)]

    issued = [
        sum(r.issued for r in stats.receive(
            flush(t, ("requests", ended, done), ("in_progress", A, open_)), now=t
        ))
        for t, (done, open_) in enumerate(flushes, start=1)
    ]  # fmt: skip

    assert [5, 0, 0, 0] == issued


def test_what_was_in_progress_before_the_stream_is_not_new() -> None:
    """An Envoy that connects again does not ask for everything once more."""
    (report,) = stream().receive(flush(1.0, ("in_progress", A, 50)), now=0.0)

    assert (0.0, 50.0) == (report.issued, report.in_progress)


def test_a_pair_that_appears_later_began_at_nothing() -> None:
    """Series are made with their first request."""
    stats = stream()
    stats.receive([], now=1.0)  # the first flush of an Envoy that has served no one

    reports = stats.receive(flush(2.0, ("in_progress", A, 2)), now=2.0)

    assert [("chat", "a", 2.0)] == [
        (r.service, r.instance, r.issued) for r in reports if r.instance
    ]


def test_silence_of_the_clients_is_reported_once_a_service() -> None:
    """Zeros of a hundred instances are one report, so that demand falls and nothing else."""
    stats = stream()
    zeros = [
        (name, f"service={service} instance=i{i}", 0)
        for service in ("chat", "paint")
        for i in range(100)
        for name in ("answers", "in_progress")
    ]

    reports = stats.receive(flush(1.0, *zeros), now=1.0)

    assert [("chat", "", 0.0), ("paint", "", 0.0)] == [
        (r.service, r.instance, r.issued) for r in reports
    ]


def test_the_last_request_that_ends_is_still_reported() -> None:
    """In progress goes to zero in a report, not by silence."""
    stats = stream()
    stats.receive(flush(1.0, ("in_progress", A, 1)), now=1.0)

    (report,) = stats.receive(flush(2.0, ("in_progress", A, 0)), now=2.0)

    assert ("a", 0.0, 0.0) == (report.instance, report.issued, report.in_progress)


def test_an_attempt_without_an_instance_is_demand() -> None:
    """When nothing was healthy the requests still count for the service."""
    (report,) = stream().receive(
        flush(1.0, ("requests", "service=chat instance=- code=0 flags=UH", 2)), now=0.0
    )

    assert ("", 2.0, 2.0) == (report.instance, report.issued, report.failed)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param([10.0], [1.0], id="the first is as long as configured"),
        pytest.param([10.0, 12.0], [1.0, 2.0], id="the others as the Envoy's clock says"),
        pytest.param([10.0, 10.0], [1.0, 1.0], id="a flush in two messages"),
        pytest.param([10.0, 9.0], [1.0, 1.0], id="a clock that was set back"),
        pytest.param([10.0, 500.0], [1.0, 1.0], id="a pause of the stream"),
        pytest.param([10.0, 10.1], [1.0, 0.1], id="the last flush of an Envoy that ends"),
    ],
)
def test_the_interval_is_the_envoys_own(times: list[float], expected: list[float]) -> None:
    """Delays of the network between Envoy and control plane change no rate."""
    stats = stream()

    intervals = [
        stats.receive(flush(at, ("requests", f"{A} code=200 flags=-", 1)), now=0.0)[0].interval
        for at in times
    ]

    assert pytest.approx(expected) == intervals


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        pytest.param([1000.0, 1001.0, 1002.0], [0.0, 0.0, 0.0], id="in time, by another clock"),
        pytest.param([1000.0, 1010.0, 1010.1], [0.0, 9.0, 8.1], id="held back by a link"),
    ],
)
def test_a_report_says_how_late_it_came(arrivals: list[float], expected: list[float]) -> None:
    """What stood in the way is not read from the interval, which is the Envoy's own."""
    envoy = stream()
    found = [
        report.late
        for flushed_at, now in enumerate(arrivals, 1)
        for report in envoy.receive(
            flush(flushed_at, ("requests", f"{A} code=200 flags=-", 1)), now=now
        )
    ]
    assert expected == pytest.approx(found, abs=0.05)


def test_a_clock_that_was_set_back_makes_reports_late_for_a_while_only() -> None:
    """By five seconds; after ten minutes all are in time."""
    envoy = stream()
    late = []
    for second in range(1, 700):
        clock = second - 5.0 * (second > 10)
        series = flush(clock, ("requests", f"{A} code=200 flags=-", 1))
        (report,) = envoy.receive(series, now=second)
        late.append(report.late)
    assert late[10] > 4.0
    assert late[-1] == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_cannot_be_counted_is_refused(value: float) -> None:
    """One impossible number drops its message."""
    with pytest.raises(ReportError):
        stream().receive(flush(1.0, ("answers", A, value)), now=0.0)


def test_a_gauge_that_wrapped_stands_for_nothing() -> None:
    """A gauge subtracted from once too often is near 2**64, which is no load."""
    (report,) = stream().receive(flush(1.0, ("in_progress", A, 2.0**64 - 1)), now=0.0)

    assert ("", 0.0) == (report.instance, report.in_progress)


def test_an_envoy_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are bounded in length and number."""
    monkeypatch.setattr(envoy_stats, "MAX_PAIRS", 3)
    many = [("answers", f"service=s{i} instance=i", 1.0) for i in range(4)]

    with pytest.raises(ReportError, match="more than 3 pairs"):
        stream().receive(flush(1.0, *many), now=0.0)
    with pytest.raises(ReportError, match="more than 128 characters"):
        stream().receive(flush(1.0, ("answers", f"service={'x' * 129}", 1.0)), now=0.0)


def test_other_statistics_are_passed_by() -> None:
    """What the Envoy says of its own memory is no traffic."""
    family = metrics_pb2.MetricFamily(
        name="server.live",
        type=metrics_pb2.GAUGE,
        metric=[metrics_pb2.Metric(gauge=metrics_pb2.Value(value=1.0))],
    )

    assert [] == stream().receive([family], now=0.0)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=2),
        min_size=1,
        max_size=8,
    )
)
def test_no_request_is_lost_or_counted_twice(flushes: list[list[tuple[int, int]]]) -> None:
    """What was issued is what ended and what is still in progress, whatever the flushes."""
    stats = stream()
    stats.receive(
        flush(0.0, *(("in_progress", f"service=s instance={i}", 0) for i in range(2))), now=0.0
    )
    began = dict.fromkeys(range(2), 0)
    ended = dict.fromkeys(range(2), 0)
    issued = 0.0
    for at, pairs in enumerate(flushes, start=1):
        series: list[Series] = []
        for i, (starts, ends) in enumerate(pairs):
            began[i] += starts
            done = min(ends, began[i] - ended[i])
            ended[i] += done
            name = f"service=s instance={i}"
            series.append(("requests", f"{name} code=200 flags=-", done))
            series.append(("in_progress", name, began[i] - ended[i]))
        issued += sum(r.issued for r in stats.receive(flush(at, *series), now=at))

    assert sum(began.values()) == issued
