"""Batches of agents (``cats.telemetry.v1.ReportBatch``) to reports, each believed on its own.

A faulty report costs itself and is reported in one line; its neighbours count.
Agents' clocks need not be right: only differences of one clock are used, anchored at the instant
the batch arrived here.
Knows no fleet: whether an instance exists, or what it said before, is judged later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.errors import ReportError
from controlplane.model import (
    InstanceReport,
    PathReport,
    Report,
    ScrapeFailure,
    Signal,
    SiteReport,
    Source,
)
from controlplane.telemetry.limits import LIMITS, MAX_BANDWIDTH, MAX_POWER, MAX_RTT, SHARES
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb

MAX_REPORTS = 10_000
"""Instances, paths and sites of one batch together."""
MAX_SIGNALS = 64
MAX_NAME = 63
MAX_TEXT = 200
"""Characters of a failure's reason and of a refusal's line."""
MAX_REFUSED = 100
MAX_AGE = 600.0
"""Seconds between measuring and sending; an agent's buffer holds less."""
FUTURE_SLACK = 0.5
"""Seconds by which a measurement may follow its batch: agents read two clocks."""
_SIGNALS = {
    signal.value: (signal, limit, 1.0 if signal in SHARES else limit)
    for signal, limit in LIMITS.items()
}
"""Name on the wire -> signal, largest value that is taken, largest that is kept."""

_Message = TypeVar("_Message", pb.InstanceReport, pb.PathReport, pb.SiteReport)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch said, as far as it can be read."""

    sequence: int
    reports: tuple[Report, ...]
    """Signals of instances are as sent, NaN included: the fleet judges them and their source."""
    refused: tuple[str, ...]
    """One line for each report that was dropped, at most `MAX_REFUSED`."""
    refused_count: int
    unknown_signals: int
    """Signals under names that this version does not know; dropped alone."""


def parse_batch(
    batch: pb.ReportBatch,
    *,
    received_at: float,
    site: str = "",
    agent: str = "",
    most: int | None = None,
) -> Batch:
    """Turn *batch* into reports on the control plane's clock.

    Args:
        batch: as received.
        received_at: when, on the control plane's clock; a measurement made s seconds before the
            batch was sent is taken to be s seconds older than this.
        site: site of the agent, where the batch itself does not name it: only the first batch of
            a stream must.
        agent: its id, likewise.
        most: reports that are read of one batch, `MAX_REPORTS` by default.

    Raises:
        ReportError: the batch as a whole is beyond its bounds.
    """
    count = len(batch.instances) + len(batch.paths) + len(batch.sites)
    most = MAX_REPORTS if most is None else most
    if count > most:
        raise ReportError(f"{count} reports in one batch; at most {most} are read")
    site = batch.agent.site or site
    agent = batch.agent.id or agent
    sent = _seconds(batch.sent_at) if batch.HasField("sent_at") else None
    refused: list[str] = []
    unknown: list[str] = []

    def read(
        kind: str, messages: Iterable[_Message], build: Callable[[_Message, float], Report]
    ) -> Iterator[Report]:
        for index, message in enumerate(messages):
            try:
                yield build(message, _measured_at(message, sent, received_at))
            except ReportError as error:
                refused.append(f"{kind}[{index}]: {error}"[:MAX_TEXT])

    reports = (
        *read("instances", batch.instances, lambda one, at: _instance(one, at, agent, unknown)),
        *read("paths", batch.paths, lambda one, at: _path(one, at, site)),
        *read("sites", batch.sites, lambda one, at: _site(one, at, site, agent)),
    )
    return Batch(batch.sequence, reports, tuple(refused[:MAX_REFUSED]), len(refused), len(unknown))


def _seconds(stamp: Timestamp) -> float:
    return stamp.seconds + stamp.nanos * 1e-9


def _measured_at(message: _Message, sent: float | None, received_at: float) -> float:
    # Without both stamps the age cannot be known; agents send what they just measured.
    if sent is None or not message.HasField("measured_at"):
        return received_at
    age = sent - _seconds(message.measured_at)
    if age < -FUTURE_SLACK:
        raise ReportError(f"measured {-age:.1f} s after its batch was sent")
    if age > MAX_AGE:
        raise ReportError(f"measured {age:.0f} s before it was sent; at most {MAX_AGE:.0f}")
    return received_at - max(0.0, age)


def _name(name: str, what: str) -> str:
    if not name:
        raise ReportError(f"{what} is empty")
    if len(name) > MAX_NAME:
        raise ReportError(f"{what} {name[:MAX_NAME]!r}... is longer than {MAX_NAME}")
    return name


def _instance(message: pb.InstanceReport, at: float, agent: str, unknown: list[str]) -> Report:
    name = _name(message.instance, "instance")
    if message.failure:
        return ScrapeFailure(name, at, message.failure[:MAX_TEXT])
    sent = message.signals
    if len(sent) > MAX_SIGNALS:
        raise ReportError(f"{name}: {len(sent)} signals; at most {MAX_SIGNALS}")
    signals: dict[Signal, float] = {}
    # This loop runs for every signal of every report: a look-up costs less than items().
    for key in sent:
        value = sent[key]
        known = _SIGNALS.get(key)
        if known is None:
            unknown.append(key)
            continue
        signal, limit, largest = known
        # What lies beyond its bounds goes on: the fleet rejects it and counts it as a strike.
        signals[signal] = largest if largest < value <= limit else value
    missing = tuple(_SIGNALS[key][0] for key in message.missing[:MAX_SIGNALS] if key in _SIGNALS)
    reason = ""
    if message.not_ready:
        reason = message.not_ready_reason[:MAX_TEXT] or "its agent says that it is not ready"
    return InstanceReport(
        instance=name,
        source=Source.AGENT,
        at=at,
        signals=signals,
        ready=not message.not_ready,
        missing=missing,
        not_ready_reason=reason,
        reporter=agent,
    )


def _bounded(what: str, value: float, limit: float) -> float:
    if not math.isfinite(value) or not 0 <= value <= limit:
        raise ReportError(f"{what} is {value:g}; it lies between 0 and {limit:g}")
    return value


def _path(message: pb.PathReport, at: float, site: str) -> PathReport:
    rtt = None
    if message.HasField("rtt"):
        rtt = _bounded("rtt", message.rtt.seconds + message.rtt.nanos * 1e-9, MAX_RTT)
    bandwidth = _bounded("bandwidth", message.bandwidth, MAX_BANDWIDTH) or None
    if rtt is None and bandwidth is None:
        raise ReportError("a path with neither rtt nor bandwidth")
    return PathReport(
        from_site=_name(message.from_site or site, "from_site (and the agent's site)"),
        to_site=_name(message.to_site, "to_site"),
        source=Source.AGENT,
        at=at,
        rtt=rtt,
        bandwidth=bandwidth,
    )


def _site(message: pb.SiteReport, at: float, site: str, agent: str) -> SiteReport:
    power = _bounded("power", message.power, MAX_POWER) if message.HasField("power") else None
    battery = _bounded("battery", message.battery, 1.0) if message.HasField("battery") else None
    name = _name(site, "the agent's site")
    return SiteReport(name, Source.AGENT, at, power, battery, reporter=agent)
