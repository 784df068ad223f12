"""Reports reach another replica as old as they were, and what is broken is dropped."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.bus.codec import decode_message, encode_message
from controlplane.errors import ReportError
from controlplane.model import (
    FailureClass,
    InstanceReport,
    PathReport,
    Report,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
    TrafficReport,
)

REPORTS: list[Report] = [
    InstanceReport(
        "a",
        Source.SCRAPE,
        98.5,
        {Signal.RUNNING: 3.0, Signal.COMPLETED: 12345.0},
        ready=False,
        missing=(Signal.WAITING,),
        refused=("x is NaN",),
        aliases=("old",),
        not_ready_reason="loading",
    ),
    ScrapeFailure("a", 99.0, "timeout"),
    PathReport("n", "s", Source.AGENT, 99.5, rtt=0.01),
    SiteReport("n", Source.AGENT, 100.0, power=300.0),
    TrafficReport("e", "n", "chat", "a", 100.0, 1.0, 7.0, succeeded=6.0, latency_sum=1.25),
    TrafficReport(
        "e",
        "n",
        "chat",
        "a",
        100.0,
        1.0,
        7.0,
        succeeded=4.0,
        failed=1.0,
        retries=1.0,
        failures={FailureClass.LATE: 1.0, FailureClass.CLIENT_ERROR: 2.0},
    ),
]


def test_reports_come_as_they_went() -> None:
    """On a clock with another zero: 400 later than the sender's."""
    message = decode_message(encode_message("r1", {"n": 3}, REPORTS, now=100.0), now=500.0)

    assert ("r1", {"n": 3}, 0) == (message.sender, message.clients, message.refused)
    assert [replace(report, at=report.at + 400.0) for report in REPORTS] == list(message.reports)


def test_a_report_of_the_future_is_new() -> None:
    """A source whose clock was translated a little wrong."""
    message = decode_message(
        encode_message("r", {}, [ScrapeFailure("a", 101.0, "x")], now=100.0), now=0.0
    )

    assert 0.0 == message.reports[0].at


@pytest.mark.parametrize(
    ("row", "taken"),
    [
        pytest.param(["f", 1.0, "a", "x", "of a newer version"], True, id="longer"),
        pytest.param(["p", 1.0, "n", "s", "agent"], True, id="shorter"),
        pytest.param(["f", 1.0, "a"], False, id="too short"),
        pytest.param(["?", 1.0, "a", "x"], False, id="unknown kind"),
        pytest.param(["f", -1.0, "a", "x"], False, id="negative age"),
        pytest.param(["f", "old", "a", "x"], False, id="age that is no number"),
        pytest.param(["f", 1.0, ["a"], "x"], False, id="name that is no text"),
        pytest.param(["i", 1.0, "a", "scrape", {"nonsense": 1}], False, id="unknown signal"),
        pytest.param(["i", 1.0, "a", "scrape", {"running": "NaN"}], False, id="no number"),
        pytest.param(["s", 1.0, "n", "agent", 1e999], False, id="infinite"),
        pytest.param("f", False, id="no list"),
    ],
)
def test_rows_of_other_versions_and_broken_ones(row: object, taken: bool) -> None:
    """One that cannot be read costs itself alone."""
    good = ["f", 0.0, "a", "timeout"]
    document = {"from": "r", "clients": {}, "reports": [row, good]}
    message = decode_message(json.dumps(document).encode(), now=0.0)

    assert 1 + taken == len(message.reports)
    assert 1 - taken == message.refused


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=5)
                | st.dictionaries(
                    st.sampled_from(["from", "clients", "reports", "a"]), inner, max_size=4
                )
            ),
            max_leaves=20,
        ).map(lambda tree: json.dumps(tree).encode()),
    )
)
def test_no_message_raises_anything_else(content: bytes) -> None:
    """Anyone who reaches the subject can send anything."""
    with contextlib.suppress(ReportError):
        decode_message(content, now=0.0)
