"""The fleet's picture as arrays: one `Problem` per cycle, ready for any policy.

Rows are (service, client site) pairs, columns are instances, entries are the pairs that may be
used. Everything that forbids or bounds an entry is decided here, with the words for it; how
shares are found is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from controlplane.fleet.view import FleetView, InstanceView, PathView, Phase
from controlplane.steering.belief import Belief
from controlplane.steering.latency import Array, Curves
from controlplane.steering.layout import Layout, ServiceLayout
from controlplane.steering.optimiser import Bounds, Budgets, Flow, Indices

MOST_CANDIDATES = 24
"""Instances considered per row where there are more: the cheapest ones when idle."""

DOUBTED = 0.7
"""Trust below which an instance gets less; honest ones fall this far by chance."""

_MOVED = 0.2
"""Change of a cost, as a part of the mean cost, that makes the candidates be chosen anew."""

_LEAST_RAMP = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """One service's requests from one client site."""

    service: int
    site: int
    devices: tuple[int, ...]
    """The client's own devices, which Envoy falls to when nothing else answers."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Who may send what where at what cost, now."""

    layout: Layout
    rows: tuple[Row, ...]
    """Those with at least one entry; order of services, then sites."""
    service_of: Indices
    """(rows,): the service of each."""
    empty: tuple[Row, ...]
    """Those that nothing may serve, or devices only."""
    flow: Flow
    """Linear costs are weighted; bounds, budgets and base work included."""
    rtt: Array
    """(entries,): seconds."""
    transfer: Array
    penalty: Array
    energy: Array
    curves: Curves
    """Of the instances, slow start and trust included."""
    pace: Array
    """(instances,): seconds of a request of ordinary size."""
    number: Array
    """(instances,): requests inside when last seen; not a number when unknown."""
    age: Array
    """(instances,): seconds since then."""
    excluded: Mapping[int, Mapping[int, str]]
    """Service -> instance -> why it gets nothing."""
    limits: Mapping[int, Sequence[str]]
    """Instance -> what binds it besides its load, in words."""
    limit_words: tuple[str, ...]
    """Words of each bound group."""

    @property
    def weight(self) -> Array:
        """Give each entry's cost of a second of delay."""
        weights = np.array([layout.weight for layout in self.layout.services])
        return weights[self.service_of][self.flow.row]

    @property
    def sustained(self) -> Array:
        """Give the requests a second of ordinary size that each instance sustains."""
        return self.curves.capacity / self.pace


@dataclass(frozen=True, slots=True)
class Network:
    """Round trips and bandwidths as arrays; kept while the view's paths are the same object."""

    paths: Mapping[tuple[str, str], PathView]
    rtt: Array
    """(client sites, sites): seconds."""
    bandwidth: Array
    """(client sites, sites): bytes a second; infinite where nobody ever said."""
    candidates: dict[tuple[int, tuple[int, ...]], tuple[Array, Indices]]
    """(service, usable instances) -> (the costs by which they were chosen, the chosen ones).
    Candidates stay while costs move a little: shares go on from those of the last cycle."""


def build_network(
    layout: Layout,
    paths: Mapping[tuple[str, str], PathView],
    *,
    former: Network | None = None,
) -> Network:
    """Turn *paths* into arrays; pairs that are missing get the configured default.

    *former* is the network of the same layout before.
    """
    count = len(layout.sites)
    settings = layout.config.network
    rtt = np.full((count, count), settings.default_rtt)
    bandwidth = np.full((count, count), settings.default_bandwidth or np.inf)
    np.fill_diagonal(rtt, settings.local_rtt)
    serving = sorted(set(layout.site_of))
    for client, name in enumerate(layout.sites):
        for site in serving:
            path = paths.get((name, layout.sites[site]))
            if path is None:
                continue
            rtt[client, site] = path.rtt.value
            if path.bandwidth is not None and path.bandwidth.value > 0:
                bandwidth[client, site] = path.bandwidth.value
    return Network(paths, rtt, bandwidth, {} if former is None else former.candidates)


