"""What the dashboard shows at a glance, as one small document each cycle.

`/api/v1/fleet` and `/api/v1/plan` say everything, which is megabytes for a large fleet; a page
that is live needs sums. Values in, JSON-ready document out, as in `admin_api.documents`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import fsum

from controlplane.admin_api.envoy_states import EnvoyState, count_envoys
from controlplane.admin_api.values import Document
from controlplane.config import Service
from controlplane.controller.config_changes import ConfigStatus
from controlplane.fleet.view import OUT_OF_SERVICE, FleetView, InstanceView
from controlplane.grpc_services.envoys import EnvoyRecord
from controlplane.model import Signal
from controlplane.steering.outcomes import (
    Canary,
    Key,
    Observed,
    compare_canaries,
    observed_latencies,
    predicted_latency,
)
from controlplane.steering.plan import Plan
from controlplane.xds.types import short_type

REFUSALS_SHOWN = 50
"""Refused resources listed; more are only counted."""
TEXT_LIMIT = 600
"""Characters shown of what an Envoy says about a refusal."""


def encode_overview(
    view: FleetView,
    plan: Plan,
    *,
    epoch: float,
    status: ConfigStatus,
    envoys: Sequence[EnvoyRecord],
    versions: Mapping[str, str],
    overrides: Sequence[Document] = (),
) -> Document:
    """Return the ``overview`` event.

    Args:
        view: the fleet now.
        plan: what is served.
        epoch: Unix time of the monotonic clock's zero.
        status: what came of the newest configuration.
        envoys: connected and lately gone ones.
        versions: view -> version of the endpoints being served.
        overrides: the operators' overrides, already JSON-ready.
    """
    tallies = count_envoys(envoys, versions, now=view.at)
    planned = _planned_load(plan)
    refusals = list(_refusals(envoys, epoch=epoch))
    seen = observed_latencies(view)
    served = _served(view)
    return {
        "at": view.at + epoch,
        "frozen": view.frozen,
        "mode": view.config.steering.mode.value,
        "plan": {
            "version": plan.version,
            "held": plan.held,
            "predicted_cost": plan.predicted_cost,
        },
        "config": {
            "ok": not status.faults,
            "version": status.version,
            "faults": [str(fault) for fault in status.faults[:20]],
        },
        "sites": [*_sites(view, tallies)],
        "services": [_service(item, view) for item in view.config.services],
        "instances": [
            {
                **_instance(item, planned.get(item.name), now=view.at),
                **served.get(item.name, {"rate": None, "failures": None}),
            }
            for item in view.instances.values()
        ],
        "flows": _flows(plan),
        "latency": _latencies(plan, seen),
        "canaries": [_canary(item) for item in compare_canaries(plan, seen)],
        "notes": [
            {"service": item.service, "from": item.client_site, "note": item.note}
            for item in plan.assignments.values()
            if item.note
        ][:REFUSALS_SHOWN],
        "refusals": refusals[:REFUSALS_SHOWN],
        "refusals_left_out": max(0, len(refusals) - REFUSALS_SHOWN),
        "gone": _gone(envoys, epoch=epoch),
        "overrides": list(overrides),
    }


def _sites(view: FleetView, tallies: Mapping[str, EnvoyState]) -> Iterable[Document]:
    here: dict[str, list[InstanceView]] = {}
    for item in view.instances.values():
        here.setdefault(item.instance.site, []).append(item)
    for site in view.config.sites:
        items = here.get(site.name, [])
        tally = tallies.get(site.name, EnvoyState())
        power = view.power.get(site.name)
        battery = view.battery.get(site.name)
        yield {
            "name": site.name,
            "kind": site.kind.value,
            "region": site.region,
            "coordinates": None if site.coordinates is None else [*site.coordinates],
            "running": fsum(_load(item, Signal.RUNNING) or 0.0 for item in items),
            "waiting": fsum(_load(item, Signal.WAITING) or 0.0 for item in items),
            # What no instance reports is assumed to be idle, which people must see.
            "assumed": bool(items) and all(_load(item, Signal.RUNNING) is None for item in items),
            # Those that are out of service have neither load nor room.
            "slots": fsum(_slots(item) for item in items if item.phase not in OUT_OF_SERVICE),
            "phases": dict(Counter(item.phase.value for item in items)),
            "power": None if power is None else power.value,
            "power_budget": site.power.budget,
            "battery": None if battery is None else battery.value,
            "envoys": tally.connected,
            "lagging": tally.lagging,
            "refusing": tally.refusing,
        }


def _service(service: Service, view: FleetView) -> Document:
    return {
        "name": service.name,
        "task": service.task.value,
        "delay": service.delay.value,
        "policy": (service.policy or view.config.steering.policy).value,
        "slo": {"ttft": service.slo.ttft, "latency": service.slo.latency},
    }


def _instance(item: InstanceView, planned: float | None, *, now: float) -> Document:
    measured_at = item.measured_at
    return {
        "name": item.name,
        "site": item.instance.site,
        "model": item.instance.model,
        "phase": item.phase.value,
        "reason": item.reason,
        "awaited": item.awaited,
        "running": _load(item, Signal.RUNNING),
        "waiting": _load(item, Signal.WAITING),
        "slots": _slots(item),
        "planned": None if planned is None else round(planned, 4),
        "latency": None if (seconds := item.latency()) is None else round(seconds, 4),
        "age": None if measured_at is None else round(max(0.0, now - measured_at), 3),
        "confidence": round(item.confidence, 3),
        "trust": round(item.trust, 3),
    }


def _served(view: FleetView) -> dict[str, Document]:
    """Return instance -> requests a second and the fraction that failed, as Envoys see them."""
    rates: defaultdict[str, float] = defaultdict(float)
    failed: defaultdict[str, float] = defaultdict(float)
    for (_, _, instance), seen in view.traffic.items():
        rates[instance] += seen.rate.value
        failed[instance] += seen.rate.value * seen.failures
    return {
        name: {
            "rate": round(rate, 3),
            "failures": round(failed[name] / rate, 4) if rate > 0 else None,
        }
        for name, rate in rates.items()
    }


def _gone(envoys: Iterable[EnvoyRecord], *, epoch: float) -> Document:
    """Return how many clients left lately, and the last one."""
    left = [(item.gone_at, item.id) for item in envoys if item.gone_at is not None]
    at, name = max(left, default=(None, None))
    return {"count": len(left), "id": name, "at": None if at is None else at + epoch}


def _load(item: InstanceView, signal: Signal) -> float | None:
    """Return a gauge of load; None of an instance that is out of service, whatever it said last."""
    return None if item.phase in OUT_OF_SERVICE else _value(item, signal)


def _value(item: InstanceView, signal: Signal) -> float | None:
    reading = item.readings.get(signal)
    return None if reading is None else reading.value


def _slots(item: InstanceView) -> float:
    return _value(item, Signal.SLOTS) or float(item.instance.slots)


def _planned_load(plan: Plan) -> dict[str, float]:
    """Return instance -> planned requests over those it can sustain, where the plan says so."""
    planned: dict[str, float] = {}
    for assignment in plan.assignments.values():
        for allocation in assignment.allocations:
            # The same in all its shares, whose terms are made when they are asked for.
            if allocation.instance in planned:
                continue
            if (why := allocation.why) is not None and why.capacity > 0:
                planned[allocation.instance] = why.arrival_rate / why.capacity
    return planned


def _flows(plan: Plan) -> dict[str, list[Document]]:
    """Return service -> what each client site sends where, in the first priority."""
    flows: dict[str, list[Document]] = {}
    for (service, site), assignment in plan.assignments.items():
        flows.setdefault(service, []).append(
            {
                "from": site,
                "rate": round(assignment.demand, 4),
                "to": [
                    [item.instance, round(item.share, 4)]
                    for item in assignment.allocations
                    if item.priority == 0
                ],
            }
        )
    return flows


def _latencies(
    plan: Plan, seen: Mapping[Key, Observed]
) -> dict[str, dict[str, list[float | None]]]:
    """Return service -> client site -> seconds predicted and observed."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for pair, assignment in plan.assignments.items():
        predicted = predicted_latency(assignment)
        observed = seen[pair].latency if pair in seen else None
        if predicted is not None or observed is not None:
            found.setdefault(pair[0], {})[pair[1]] = [_rounded(predicted), _rounded(observed)]
    return found


def _canary(item: Canary) -> Document:
    return {
        "service": item.service,
        "from": item.client_site,
        "policy": item.policy.value,
        "standing": item.standing.value,
        "predicted": _rounded(item.predicted),
        "predicted_standing": _rounded(item.predicted_standing),
        "predicted_rest": _rounded(item.predicted_rest),
        "observed": _rounded(item.observed),
        "observed_rest": _rounded(item.observed_rest),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 5)


def _refusals(envoys: Iterable[EnvoyRecord], *, epoch: float) -> Iterable[Document]:
    for envoy in envoys:
        if not envoy.connected:
            continue
        for type_url, record in list(envoy.types.items()):
            if record.refused:
                yield {
                    "envoy": envoy.id,
                    "site": envoy.site,
                    "type": short_type(type_url),
                    "version": record.refused,
                    "text": record.refusal[:TEXT_LIMIT],
                    "at": None if record.refused_at is None else record.refused_at + epoch,
                }
