"""Why each instance gets its share, and why others get none: made when someone asks.

What the API, the command line and the dashboard show is made from the arrays that decided, never
worked out a second time; pairs that were not under consideration are priced at the same prices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controlplane.config import PolicyName
from controlplane.fleet.path_view import PathView
from controlplane.model import Signal
from controlplane.steering.decision import Decision
from controlplane.steering.latency import Array
from controlplane.steering.pairs import ServicePairs
from controlplane.steering.plan import Exclusion, Why
from controlplane.steering.problem import Row

_FALLBACK = "a fallback: used when no instance of the better priority answers"


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Where a row's entries are."""

    number: int
    """Of the row."""
    row: Row
    first: int
    end: int


def explain_share(decision: Decision, span: RowSpan, column: int) -> Why:
    """Return the terms behind what the instance *column* gets of a row, which may be nothing.

    Long, as each term is a line.
    """
    problem, view = decision.problem, decision.view
    layout = problem.layout
    instance = layout.instances[column]
    service = _service(decision, span)
    own = int(np.searchsorted(service.columns, column))
    place = int(service.place[own])
    entry = _entry(decision, span, column)
    estimate = decision.estimates[column]
    seen = view.instances[instance.name]
    site = span.row.site
    rtt, transfer = (float(each[0]) for each in service.way(site, np.array([place])))
    alone = float(service.work[own])
    queueing = alone * (float(decision.inside[column]) - 1.0)
    price = float(decision.price[column])
    # What the instance's price holds of a request's own lateness is shown by itself.
    shifted = float(np.broadcast_to(service.shift, service.work.shape)[own])
    late = float(service.lateness(np.array([site]), np.array([own]))[0]) + shifted
    client = layout.sites[site]
    path = view.paths.get((client, instance.site))
    demand = view.demand.get((client, service.layout.service.name))
    running = seen.readings.get(Signal.RUNNING)
    tariff = view.tariffs.get(instance.site)
    ages = {
        "rtt": path.rtt.age(view.at) if path else None,
        "bandwidth": _bandwidth_age(path, view.at),
        "load": running.age(view.at) if running else None,
        "demand": demand.age(view.at) if demand else None,
    }
    if tariff is not None:
        ages |= {name: reading.age(view.at) for name, reading in tariff.readings}
    sources = {
        "rtt": path.rtt.source.value if path else "default",
        "load": running.source.value if running else "unknown",
        "demand": demand.source.value if demand else "assumed",
        "capacity": estimate.source,
    }
    if tariff is not None:
        sources |= {name: reading.source.value for name, reading in tariff.readings}
    words = [*problem.limits.get(column, ())]
    if layout.reach[column] >= 0:
        words.append(f"each of {seen.copies} devices serves its own requests only")
    failure = float(service.failure[own])
    if failure > 0:
        part = failure / service.layout.service.failure_cost
        words.append(f"fails {part:.0%} of its requests more than other instances do")
    if late > 0:
        words.append("a promise binds: what is expected to be late is charged")
    if entry is not None:
        words += _bounds(decision, entry)
        if decision.probed[entry] > 0:
            words.append("probed: it may be as fast as others of its model again")
    least = 0.0 if entry is None else float(decision.least_gain[entry]) / service.layout.weight
    lost = float(decision.losses[column]) if least > 0 else 0.0
    if least > 0:
        words.append(
            f"a session that moves here loses {lost * 1e3:.0f} ms of cached prompt; sessions moved"
            f" only for {least * 1e3:.0f} ms a request"
        )
    return Why(
        rtt=rtt,
        transfer=transfer,
        penalty=float(service.penalty[own]),
        energy=float(service.energy[own]),
        carbon=float(service.carbon[own]),
        price=float(service.price[own]),
        loading=float(service.loading[own]),
        failure=failure,
        promise=max(0.0, late) / service.layout.weight,
        service=alone,
        queueing=queueing,
        crowding=max(0.0, alone * price - shifted - alone - queueing),
        predicted_latency=rtt + transfer + alone + queueing,
        arrival_rate=float(decision.load[column] / problem.pace[column]),
        capacity=float(decision.sustained[column]),
        confidence=seen.confidence * decision.estimates[column].known,
        previous_share=0.0 if entry is None else float(decision.previous[entry]),
        prefix_loss=lost,
        least_gain=least,
        ages=ages,
        sources=sources,
        limits=tuple(words),
    )


def explain_fallback(decision: Decision, span: RowSpan, column: int) -> Why:
    """Return the terms behind a fallback."""
    why = explain_share(decision, span, column)
    words = f"{_FALLBACK}; {_too_expensive(decision, span, column, _marginal(decision, span))}"
    return replace(why, limits=(*why.limits, words))