def build_problem(
    view: FleetView,
    layout: Layout,
    network: Network,
    *,
    beliefs: Sequence[Belief],
    demand: Array,
    sizes: Array,
) -> Problem:
    """Assemble the problem of this cycle.

    Args:
        view: the fleet now.
        layout: the same fleet as configured; its instances are those of the view.
        network: of the view's paths.
        beliefs: one per instance of the layout.
        demand: (services, sites): requests a second, positive everywhere.
        sizes: (services,): work of a request, in requests of ordinary size.
    """
    instances = [view.instances[instance.name] for instance in layout.instances]
    pace = np.array([belief.pace for belief in beliefs])
    limits: dict[int, list[str]] = {}
    curves = _curves(instances, beliefs, limits)
    site_of = np.array(layout.site_of, dtype=np.intp)
    rtt = network.rtt[:, site_of]
    bandwidth = network.bandwidth[:, site_of]
    joules = layout.price * layout.joules / curves.capacity * pace
    excluded: dict[int, Mapping[int, str]] = {}
    rows: list[Row] = []
    empty: list[Row] = []
    parts: list[_Part] = []
    for number, service in enumerate(layout.services):
        usable, excluded[number] = _usable(service, instances)
        home = {site: service.devices.get(name, ()) for site, name in enumerate(layout.sites)}
        every = [
            Row(number, site, _able(home[site], instances)) for site in range(len(layout.sites))
        ]
        if not usable:
            empty.extend(every)
            continue
        columns = np.array(usable, dtype=np.intp)
        size = service.service.request_size + service.service.response_size
        transfer = size / bandwidth[:, columns]
        parts.append(
            _entries(
                service,
                columns,
                rtt=rtt[:, columns],
                transfer=transfer,
                energy=joules[columns] * sizes[number],
                idle=pace[columns] * sizes[number],
                demand=demand[number],
                first=len(rows),
                candidates=partial(_choose, network, (number, tuple(usable))),
            )
        )
        rows.extend(every)
    return _join(
        layout,
        parts,
        rows=tuple(rows),
        empty=tuple(empty),
        curves=curves,
        pace=pace,
        beliefs=beliefs,
        excluded=excluded,
        limits=limits,
    )


def _curves(
    instances: Sequence[InstanceView], beliefs: Sequence[Belief], limits: dict[int, list[str]]
) -> Curves:
    """Give the curves, made smaller by slow start and distrust."""
    slots = np.array([belief.slots for belief in beliefs])
    for position, instance in enumerate(instances):
        part = 1.0
        if instance.ramp < 1.0:
            part *= max(instance.ramp, _LEAST_RAMP)
            limits.setdefault(position, []).append(f"slow start at {instance.ramp:.0%}")
        if instance.trust < DOUBTED:
            part *= max(instance.trust / DOUBTED, _LEAST_RAMP)
            limits.setdefault(position, []).append(f"trusted by {instance.trust:.0%}")
        slots[position] *= part
    return Curves(slots, np.array([belief.slowdown for belief in beliefs]))


def _usable(
    service: ServiceLayout, instances: Sequence[InstanceView]
) -> tuple[list[int], dict[int, str]]:
    """Split the service's instances into those to use now and those not, with the reason."""
    reasons = dict(service.reasons)
    standing: list[int] = []
    silent: list[int] = []
    for column in service.columns:
        phase = instances[column].phase
        if phase is Phase.NOT_READY:
            reasons[column] = instances[column].reason or "says that it is not ready"
        elif phase is Phase.EXPIRED:
            silent.append(column)
        else:
            standing.append(column)
    if not standing:
        # Silence of everybody says more about the reports than about the instances.
        return silent, reasons
    for column in silent:
        reasons[column] = instances[column].reason or "silent beyond the expiry while others live"
    return standing, reasons


def _able(devices: tuple[int, ...], instances: Sequence[InstanceView]) -> tuple[int, ...]:
    return tuple(d for d in devices if instances[d].phase is not Phase.NOT_READY)


@dataclass(frozen=True, slots=True)
class _Part:
    """One service's entries."""

    demand: Array
    row: Indices
    column: Indices
    linear: Array
    rtt: Array
    transfer: Array
    penalty: Array
    energy: Array
    work: Array
    groups: list[tuple[Indices, float, float, str]]


def _choose(network: Network, key: tuple[int, tuple[int, ...]], cost: Array) -> Indices:
    """Give the cheapest columns of each client site, those of before while costs hardly moved."""
    former = network.candidates.get(key)
    if former is not None:
        then, keep = former
        if then.shape == cost.shape and np.abs(cost - then).max() <= _MOVED * then.mean():
            return keep
    keep = np.argpartition(cost, MOST_CANDIDATES, axis=1)[:, :MOST_CANDIDATES]
    keep.sort(axis=1)
    # One choice for a service: instances that come and go would pile up.
    for old in [other for other in network.candidates if other[0] == key[0]]:
        del network.candidates[old]
    network.candidates[key] = (cost, keep)
    return keep


