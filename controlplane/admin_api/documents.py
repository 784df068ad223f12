"""The API's documents: values in, JSON-ready mappings out.

Instants are written as Unix seconds, durations as seconds, rates per second, shares 0 to 1.
What is not known is null. Nothing here opens a socket or reads a clock: *epoch* is the Unix time
of the monotonic clock's zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from controlplane.config import Config, Override
from controlplane.controller.override_requests import describe
from controlplane.fleet.path_view import PathView
from controlplane.fleet.traffic_view import OutcomeView, TrafficView
from controlplane.fleet.view import FleetView, InstanceView
from controlplane.model import Reading
from controlplane.steering.plan import Failing
from controlplane.telemetry.levels import BEST, METRICS, WINDOW, Levels

if TYPE_CHECKING:
    from controlplane.controller.config_changes import ConfigStatus
    from controlplane.controller.overrides import ActiveOverride
from controlplane.admin_api.values import Document, seconds


def encode_reading(reading: Reading | None, *, now: float) -> Document | None:
    """Return value, source and age of a reading."""
    if reading is None:
        return None
    return {
        "value": reading.value,
        "source": reading.source.value,
        "age": seconds(reading.age(now)),
    }


def encode_fleet(
    view: FleetView,
    *,
    epoch: float,
    levels: Mapping[str, Levels] | None = None,
    failing: Iterable[Failing] = (),
) -> Document:
    """Return ``/api/v1/fleet`` but for the configuration's status; long, as it is one literal."""
    graded = levels or {}
    config = view.config
    hosts = {instance.instance.site for instance in view.instances.values()}
    return {
        "at": view.at + epoch,
        "frozen": view.frozen,
        "levels": _LEVELS,
        "sites": [
            {
                "name": site.name,
                "kind": site.kind.value,
                "region": site.region,
                "zone": site.zone,
                "envoys": view.clients.get(site.name, 0),
                "power": encode_reading(view.power.get(site.name), now=view.at),
                "power_budget": site.power.budget,
            }
            for site in config.sites
        ],
        "models": [
            {"name": model.name, "kind": model.kind.value, "base": model.base}
            for model in config.models
        ],
        "services": [
            {
                "name": service.name,
                "task": service.task.value,
                "delay": service.delay.value,
                "models": [model.name for model in service.models],
            }
            for service in config.services
        ],
        "instances": [
            {**encode_instance(item, now=view.at), "levels": encode_levels(graded.get(item.name))}
            for item in view.instances.values()
        ],
        "paths": [
            _encode_path(source, target, path, now=view.at)
            for (source, target), path in view.paths.items()
            if target in hosts
        ],
        "demand": [
            {"site": site, "service": service, "rate": encode_reading(rate, now=view.at)}
            for (site, service), rate in view.demand.items()
        ],
        "traffic": [
            encode_traffic(site, service, instance, seen, now=view.at)
            for (site, service, instance), seen in view.traffic.items()
        ],
        "outcomes": [
            encode_outcomes(instance, service, seen, now=view.at)
            for (instance, service), seen in view.outcomes.items()
        ],
        "failing": [encode_failing(item, now=view.at) for item in failing],
    }


def encode_failing(item: Failing, *, now: float) -> Document:
    """Return what an instance fails of a service that others answer."""
    return {
        "instance": item.instance,
        "service": item.service,
        "probability": item.probability,
        "class": item.kind.value,
        "since": seconds(max(0.0, now - item.since)),
        "awaited": item.awaited,
    }


def encode_state(item: InstanceView, *, now: float) -> Document:
    """Return in which phase an instance is, since when, and what would end it."""
    return {
        "instance": item.name,
        "phase": item.phase.value,
        "reason": item.reason,
        "since": seconds(max(0.0, now - item.changed_at)),
        "awaited": item.awaited,
        "disbelieved": [signal.value for signal in item.disbelieved],
    }


