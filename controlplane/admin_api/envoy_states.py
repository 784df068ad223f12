"""How far the Envoys of each site are behind what is served to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.grpc_services.envoys import EnvoyRecord
from controlplane.xds.snapshot import view_key
from controlplane.xds.types import ENDPOINT

LAG = 2.0
"""Seconds that an Envoy may take to acknowledge before it is shown as lagging."""


@dataclass(frozen=True, slots=True)
class EnvoyState:
    """The Envoys of one site against what is served to it."""

    connected: int = 0
    lagging: int = 0
    """Those that have not acknowledged the endpoints being served, `LAG` after they could."""
    refusing: int = 0


def count_envoys(
    envoys: Iterable[EnvoyRecord], versions: Mapping[str, str], *, now: float
) -> dict[str, EnvoyState]:
    """Count Envoys by site; *versions* is view -> version of the endpoints being served."""
    connected: Counter[str] = Counter()
    lagging: Counter[str] = Counter()
    refusing: Counter[str] = Counter()
    for envoy in envoys:
        if not envoy.connected:
            continue
        connected[envoy.site] += 1
        version = versions.get(view_key(envoy.site, envoy.role, envoy.variant))
        lagging[envoy.site] += _lags(envoy, version, now=now)
        refusing[envoy.site] += any(item.refused for item in list(envoy.types.values()))
    return {
        site: EnvoyState(count, lagging[site], refusing[site]) for site, count in connected.items()
    }


def _lags(envoy: EnvoyRecord, version: str | None, *, now: float) -> bool:
    record = envoy.types.get(ENDPOINT)
    if version is None or (record is not None and record.acked == version):
        return False
    touched = envoy.connected_at if record is None else record.sent_at
    return touched is None or now - touched > LAG
