"""What asks the world outside: instances, names, prices of energy, and webhooks that start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from controlplane.config import Config, Instance
from controlplane.config.resolution import names_of
from controlplane.controller.config_changes import DiscoveryChange
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle_result import CycleResult
from controlplane.controller.waker import Waker
from controlplane.runtime.log import get_logger
from controlplane.sources.names import NameResolver
from controlplane.sources.orca import OrcaReader
from controlplane.sources.scrape import Scraper
from controlplane.sources.tariffs import TariffReader
from controlplane.telemetry.engines.custom import build_dialects


async def resolve_first(config: Config) -> Mapping[str, str]:
    """Return the addresses of the instances' names, as far as they are known soon."""
    resolver = NameResolver(lambda _: None, log=get_logger(), clock=time.monotonic)
    with contextlib.closing(resolver):
        resolver.reconfigure(names_of(config))
        await resolver.resolve()
        return resolver.addresses


def make_resolver(control: ControlPlane) -> NameResolver:
    """Return what looks up the names that the file and discovery have at the time."""
    configuration = control.configuration
    resolver = NameResolver(configuration.receive_addresses, log=control.log, clock=control.clock)
    resolver.reconfigure(names_of(configuration.merged.config))
    configuration.discovery_changed.subscribe(lambda change: _follow_names(resolver, change))
    return resolver


def _follow_names(resolver: NameResolver, change: DiscoveryChange) -> None:
    """Resolve the names that the file or discovery has now, if they are others."""
    names = names_of(change.now.config)
    if names != names_of(change.before.config):
        resolver.reconfigure(names)


def make_tariff_reader(control: ControlPlane) -> TariffReader:
    """Return what reads the prices of energy; on every replica, since they cost one answer each."""
    reader = TariffReader(on_report=control.receive, clock=control.clock, log=control.log)

    def follow(config: Config) -> None:
        names = frozenset(site.name for site in config.sites)
        reader.reconfigure(config.steering.tariffs, sites=names)

    control.configuration.changed.subscribe(lambda change: follow(change.config))
    follow(control.config)
    return reader


def make_waker(control: ControlPlane) -> Waker:
    """Return what starts instances that are asleep, as the plans decided here want it."""
    waker = Waker(
        on_report=control.receive,
        on_outcome=lambda outcome: control.metrics.wake_calls.labels(outcome).inc(),
        clock=control.clock,
        log=control.log,
    )

    def see(result: CycleResult) -> None:
        if result.decision is not None and not result.followed and control.cycle.decides:
            waker.consider(
                result.decision.plan.cold_starts.values(), control.config, at=result.view.at
            )

    control.cycle.completed.subscribe(see)
    return waker


def read_while_deciding(control: ControlPlane, scraper: Scraper, orca: OrcaReader) -> None:
    """Read instances on the replica that decides only; it lets the others hear what it reads."""
    scraped: tuple[Instance, ...] = ()

    def see(_: object = None) -> None:
        nonlocal scraped
        wanted = control.config.instances if control.cycle.decides else ()
        if wanted is not scraped:
            scraped = wanted
            scraper.reconfigure(wanted, dialects=build_dialects(control.config.telemetry.dialects))
            orca.reconfigure(wanted)

    control.configuration.changed.subscribe(see)
    control.cycle.completed.subscribe(see)
    see()
