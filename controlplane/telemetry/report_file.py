"""Reports as a person writes them, for a dry run: YAML or JSON to reports, faults at their places.

```yaml
version: 1
reports:
  - {instance: north-a, signals: {running: 30, waiting: 4, slots: 32}}
  - {instance: north-a, at: 1s, signals: {running: 32, waiting: 9}}   # a second later
  - {instance: north-b, ready: false}
  - {from: phones, to: edge-north, rtt: 5ms, bandwidth: 100Mbps}
  - {from: phones, service: chat, rate: 12}                           # requests a second
  - {from: phones, service: chat, instance: north-a, rate: 9, latency: 800ms}
  - {site: cloud-1, power: 4kW, battery: 80%}
  - {site: cloud-1, price: 0.31, carbon: 420}        # of a kilowatt-hour: currency, grams of CO2
```

Signals are those of `controlplane.model.Signal`; counters are totals, whose growth between two
instants gives the rates that steering learns from.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.config.document import Document
from controlplane.config.source import parse_source
from controlplane.config.units import Bandwidth, Duration, Power, Share
from controlplane.errors import ConfigError, Fault
from controlplane.model import (
    InstanceReport,
    PathReport,
    Report,
    Signal,
    SiteReport,
    Source,
    TariffReport,
    TrafficReport,
)

MAX_REPORTS = 100_000
INTERVAL = 1.0
"""Seconds that a traffic report covers."""

_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Duration = 0.0


class _InstanceLine(_Line):
    instance: str
    ready: bool = True
    signals: dict[Signal, _Number] = {}


class _PathLine(_Line):
    source: Annotated[str, Field(alias="from")]
    to: str
    rtt: Duration | None = None
    bandwidth: Bandwidth | None = None


class _TrafficLine(_Line):
    source: Annotated[str, Field(alias="from")]
    service: str
    rate: _Rate
    instance: str = ""
    latency: Duration | None = None
    ttft: Duration = 0.0
    failures: Share = 0.0


class _SiteLine(_Line):
    site: str
    power: Power | None = None
    battery: Share | None = None


class _TariffLine(_Line):
    site: str
    price: _Number | None = None
    carbon: _Number | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    reports: Annotated[tuple[dict[str, object], ...], Field(max_length=MAX_REPORTS)]


def parse_reports(text: str, *, file: str) -> list[Report]:
    """Read a report file; instants count from 0, in the order of time.

    Raises:
        ConfigError: with every fault found.
    """
    document = parse_source(text, file=file)
    faults = list(document.faults)
    reports: list[Report] = []
    try:
        whole = _File.model_validate_json(json.dumps(document.tree), strict=True)
    except ValidationError as error:
        raise ConfigError([*faults, *_faults(error, document, ())]) from error
    for number, line in enumerate(whole.reports):
        place = ("reports", number)
        kind = _kind(line)
        if kind is None:
            faults.append(
                document.fault(
                    place,
                    "is not a report; write 'instance' with 'signals', 'from' with 'to', 'from'"
                    " with 'service', or 'site'",
                )
            )
            continue
        try:
            reports.append(_report(kind.model_validate_json(json.dumps(line), strict=True)))
        except ValidationError as error:
            faults += _faults(error, document, place)
    if faults:
        raise ConfigError(faults)
    return sorted(reports, key=lambda report: report.at)


def _kind(line: dict[str, object]) -> type[_Line] | None:
    if "service" in line:
        return _TrafficLine
    if "to" in line:
        return _PathLine
    if "instance" in line:
        return _InstanceLine
    if "price" in line or "carbon" in line:
        return _TariffLine
    return _SiteLine if "site" in line else None


def _report(line: _Line) -> Report:
    match line:
        case _InstanceLine():
            return InstanceReport(
                line.instance, Source.AGENT, line.at, line.signals, ready=line.ready
            )
        case _PathLine():
            return PathReport(line.source, line.to, Source.AGENT, line.at, line.rtt, line.bandwidth)
        case _TrafficLine():
            issued = line.rate * INTERVAL
            answered = issued if line.latency is not None else 0.0
            return TrafficReport(
                envoy="report file",
                site=line.source,
                service=line.service,
                instance=line.instance,
                at=line.at,
                interval=INTERVAL,
                issued=issued,
                succeeded=issued * (1 - line.failures),
                failed=issued * line.failures,
                latency_sum=answered * (line.latency or 0.0),
                latency_count=answered,
                ttft_sum=answered * line.ttft,
            )
        case _SiteLine():
            return SiteReport(line.site, Source.AGENT, line.at, line.power, line.battery)
        case _TariffLine():
            return TariffReport(line.site, Source.FEED, line.at, line.price, line.carbon)
    raise AssertionError(line)


def _faults(
    error: ValidationError, document: Document, place: tuple[str | int, ...]
) -> list[Fault]:
    faults = []
    for details in error.errors(include_url=False):
        path = (*place, *(step for step in details["loc"] if step != "[key]"))
        message = {
            "extra_forbidden": "is not a key here; see cats plan --help",
            "missing": "is missing",
        }.get(details["type"], details["msg"])
        faults.append(document.fault(path, message, at_key=details["type"] == "extra_forbidden"))
    return faults
