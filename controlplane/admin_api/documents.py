"""The API's documents: values in, JSON-ready mappings out.

Instants are written as Unix seconds, durations as seconds, rates per second, shares 0 to 1.
What is not known is null. Nothing here opens a socket or reads a clock: *epoch* is the Unix time
of the monotonic clock's zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from controlplane.config import Config, Override
from controlplane.controller.override_requests import describe
from controlplane.fleet.view import FleetView, InstanceView, OutcomeView, PathView, TrafficView
from controlplane.model import Reading
from controlplane.resources.names import ROLE_GRPC
from controlplane.resources.versions import UNSUPPORTED
from controlplane.steering.plan import Failing
from controlplane.telemetry.levels import BEST, METRICS, WINDOW, Levels
from controlplane.xds.types import short_type

if TYPE_CHECKING:
    from controlplane.controller.configuration import ConfigStatus
    from controlplane.controller.overrides import ActiveOverride
    from controlplane.grpc_services.agent_registry import AgentRecord
    from controlplane.grpc_services.envoys import EnvoyRecord

Document = dict[str, Any]
"""A mapping that JSON can hold."""
GONE_SHOWN = 50
"""Clients listed of those that left; more are only counted."""


def encode_reading(reading: Reading | None, *, now: float) -> Document | None:
    """Return value, source and age of a reading."""
    if reading is None:
        return None
    return {
        "value": reading.value,
        "source": reading.source.value,
        "age": _seconds(reading.age(now)),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


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
        "since": _seconds(max(0.0, now - item.since)),
        "awaited": item.awaited,
    }


def encode_state(item: InstanceView, *, now: float) -> Document:
    """Return in which phase an instance is, since when, and what would end it."""
    return {
        "instance": item.name,
        "phase": item.phase.value,
        "reason": item.reason,
        "since": _seconds(max(0.0, now - item.changed_at)),
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
        "age": _seconds(max(0.0, now - seen.at)),
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
        "since": _seconds(max(0.0, now - item.changed_at)),
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


def encode_envoys(envoys: Iterable[EnvoyRecord], *, now: float, epoch: float) -> Document:
    """Return ``/api/v1/envoys``: the connected ones by id, and who left, the last one first."""
    known = list(envoys)
    connected = sorted((item for item in known if item.connected), key=lambda item: item.id)
    gone = [(item.gone_at, item) for item in known if item.gone_at is not None]
    gone.sort(key=lambda pair: (-pair[0], pair[1].id))
    return {
        "at": now + epoch,
        "envoys": [_encode_envoy(item, epoch=epoch) for item in connected],
        "gone": [
            {
                "id": item.id,
                "site": item.site,
                "role": _kind(item),
                "gone_at": _instant(gone_at, epoch),
            }
            for gone_at, item in gone[:GONE_SHOWN]
        ],
        "gone_left_out": max(0, len(gone) - GONE_SHOWN),
    }


def encode_agents(agents: Iterable[AgentRecord], *, now: float, epoch: float) -> Document:
    """Return ``/api/v1/agents``: the connected ones by id."""
    return {
        "at": now + epoch,
        "agents": [
            {
                "id": item.id,
                "site": item.site,
                "version": item.version,
                "peer": item.peer,
                "connected_at": item.connected_at + epoch,
                "last_report_at": item.last_at + epoch,
                "batches": item.batches,
                "reports_accepted": item.accepted,
                "reports_rejected": item.refused,
                "batches_lost": item.lost,
                "unknown_signals": item.unknown_signals,
                "last_rejection": item.last_refusal,
                "clock_offset": round(item.clock_offset, 3),
            }
            for item in sorted(agents, key=lambda item: item.id)
        ],
    }


def _kind(item: EnvoyRecord) -> str:
    return ROLE_GRPC if item.role == ROLE_GRPC else "envoy"


def _encode_envoy(item: EnvoyRecord, *, epoch: float) -> Document:
    return {
        "id": item.id,
        "site": item.site,
        "known_site": item.known_site,
        "mode": item.mode,
        "agent": item.agent,
        "role": _kind(item),
        "supported": item.role != UNSUPPORTED.role,
        "connected_at": item.connected_at + epoch,
        "types": {
            short_type(type_url): {
                "sent": record.sent,
                "sent_at": _instant(record.sent_at, epoch),
                "acknowledged": record.acked or None,
                "acknowledged_at": _instant(record.acked_at, epoch),
                "time_to_acknowledge": _seconds(record.ack_latency),
                "refused": record.refused or None,
                "refused_at": _instant(record.refused_at, epoch),
                "refusal": record.refusal or None,
                "pushes": record.pushes,
                "refusals": record.nacks,
            }
            for type_url, record in list(item.types.items())
        },
    }


def _instant(at: float | None, epoch: float) -> float | None:
    return None if at is None else round(at + epoch, 6)


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
