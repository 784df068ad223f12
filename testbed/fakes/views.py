"""Fleet views made by hand: what steering sees, without a fleet that had to be reported first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.config import Config
from controlplane.fleet.path_view import PathView
from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.model import Reading, Signal, Source


def make_config(**settings: Any) -> Config:
    """Make a configuration: one model `m` and one service `chat` unless *settings* say more."""
    sites = settings.pop("sites", ["near", "far"])
    base: dict[str, Any] = {
        "version": 1,
        "sites": [{"name": s, "kind": "edge", "region": s} if isinstance(s, str) else s
                  for s in sites],
        "models": [{"name": "m"}],
        "services": [make_service("chat")],
    }  # fmt: skip
    return Config(**(base | settings))


def make_service(name: str, **settings: Any) -> dict[str, Any]:
    """Make a service that model `m` serves."""
    base: dict[str, Any] = {
        "name": name,
        "match": [{"path": f"/{name}"}],
        "models": [{"name": "m"}],
    }
    return base | settings


def make_instance(name: str, site: str, **settings: Any) -> dict[str, Any]:
    """Make an instance that runs model `m`."""
    base: dict[str, Any] = {"name": name, "site": site, "address": "10.0.0.1:80", "model": "m"}
    return base | settings


def make_view(
    config: Config,
    *,
    at: float = 0.0,
    demand: Mapping[tuple[str, str], float] | None = None,
    rtt: Mapping[tuple[str, str], float] | None = None,
    instances: Mapping[str, InstanceView] | None = None,
    frozen: bool = False,
    **more: Any,
) -> FleetView:
    """Make a view at *at*; instances that are not given are live and say nothing.

    *demand* is by (client site, service) in requests a second, *rtt* by (client site, site).
    """
    known = {
        instance.name: InstanceView(instance, Phase.LIVE, confidence=1.0, ramp=1.0)
        for instance in sorted(config.instances, key=lambda instance: instance.name)
    }
    return FleetView(
        at=at,
        config=config,
        instances=known | dict(instances or {}),
        paths={
            pair: PathView(Reading(seconds, Source.AGENT, at), None)
            for pair, seconds in (rtt or {}).items()
        },
        demand={pair: Reading(rate, Source.ENVOY, at) for pair, rate in (demand or {}).items()},
        traffic=more.pop("traffic", {}),
        frozen=frozen,
        **more,
    )


def make_reported(
    config: Config,
    name: str,
    *,
    at: float,
    gauges: Mapping[Signal, float],
    rates: Mapping[Signal, float] | None = None,
    **more: Any,
) -> InstanceView:
    """Make the view of an instance that reported *gauges*, and counters growing at *rates*."""
    instance = next(i for i in config.instances if i.name == name)
    fields: dict[str, Any] = {"phase": Phase.LIVE, "confidence": 1.0, "ramp": 1.0}
    return InstanceView(
        instance,
        **(fields | more),
        readings={signal: Reading(value, Source.SCRAPE, at) for signal, value in gauges.items()},
        rates={
            signal: Reading(value, Source.SCRAPE, at) for signal, value in (rates or {}).items()
        },
    )