def _entries(
    service: ServiceLayout,
    columns: Indices,
    *,
    rtt: Array,
    transfer: Array,
    energy: Array,
    idle: Array,
    demand: Array,
    first: int,
    candidates: Callable[[Array], Indices],
) -> _Part:
    sites, count = rtt.shape
    penalty = service.penalty[columns]
    fixed = service.weight * (rtt + transfer + penalty + energy)
    if count > MOST_CANDIDATES:
        keep = candidates(fixed + idle)
    else:
        keep = np.tile(np.arange(count), (sites, 1))
    row = np.repeat(np.arange(sites), keep.shape[1])
    place = keep.ravel()
    groups: list[tuple[Indices, float, float, str]] = []
    chosen = columns[place]
    for covered, low, high, words in service.limits:
        members = np.flatnonzero(np.isin(chosen, np.array(covered, dtype=np.intp)))
        for site in range(sites):
            own = members[row[members] == site]
            if len(own) and len(own) < keep.shape[1]:
                groups.append((own, low, high, words))
    return _Part(
        demand=demand,
        row=row + first,
        column=chosen,
        linear=fixed[row, place],
        rtt=rtt[row, place],
        transfer=transfer[row, place],
        penalty=penalty[place],
        energy=energy[place],
        work=idle[place],
        groups=groups,
    )


def _join(
    layout: Layout,
    parts: Sequence[_Part],
    *,
    rows: tuple[Row, ...],
    empty: tuple[Row, ...],
    curves: Curves,
    pace: Array,
    beliefs: Sequence[Belief],
    excluded: Mapping[int, Mapping[int, str]],
    limits: Mapping[int, Sequence[str]],
) -> Problem:
    none = np.zeros(0)
    nothing = np.zeros(0, dtype=np.intp)
    entry: list[Indices] = []
    group: list[Indices] = []
    low: list[float] = []
    high: list[float] = []
    words: list[str] = []
    offset = 0
    for part in parts:
        for members, least, most, said in part.groups:
            entry.append(members + offset)
            group.append(np.full(len(members), len(low), dtype=np.intp))
            low.append(least)
            high.append(most)
            words.append(said)
        offset += len(part.row)

    def joined(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts]) if parts else none

    flow = Flow(
        demand=joined("demand"),
        row=np.concatenate([part.row for part in parts]) if parts else nothing,
        column=np.concatenate([part.column for part in parts]) if parts else nothing,
        linear=joined("linear"),
        work=joined("work"),
        base=np.array([belief.background for belief in beliefs]) * pace,
        bounds=Bounds(
            np.concatenate(entry) if entry else nothing,
            np.concatenate(group) if group else nothing,
            np.array(low),
            np.array(high),
        ),
        budgets=_budgets(layout, curves),
    )
    return Problem(
        layout=layout,
        rows=rows,
        service_of=np.array([row.service for row in rows], dtype=np.intp),
        empty=empty,
        flow=flow,
        rtt=joined("rtt"),
        transfer=joined("transfer"),
        penalty=joined("penalty"),
        energy=joined("energy"),
        curves=curves,
        pace=pace,
        number=np.array([np.nan if b.number is None else b.number for b in beliefs]),
        age=np.array([belief.number_age for belief in beliefs]),
        excluded=excluded,
        limits=limits,
        limit_words=tuple(words),
    )


def _budgets(layout: Layout, curves: Curves) -> Budgets:
    """Give the sites' power budgets as limits on work."""
    weights: list[Array] = []
    limit: list[float] = []
    watts = layout.joules / curves.capacity
    for position, site in enumerate(layout.config.sites):
        budget = site.power.budget
        here = np.array([at == position for at in layout.site_of], dtype=bool)
        if budget is None or not here.any() or not (watts[here] > 0).any():
            continue
        idle = sum(i.power.idle for i in layout.instances if i.site == site.name)
        weights.append(np.where(here, watts, 0.0))
        limit.append(max(budget - idle, 1e-3 * budget))
    if not weights:
        return Budgets(np.zeros((0, len(layout.instances))), np.zeros(0))
    return Budgets(np.array(weights), np.array(limit))