def explain_exclusions(
    decision: Decision, span: RowSpan, used: frozenset[int]
) -> tuple[Exclusion, ...]:
    """Return what may serve a row and gets nothing of it, and what may not, with the reasons."""
    layout = decision.problem.layout
    marginal = _marginal(decision, span)
    expensive = tuple(
        Exclusion(
            layout.instances[column].name,
            layout.instances[column].site,
            _too_expensive(decision, span, column, marginal),
        )
        for column in _shared(_service(decision, span))
        if column not in used
    )
    return expensive + excluded(decision, span.row)


def _service(decision: Decision, span: RowSpan) -> ServicePairs:
    pairs = decision.problem.pairs
    return pairs.services[span.number // pairs.sites]


def _shared(service: ServicePairs) -> list[int]:
    """Return the instances that may serve every client site."""
    shared: list[int] = service.columns[~service.reserved].tolist()
    return shared


def _entry(decision: Decision, span: RowSpan, column: int) -> int | None:
    own = decision.problem.flow.column[span.first : span.end]
    place = int(np.searchsorted(own, column))
    return span.first + place if place < len(own) and own[place] == column else None


def _marginal(decision: Decision, span: RowSpan) -> Array:
    """Return what one more request of the row costs at each instance that may serve it."""
    return _service(decision, span).row(span.row.site, decision.price)


def excluded(decision: Decision, row: Row) -> tuple[Exclusion, ...]:
    """Return the instances that may not serve a row, each with its reason."""
    layout = decision.problem.layout
    service = layout.services[row.service]
    reasons = decision.problem.excluded.get(row.service, {})
    made = []
    for column, reason in sorted(reasons.items()):
        instance = layout.instances[column]
        start = decision.starts.get(instance.name)
        words = reason if start is None or start.pending else f"{reason}; {start}"
        made.append(Exclusion(instance.name, instance.site, words))
    for site, devices in sorted(service.devices.items()):
        for device in devices:
            if device in row.devices:
                continue
            own = site == layout.sites[row.site]
            reason = "says that it is not ready" if own else f"serves the clients of {site} only"
            made.append(Exclusion(layout.instances[device].name, site, reason))
    return tuple(made)


def _too_expensive(decision: Decision, span: RowSpan, column: int, marginal: Array) -> str:
    """Return why an instance that may be used gets nothing."""
    policy = decision.policy_of(span.row)
    if policy is not PolicyName.OPTIMAL:
        return f"the policy {policy.value} gives it nothing"
    own = int(np.searchsorted(_service(decision, span).columns, column))
    more = float(marginal[own] - marginal.min())
    if more <= 0:
        return "its share is below the least that is pushed"
    return f"one more request there would cost {more * 1e3:.1f} ms more than at the best"


def _bandwidth_age(path: PathView | None, now: float) -> float | None:
    return path.bandwidth.age(now) if path is not None and path.bandwidth is not None else None


def _bounds(decision: Decision, entry: int) -> list[str]:
    """Return the words of the bound groups that hold the share where it is."""
    bounds = decision.problem.flow.bounds
    if not len(bounds.entry):
        return []
    words = []
    for group in bounds.group[bounds.entry == entry].tolist():
        whole = float(decision.shares[bounds.entry[bounds.group == group]].sum())
        if whole >= bounds.high[group] - 1e-4 or whole <= bounds.low[group] + 1e-4:
            words.append(decision.problem.limit_words[group])
    return words


def explain_device(decision: Decision, row: Row, device: int, priority: int) -> Why:
    """Return why a client's own device has a share, whose queue is its own."""
    layout, estimate = decision.problem.layout, decision.estimates[device]
    service = layout.services[row.service]
    near = layout.config.network.local_rtt
    size = float(decision.sizes[row.service])
    alone = estimate.pace * size
    confidence = decision.view.instances[layout.instances[device].name].confidence
    return Why(
        rtt=near,
        transfer=0.0,
        penalty=float(service.penalty[device]),
        energy=0.0,
        carbon=0.0,
        price=0.0,
        loading=0.0,
        failure=0.0,
        promise=0.0,
        service=alone,
        queueing=0.0,
        crowding=0.0,
        predicted_latency=near + alone,
        arrival_rate=0.0,
        capacity=estimate.capacity / size,
        confidence=confidence * estimate.known,
        previous_share=0.0,
        limits=("the client's own device, the last resort",) if priority else (),
    )


def mean_latencies(decision: Decision) -> Array:
    """Return the mean latency that is predicted for each row, (rows,), seconds."""
    problem, flow = decision.problem, decision.problem.flow
    if not len(flow.row):
        return np.zeros(0)
    own = problem.rtt + problem.transfer + flow.work * decision.inside[flow.column]
    used = np.where(decision.weights > 0, decision.shares, 0.0)
    whole = np.maximum(np.add.reduceat(used, flow.starts), np.finfo(float).tiny)
    mean: Array = np.add.reduceat(used * own, flow.starts) / whole
    return mean
