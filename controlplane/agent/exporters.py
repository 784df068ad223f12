"""What exporters on the machine say: DCGM's of the GPUs, node exporter of the machine; pure.

Only metrics that mean the same as what the agent would read itself are taken.
DCGM writes numbers near 2^63 for "cannot be read"; those are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from controlplane.agent.settings import ExporterKind
from controlplane.telemetry.engines.series import device_of, fullest, labelled, largest_by
from controlplane.telemetry.exposition import Sample, parse_exposition
from controlplane.telemetry.limits import SENTINEL

_GPU = ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_DEV_GPU_UTIL")
_POWER = "DCGM_FI_DEV_POWER_USAGE"
_USED, _FREE = "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"
_RAPL = "node_rapl_package_joules_total"
_WAITING = "node_pressure_cpu_waiting_seconds_total"
_WATT = "node_power_supply_power_watt"
_CAPACITY, _ONLINE = "node_power_supply_capacity", "node_power_supply_online"
_NAMES = {
    ExporterKind.DCGM: frozenset({*_GPU, _POWER, _USED, _FREE}),
    ExporterKind.NODE: frozenset({_RAPL, _WAITING, _WATT, _CAPACITY, _ONLINE}),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exporter said; what it did not say is none."""

    utilisation: float | None = None
    """Of the busiest GPU, 0 to 1."""
    memory: float | None = None
    """Of the fullest GPU, 0 to 1."""
    power: float | None = None
    """Watts of the processors; on battery, of the whole machine."""
    gpu_power: float | None = None
    """Watts of all GPUs together."""
    pressure: float | None = None
    battery: float | None = None
    """Charge, 0 to 1; none on mains."""
    mains: bool = False
    """Whether there is a battery that is not in use."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """Counters, by metric; their growth is a rate."""


def parse_exported(
    text: str,
    kind: ExporterKind,
    *,
    before: tuple[float, Exported] | None,
    at: float,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Exported:
    """Read what an exporter of *kind* wrote.

    Args:
        text: Prometheus exposition.
        kind: whose names are expected.
        before: instant and result of the last call; rates need two.
        at: when it was read.
        labels: label -> pattern with ``*`` of the series that count, where a page holds those of
            several machines, or of GPUs that others use.

    Raises:
        ReportError: the text is no exposition.
    """
    found = {
        name: [sample for sample in labelled(samples, labels) if 0 <= sample.value < SENTINEL]
        for name, samples in parse_exposition(text, _NAMES[kind]).items()
    }
    if kind is ExporterKind.DCGM:
        return _dcgm(found)
    return _node(found, before, at)


def _dcgm(found: Mapping[str, list[Sample]]) -> Exported:
    active = [sample.value for sample in found.get(_GPU[0], ())]
    busy = active or [sample.value / 100 for sample in found.get(_GPU[1], ())]
    # Pods that share a GPU, and its slices, each repeat the power of the whole.
    watts = largest_by(found.get(_POWER, ()), device_of).values()
    return Exported(
        utilisation=min(1.0, max(busy)) if busy else None,
        memory=fullest(found.get(_USED, []), found.get(_FREE, [])),
        gpu_power=math.fsum(watts) if watts else None,
    )


def join_exported(exporters: Iterable[Exported]) -> Exported:
    """Return what several exporters of one machine say together."""
    every = list(exporters)

    def reported(name: str) -> list[float]:
        values = (getattr(one, name) for one in every)
        return [value for value in values if value is not None]

    return Exported(
        utilisation=max(reported("utilisation"), default=None),
        memory=max(reported("memory"), default=None),
        power=sum(reported("power")) if reported("power") else None,
        gpu_power=sum(reported("gpu_power")) if reported("gpu_power") else None,
        pressure=max(reported("pressure"), default=None),
        battery=min(reported("battery"), default=None),
        mains=any(each.mains for each in every),
    )


def _node(
    found: Mapping[str, list[Sample]], before: tuple[float, Exported] | None, at: float
) -> Exported:
    totals = {
        name: sum(sample.value for sample in found[name])
        for name in (_RAPL, _WAITING)
        if found.get(name)
    }
    rates: dict[str, float] = {}
    if before is not None and at > before[0]:
        for name, total in totals.items():
            gain = total - before[1].totals.get(name, total)
            if name in before[1].totals and gain >= 0:
                rates[name] = gain / (at - before[0])
    charges = [sample.value / 100 for sample in found.get(_CAPACITY, ())]
    on_mains = any(sample.value == 1 for sample in found.get(_ONLINE, ()))
    watts = [sample.value for sample in found.get(_WATT, ())]
    on_battery = bool(charges) and not on_mains
    return Exported(
        power=sum(watts) if on_battery and watts else rates.get(_RAPL),
        pressure=min(1.0, rates[_WAITING]) if _WAITING in rates else None,
        battery=min(1.0, *charges) if on_battery else None,
        mains=bool(charges) and on_mains,
        totals=totals,
    )
