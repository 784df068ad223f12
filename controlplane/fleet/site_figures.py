"""What a view says of whole sites: power, charge, prices, clients, and the devices of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controlplane.config import Site, SiteKind
from controlplane.fleet.view import BatteryView, InstanceView, TariffView
from controlplane.model import Reading, Signal, SiteReport, TariffReport


def with_copies(shown: InstanceView, count: int, known: BatteryView | None) -> InstanceView:
    """Return *shown* as what stands for *count* devices, of whose batteries *known* is known."""
    if known is None:
        return shown if count <= 1 else replace(shown, copies=count)
    count = max(count, known.reporting, 1)
    low = min(len(known.low), count)
    rest = count - low
    return replace(
        shown,
        copies=max(rest, 1),
        low_battery=low / count,
        on_battery=min(1.0, max(0, known.on_battery - low) / rest) if rest else 1.0,
    )


def site_charge(
    batteries: Mapping[str, BatteryView],
    reports: Mapping[str, SiteReport],
    *,
    now: float,
    expiry: float,
) -> dict[str, Reading]:
    """Return the charge of the sites that run on battery: as last said, of devices the mean."""
    found: dict[str, Reading] = {}
    for site, report in reports.items():
        known = batteries.get(site)
        charge = report.battery if known is None else known.charge
        if charge is not None and now - report.at <= expiry:
            found[site] = Reading(charge, report.source, report.at)
    return found


def client_shares(sites: Sequence[Site], clients: Mapping[str, int] | None) -> dict[str, float]:
    """Return each site's part of requests of unknown origin: by connected Envoys, else evenly."""
    if clients:
        total = sum(clients.values())
        return {site: count / total for site, count in sorted(clients.items())}
    places = [site.name for site in sites if site.kind is not SiteKind.DEVICE]
    places = places or [site.name for site in sites]
    return {site: 1 / len(places) for site in places}


def site_power(
    instances: Mapping[str, InstanceView],
    reports: Mapping[str, SiteReport],
    *,
    now: float,
    expiry: float,
) -> dict[str, Reading]:
    """Return each site's draw: as its agent says, else what its instances add up to."""
    power: dict[str, Reading] = {}
    for view in instances.values():
        reading = view.readings.get(Signal.POWER)
        if reading is None or (reading.age(now) or 0.0) > expiry:
            continue
        site = view.instance.site
        former = power.get(site)
        if former is None:
            power[site] = reading
        else:
            # A sum is as old as its oldest part.
            oldest = min(former.at or now, reading.at or now)
            power[site] = Reading(former.value + reading.value, reading.source, oldest)
    for site, report in reports.items():
        if report.power is not None and now - report.at <= expiry:
            power[site] = Reading(report.power, report.source, report.at)
    return power


def tariff_view(report: TariffReport) -> TariffView:
    """Return what a feed reported, each with its source and age."""
    readings = (
        None if value is None else Reading(value, report.source, report.at)
        for value in (report.price, report.carbon)
    )
    return TariffView(*readings)