def encode_outcomes(instance: str, service: str, seen: OutcomeView, *, now: float) -> Document:
    """Return how attempts of one service at one instance ended."""
    return {
        "instance": instance,
        "service": service,
        "rate": seen.rate,
        "in_progress": seen.in_progress,
        "hung": seen.hung,
        "age": seconds(max(0.0, now - seen.at)),
        "recent": {name: round(count, 3) for name, count in asdict(seen.recent).items()},
        "total": asdict(seen.total),
    }


_LEVELS: Document = {
    "window": WINDOW,
    "best": BEST,
    "bounds": {
        metric.name: {
            "category": metric.category.value,
            "unit": metric.unit,
            "worst": metric.worst,
            "best": metric.best,
        }
        for metric in METRICS
    },
}


def encode_levels(levels: Levels | None) -> Document | None:
    """Return metric levels L0 to L2; None if there are none."""
    if levels is None:
        return None
    return {
        "l0": dict(levels.l0),
        "l1": {category.value: score for category, score in levels.l1.items()},
        "l2": levels.l2,
        "advice": levels.advice.value if levels.advice is not None else None,
    }


def encode_instance(item: InstanceView, *, now: float) -> Document:
    """Return what is believed of one instance."""
    return {
        "name": item.name,
        "site": item.instance.site,
        "address": item.instance.address,
        "model": item.instance.model,
        "models": list(item.instance.model_names),
        "engine": str(item.instance.engine),
        "phase": item.phase.value,
        "reason": item.reason,
        "since": seconds(max(0.0, now - item.changed_at)),
        "awaited": item.awaited,
        "confidence": item.confidence,
        "ramp": item.ramp,
        "trust": item.trust,
        "latency": item.latency(),
        "missing": [signal.value for signal in item.missing],
        "disbelieved": [signal.value for signal in item.disbelieved],
        "signals": {
            signal.value: encode_reading(reading, now=now)
            for signal, reading in item.readings.items()
        },
        "rates": {
            signal.value: encode_reading(reading, now=now) for signal, reading in item.rates.items()
        },
    }


def _encode_path(source: str, target: str, path: PathView, *, now: float) -> Document:
    return {
        "from": source,
        "to": target,
        "rtt": encode_reading(path.rtt, now=now),
        "bandwidth": encode_reading(path.bandwidth, now=now),
    }


def encode_traffic(
    site: str, service: str, instance: str, seen: TrafficView, *, now: float
) -> Document:
    """Return what Envoys of one client site see of one service at one instance."""
    return {
        "from": site,
        "service": service,
        "instance": instance,
        "rate": encode_reading(seen.rate, now=now),
        "failures": seen.failures,
        "latency": encode_reading(seen.latency, now=now),
        "ttft": encode_reading(seen.ttft, now=now),
        "in_progress": seen.in_progress,
    }


def encode_config(config: Config, status: ConfigStatus, *, epoch: float) -> Document:
    """Return ``/api/v1/config``: what is in force, and why a newer text is not."""
    return {
        "file": status.file,
        "version": status.version,
        "loaded_at": status.loaded_at + epoch,
        "ok": not status.faults,
        "faults": [str(fault) for fault in status.faults],
        "refused_at": None if status.refused_at is None else status.refused_at + epoch,
        "sites": len(config.sites),
        "services": len(config.services),
        "instances": len(config.instances),
        "steering": config.steering.model_dump(mode="json"),
        "overrides": [item.model_dump(mode="json", exclude_none=True) for item in config.overrides],
    }


def encode_overrides(config: Config, active: Iterable[ActiveOverride]) -> list[Document]:
    """Return all overrides: those of the file, then those made while running.

    Args:
        config: with the overrides of the file only.
        active: those made while running.
    """
    return [
        *(
            _override(f"file-{n}", item, by="", since=None, expires=None)
            for n, item in enumerate(config.overrides)
        ),
        *(
            _override(item.id, item.override, by=item.by, since=item.since, expires=item.expires)
            for item in active
        ),
    ]


def _override(
    name: str, override: Override, *, by: str, since: float | None, expires: float | None
) -> Document:
    return {
        "id": name,
        "what": describe(override),
        "reason": override.reason,
        "by": by,
        "since": since,
        "expires": expires,
        "override": override.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
    }
