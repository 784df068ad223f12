"""What cannot be: values, instants and jumps that no instance, Envoy or path can have.

Wide bounds on purpose: they catch broken units, sentinels and overflows, not odd days.
Whether a possible claim is true is judged in `controlplane.fleet.trust`.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.errors import ReportError
from controlplane.model import (
    InstanceReport,
    PathReport,
    Signal,
    SiteReport,
    TariffReport,
    TrafficReport,
)
from controlplane.telemetry.limits import (
    LIMITS,
    MAX_BANDWIDTH,
    MAX_CARBON,
    MAX_ENERGY_PRICE,
    MAX_GAUGE,
    MAX_POWER,
    MAX_RTT,
    SHARES,
)

FUTURE_SLACK = 2.0
"""Seconds that a report may be ahead of now: the scheduling of two loops, nothing more."""
MAX_REQUESTS = 1e7
"""Requests a second that one Envoy may see of one instance."""

_MAX_GROWTH = {
    Signal.COMPLETED: 1e6,
    Signal.FAILED: 1e6,
    Signal.LATENCY_COUNT: 1e6,
    Signal.TTFT_COUNT: 1e6,
    Signal.QUEUE_COUNT: 1e6,
    Signal.LATENCY_SUM: 1e8,
    Signal.TTFT_SUM: 1e8,
    Signal.QUEUE_SUM: 1e8,
    Signal.PROMPT_TOKENS: 1e10,
    Signal.OUTPUT_TOKENS: 1e9,
    Signal.PREFIX_QUERIES: 1e10,
    Signal.PREFIX_HITS: 1e10,
}
"""Counter -> most it can gain in a second; the fastest engines stay a hundred times below."""


_LATE = 1e-3
"""Fraction of the fastest growth that a counter may have had before it was first seen."""


def require_instant(at: float, *, now: float, oldest: float) -> None:
    """Refuse a report from the future, or from more than *oldest* seconds ago.

    Raises:
        ReportError: with the seconds it is off.
    """
    if not at <= now + FUTURE_SLACK:
        raise ReportError(f"measured {at - now:.1f} s in the future")
    if not at >= now - oldest:
        raise ReportError(f"measured {now - at:.0f} s ago; at most {oldest:.0f} s count")


def require_instance(report: InstanceReport) -> None:
    """Refuse values that no instance can have.

    Raises:
        ReportError: naming the signal.
    """
    for signal, value in report.signals.items():
        # Checked in place: this line runs for every signal of every report.
        if not 0 <= value <= LIMITS[signal]:
            _require(signal.value, value, 1.0 if signal in SHARES else LIMITS[signal])


def require_growth(growth: Mapping[Signal, float], *, elapsed: float) -> None:
    """Refuse counters that grew faster than anything can.

    Raises:
        ReportError: naming the counter.
    """
    seconds = max(elapsed, 1.0)
    for signal, gain in growth.items():
        if gain > _MAX_GROWTH[signal] * seconds:
            raise ReportError(
                f"{signal.value} grew by {gain:g} in {elapsed:.1f} s; nothing is that fast"
            )


def late_growth(values: Mapping[Signal, float], *, elapsed: float) -> dict[Signal, float]:
    """Return those counters of *values* that can have counted from zero within *elapsed* seconds.

    A counter that appears may be of an engine's first request, or an old one that the page had
    left out so far.
    """
    seconds = max(elapsed, 1.0)
    return {
        signal: value
        for signal, value in values.items()
        if value <= _LATE * _MAX_GROWTH[signal] * seconds
    }


def require_traffic(report: TrafficReport) -> None:
    """Refuse what no Envoy can have seen.

    Raises:
        ReportError: naming the quantity.
    """
    if not 0 < report.interval <= 3600:
        raise ReportError(f"interval is {report.interval:g} s; it lies between 0 and 3600")
    most = MAX_REQUESTS * max(report.interval, 1.0)
    _require("issued", report.issued, most)
    _require("succeeded", report.succeeded, most)
    _require("failed", report.failed, most)
    _require("retries", report.retries, most)
    _require("abandoned", report.abandoned, most)
    for kind, count in report.failures.items():
        _require(kind.value, count, most)
    _require("in_progress", report.in_progress, MAX_REQUESTS)
    _require("latency_sum", report.latency_sum, MAX_GAUGE)
    _require("latency_count", report.latency_count, most)
    _require("ttft_sum", report.ttft_sum, MAX_GAUGE)


def require_path(report: PathReport) -> None:
    """Refuse what no path can have.

    Raises:
        ReportError: naming the quantity.
    """
    if report.rtt is None and report.bandwidth is None:
        raise ReportError("a path report with neither rtt nor bandwidth")
    _require("rtt", report.rtt, MAX_RTT)
    _require("bandwidth", report.bandwidth, MAX_BANDWIDTH)
    if report.bandwidth == 0:
        raise ReportError("bandwidth is 0; leave it out when it was not measured")


def require_site(report: SiteReport) -> None:
    """Refuse what no site can have.

    Raises:
        ReportError: naming the quantity.
    """
    _require("power", report.power, MAX_POWER)
    _require("battery", report.battery, 1.0)


def require_tariff(report: TariffReport) -> None:
    """Refuse what no energy costs.

    Raises:
        ReportError: naming the quantity.
    """
    if report.price is None and report.carbon is None:
        raise ReportError("a tariff with neither price nor carbon")
    _require("price", report.price, MAX_ENERGY_PRICE)
    _require("carbon", report.carbon, MAX_CARBON)


def _require(what: str, value: float | None, limit: float) -> None:
    # NaN fails every comparison, so it lands here too.
    if value is not None and not 0 <= value <= limit:
        raise ReportError(f"{what} is {value:g}; it lies between 0 and {limit:g}")
