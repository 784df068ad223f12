"""A report file is read into the model's values, or refused fault by fault."""

from __future__ import annotations

import pytest

from controlplane.errors import ConfigError
from controlplane.model import (
    InstanceReport,
    PathReport,
    Report,
    Signal,
    SiteReport,
    Source,
    TrafficReport,
)
from controlplane.telemetry.report_file import parse_reports


def parse(*lines: str) -> list[Report]:
    """Read a file with these reports."""
    text = "version: 1\nreports:\n" + "".join(f"  - {line}\n" for line in lines)
    return parse_reports(text, file="r.yaml")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            "{instance: a, at: 2s, signals: {running: 3, kv_use: 0.5}}",
            InstanceReport("a", Source.AGENT, 2.0, {Signal.RUNNING: 3.0, Signal.KV_USE: 0.5}),
            id="instance",
        ),
        pytest.param(
            "{instance: a, ready: false}",
            InstanceReport("a", Source.AGENT, 0.0, {}, ready=False),
            id="not ready",
        ),
        pytest.param(
            "{from: n, to: c, rtt: 5ms, bandwidth: 80Mbps}",
            PathReport("n", "c", Source.AGENT, 0.0, 0.005, 1e7),
            id="path",
        ),
        pytest.param(
            "{site: c, power: 4kW, battery: 80%}",
            SiteReport("c", Source.AGENT, 0.0, 4000.0, 0.8),
            id="site",
        ),
        pytest.param(
            "{from: n, service: chat, instance: a, rate: 8, latency: 500ms, failures: 25%}",
            TrafficReport(
                "report file", "n", "chat", "a", 0.0, 1.0, 8.0, 6.0, 2.0,
                latency_sum=4.0, latency_count=8.0,
            ),
            id="traffic",
        ),
    ],
)  # fmt: skip
def test_each_kind_of_line_is_read(line: str, expected: Report) -> None:
    """Units are those of the configuration."""
    assert [expected] == parse(line)


def test_reports_come_in_the_order_of_time() -> None:
    """Whatever order they are written in."""
    reports = parse("{site: late, at: 3s, power: 1W}", "{site: early, at: 1s, power: 1W}")

    assert [1.0, 3.0] == [report.at for report in reports]


def test_every_fault_is_reported_at_its_place() -> None:
    """One run shows all that has to be fixed."""
    with pytest.raises(ConfigError) as caught:
        parse(
            "{instance: a, signals: {runing: 3}}",
            "{from: n, to: c, rtt: 5}",
            "{hello: 1}",
            "{from: n, service: chat}",
            "{site: c, colour: red}",
        )

    assert [
        (3, "reports[0].signals.runing"),
        (4, "reports[1].rtt"),
        (5, "reports[2]"),
        (6, "reports[3].rate"),
        (7, "reports[4].colour"),
    ] == [(fault.line, fault.path) for fault in caught.value.faults]
