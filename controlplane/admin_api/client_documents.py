"""Envoys and agents as documents of the API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from controlplane.resources.generations import UNSUPPORTED
from controlplane.resources.names import ROLE_GRPC
from controlplane.xds.types import short_type

if TYPE_CHECKING:
    from controlplane.grpc_services.agent_registry import AgentRecord
    from controlplane.grpc_services.envoys import EnvoyRecord
from typing import TYPE_CHECKING

from controlplane.admin_api.values import Document, instant, seconds
from controlplane.grpc_services.envoys import EnvoyRecord
from controlplane.xds.snapshot import Snapshot
from controlplane.xds.types import ENDPOINT

GONE_SHOWN = 50
"""Clients listed of those that left; more are only counted."""


def encode_envoys(envoys: Iterable[EnvoyRecord], *, now: float, epoch: float) -> Document:
    """Return ``/api/v1/envoys``: the connected ones by id, and who left, the last one first."""
    known = list(envoys)
    connected = sorted((item for item in known if item.connected), key=lambda item: item.id)
    gone = [(item.gone_at, item) for item in known if item.gone_at is not None]
    gone.sort(key=lambda pair: (-pair[0], pair[1].id))
    return {
        "at": now + epoch,
        "envoys": [encode_envoy(item, epoch=epoch) for item in connected],
        "gone": [
            {
                "id": item.id,
                "site": item.site,
                "role": _kind(item),
                "gone_at": instant(gone_at, epoch),
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


def encode_envoy(item: EnvoyRecord, *, epoch: float) -> Document:
    """Return one Envoy: who it is, and the state of each of its resource types."""
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
                "sent_at": instant(record.sent_at, epoch),
                "acknowledged": record.acked or None,
                "acknowledged_at": instant(record.acked_at, epoch),
                "time_to_acknowledge": seconds(record.ack_latency),
                "refused": record.refused or None,
                "refused_at": instant(record.refused_at, epoch),
                "refusal": record.refusal or None,
                "pushes": record.pushes,
                "refusals": record.nacks,
            }
            for type_url, record in list(item.types.items())
        },
    }


def encode_acknowledgement(envoy: EnvoyRecord, snapshot: Snapshot | None) -> Document:
    """Return whether an Envoy holds the endpoints of *snapshot*, and why not."""
    record = envoy.types.get(ENDPOINT)
    version = "" if snapshot is None else snapshot.of_type(ENDPOINT).version
    return {
        "id": envoy.id,
        "mode": envoy.mode,
        "acknowledged": record is not None and record.acked == version,
        "refusal": (record.refusal or None) if record else None,
    }
