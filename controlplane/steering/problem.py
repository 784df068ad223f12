"""The fleet's picture as arrays: one `Problem` per cycle, ready for any policy.

Rows are (service, client site) pairs, columns are instances, entries are the pairs under
consideration: all of them, or those that column generation found worth it (`columns`).
Everything that forbids or bounds an entry is decided here, with the words for it; how shares are
found is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from controlplane.fleet.path_view import PathView, stated_paths
from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array, Curves
from controlplane.steering.layout import Layout, ServiceLayout
from controlplane.steering.money import Money, count_tokens, price_requests
from controlplane.steering.optimiser import Bounds, Budgets, Flow, Indices
from controlplane.steering.pairs import Codes, Pairs, ServicePairs, join

DOUBTED = 0.7
"""Trust below which an instance gets less; honest ones fall this far by chance."""

LEAST_RAMP = 0.02

UNREACHABLE = 1e9
"""Round trip in seconds to what a client site may not use: the device of others. It is finite, so
that differences of costs stay numbers."""

RATE_KEPT = 0.9
"""Part of a rate limit that is planned for: providers count by windows, and demand varies."""


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
    pairs: Pairs
    """Every pair that may be used, of which the entries are some."""
    codes: Codes
    """(entries,): each entry's pair."""
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
    failure: Array
    """(entries,): what failures are expected to cost a request, seconds."""
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
    money: Money
    """What requests cost besides time, by service and instance."""
    low: Array
    """(instances,): part of the devices of a class whose battery is low, which it is spared."""

    @property
    def weight(self) -> Array:
        """Return each entry's cost of a second of delay."""
        weights = np.array([layout.weight for layout in self.layout.services])
        return weights[self.service_of][self.flow.row]

    @property
    def charges(self) -> Array:
        """Return what a request of each entry costs besides time, (entries,), weighted seconds."""
        charges: Array = self.flow.linear - self.weight * (self.rtt + self.transfer)
        return charges

    @property
    def complete(self) -> bool:
        """Return whether every pair that may be used is an entry."""
        return len(self.codes) == self.pairs.count

    @property
    def sustained(self) -> Array:
        """Return the requests a second of ordinary size that each instance sustains."""
        return self.curves.capacity / self.pace


@dataclass(frozen=True, slots=True)
class Network:
    """Round trips and bandwidths as arrays; kept while the view's paths are the same object."""

    paths: Mapping[tuple[str, str], PathView]
    serving: Indices
    """(serving sites,): the sites that have instances."""
    rtt: Array
    """(client sites, serving sites): seconds."""
    bandwidth: Array | None
    """(client sites, serving sites): bytes a second; infinite where it is not known, none if it is
    known nowhere."""


def build_network(layout: Layout, paths: Mapping[tuple[str, str], PathView]) -> Network:
    """Turn *paths* into arrays; pairs that are missing get the configured default."""
    serving = np.unique(np.array(layout.site_of, dtype=np.intp))
    settings = layout.config.network
    rtt = np.full((len(layout.sites), len(serving)), settings.default_rtt)
    own = np.unique(layout.reach[layout.reach >= 0])
    rtt[:, np.searchsorted(serving, own)] = UNREACHABLE
    rtt[serving, np.arange(len(serving))] = settings.local_rtt
    bandwidth: Array | None = None
    if settings.default_bandwidth:
        bandwidth = np.full(rtt.shape, float(settings.default_bandwidth))
    client = {name: place for place, name in enumerate(layout.sites)}
    column = {layout.sites[site]: place for place, site in enumerate(serving.tolist())}
    for (source, target), path in stated_paths(paths).items():
        if source not in client or target not in column:
            continue
        place = client[source], column[target]
        if rtt[place] == UNREACHABLE:
            continue
        rtt[place] = path.rtt.value
        if path.bandwidth is not None and path.bandwidth.value > 0:
            if bandwidth is None:
                bandwidth = np.full(rtt.shape, np.inf)
            bandwidth[place] = path.bandwidth.value
    return Network(paths, serving, rtt, bandwidth)


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet of one cycle before pairs are chosen; problems of any choice are made of it."""

    at: float
    """The time of the view."""
    layout: Layout
    pairs: Pairs
    estimates: Sequence[Estimate]
    curves: Curves
    pace: Array
    """(instances,): seconds of a request of ordinary size."""
    rows: tuple[Row, ...]
    """Every row that something may serve."""
    empty: tuple[Row, ...]
    """Rows that nothing may serve, or devices only."""
    excluded: Mapping[int, Mapping[int, str]]
    limits: Mapping[int, Sequence[str]]
    budgets: Budgets
    money: Money
    low: Array
    """(instances,): part of the devices of a class whose battery is low."""

    def whole(self) -> Codes:
        """Return every pair that may be used."""
        return join([self.pairs.whole(index) for index in range(len(self.pairs.services))])

    def problem(self, codes: Codes) -> Problem:
        """Return the problem over the pairs *codes*, ascending; every row must have one."""
        return _assemble(self, codes)


def picture(
    view: FleetView,
    layout: Layout,
    network: Network,
    *,
    estimates: Sequence[Estimate],
    demand: Array,
    sizes: Array,
    failures: Array | None = None,
    loading: Array | None = None,
) -> Picture:
    """Put together what this cycle's decision is made of; long, as each term is one line.

    Args:
        view: the fleet now.
        layout: the same fleet as configured; its instances are those of the view.
        network: of the view's paths.
        estimates: one per instance of the layout.
        demand: (services, sites): requests a second, positive everywhere.
        sizes: (services,): work of a request, in requests of ordinary size.
        failures: (services, instances): probability that a request fails there and would not
            elsewhere; none for no failures.
        loading: (services, instances): seconds that loading a model is expected to cost a request;
            none where nothing is loaded.
    """
    nothing = np.zeros((len(layout.services), len(layout.instances)))
    failing = nothing if failures is None else failures
    loads = nothing if loading is None else loading
    instances = [view.instances[instance.name] for instance in layout.instances]
    pace = np.array([estimate.pace for estimate in estimates])
    limits: dict[int, list[str]] = {}
    curves = _curves(instances, estimates, limits)
    money = price_requests(view, layout, watts=_watts(layout, curves), work=sizes[:, None] * pace)
    worth = layout.config.steering.energy_value
    spared = _battery_penalties(layout, instances, limits)
    excluded: dict[int, Mapping[int, str]] = {}
    rows: list[Row] = []
    empty: list[Row] = []
    parts: list[ServicePairs] = []
    numbers: list[int] = []
    site_of = np.array(layout.site_of, dtype=np.intp)
    for number, service in enumerate(layout.services):
        usable, excluded[number] = _usable(service, instances)
        every = _rows(number, layout, instances)
        columns = np.array(usable, dtype=np.intp)
        if not (layout.reach[columns] < 0).any():
            empty.extend(every)
            continue
        serving, place = np.unique(site_of[columns], return_inverse=True)
        parts.append(
            ServicePairs(
                layout=service,
                demand=demand[number],
                columns=columns,
                reach=layout.reach[columns],
                place=place,
                at=np.searchsorted(network.serving, serving),
                network_rtt=network.rtt,
                network_bandwidth=network.bandwidth,
                size=float(service.service.request_size + service.service.response_size),
                penalty=service.penalty[columns] + spared[columns],
                energy=money.energy[number, columns] * worth / service.weight,
                carbon=money.carbon[number, columns] * worth / service.weight,
                price=money.price[number, columns] * worth / service.weight,
                loading=loads[number, columns],
                failure=service.service.failure_cost * failing[number, columns],
                work=pace[columns] * sizes[number],
            )
        )
        numbers.append(number)
        rows.extend(every)
    pairs = Pairs(
        tuple(parts), np.array(numbers, dtype=np.intp), len(layout.sites), len(layout.instances)
    )
    return Picture(
        at=view.at,
        layout=layout,
        pairs=pairs,
        estimates=estimates,
        curves=curves,
        pace=pace,
        rows=tuple(rows),
        empty=tuple(empty),
        excluded=excluded,
        limits=limits,
        budgets=_budgets(layout, curves, _rate_limits(view, layout, pace, sizes, limits)),
        money=money,
        low=np.array([each.low_battery for each in instances]),
    )


def _battery_penalties(
    layout: Layout, instances: Sequence[InstanceView], limits: dict[int, list[str]]
) -> Array:
    """Return the mean wait that a request is worth to spare batteries, (instances,), seconds."""
    found = np.zeros(len(instances))
    for column in np.flatnonzero(layout.reach >= 0).tolist():
        shown = instances[column]
        battery = layout.config.sites[layout.site_of[column]].battery
        if shown.on_battery > 0 and battery.penalty > 0:
            found[column] = shown.on_battery * battery.penalty
            limits.setdefault(column, []).append(
                f"{shown.on_battery:.0%} of its devices run on battery, which costs"
                f" {found[column] * 1e3:.0f} ms"
            )
        if shown.low_battery > 0:
            limits.setdefault(column, []).append(
                f"{shown.low_battery:.0%} of its devices have less than {battery.floor:.0%} of"
                " battery; they use it where nothing else answers"
            )
    return found


def _curves(
    instances: Sequence[InstanceView], estimates: Sequence[Estimate], limits: dict[int, list[str]]
) -> Curves:
    """Return the curves, made smaller by slow start and distrust."""
    slots = np.array([estimate.slots for estimate in estimates])
    for position, instance in enumerate(instances):
        part = 1.0
        if instance.ramp < 1.0:
            part *= max(instance.ramp, LEAST_RAMP)
            limits.setdefault(position, []).append(f"slow start at {instance.ramp:.0%}")
        if instance.trust < DOUBTED:
            part *= max(instance.trust / DOUBTED, LEAST_RAMP)
            limits.setdefault(position, []).append(f"trusted by {instance.trust:.0%}")
        slots[position] *= part
    slowdown = np.array([estimate.slowdown for estimate in estimates])
    return Curves(slots, slowdown, np.array([float(each.copies) for each in instances]))


def _usable(
    service: ServiceLayout, instances: Sequence[InstanceView]
) -> tuple[list[int], dict[int, str]]:
    """Split the service's instances into those to use now and those not, with the reason."""
    reasons = dict(service.reasons)
    standing: list[int] = []
    silent: list[int] = []
    devices = {device for own in service.devices.values() for device in own}
    for column in service.columns:
        phase = instances[column].phase
        if column in service.pinned:
            standing.append(column)  # whatever its phase: nothing else may answer its clients
        elif phase is Phase.NOT_READY and column in devices:
            continue  # its own clients alone are concerned, and see it in their row
        elif phase in (Phase.NOT_READY, Phase.ASLEEP):
            reasons[column] = instances[column].reason or "says that it is not ready"
        elif phase is Phase.EXPIRED:
            silent.append(column)
        else:
            standing.append(column)
    if all(column in devices for column in standing):
        # Silence of everyone says more about the reports than about the instances.
        return sorted((*standing, *silent)), reasons
    for column in silent:
        if column in devices:
            continue  # still the last resort
        reasons[column] = instances[column].reason or "silent beyond the expiry while others live"
    return standing, reasons


def _rows(number: int, layout: Layout, instances: Sequence[InstanceView]) -> tuple[Row, ...]:
    """Return the rows of service *number*, each with the client's own devices that are ready."""
    rows = _bare_rows(number, len(layout.sites))
    devices = layout.services[number].devices
    if not devices:
        return rows
    able = {
        site: tuple(d for d in own if instances[d].phase is not Phase.NOT_READY)
        for site, own in devices.items()
    }
    return tuple(
        replace(row, devices=able[name]) if name in able else row
        for row, name in zip(rows, layout.sites, strict=True)
    )


@lru_cache(maxsize=512)
def _bare_rows(number: int, sites: int) -> tuple[Row, ...]:
    return tuple(Row(number, site, ()) for site in range(sites))


def _assemble(made: Picture, codes: Codes) -> Problem:
    """Return the problem over *codes*, service by service; long, as each array is one line."""
    pairs, layout = made.pairs, made.layout
    span = pairs.sites * pairs.instances
    none = np.zeros(0)
    nothing = np.zeros(0, dtype=np.intp)
    parts: list[tuple[Array, ...]] = [(none,) * 6]
    row: list[Indices] = [nothing]
    column: list[Indices] = [nothing]
    groups: list[tuple[Indices, float, float, str]] = []
    position = np.full(pairs.instances, -1, dtype=np.intp)
    offset = 0
    for index, service in enumerate(pairs.services):
        low = int(pairs.numbers[index]) * span
        first, end = np.searchsorted(codes, (low, low + span)).tolist()
        site, instance = np.divmod(codes[first:end] - low, pairs.instances)
        position[service.columns] = np.arange(len(service.columns))
        own = position[instance]
        place = service.place[own]
        rtt, transfer = service.way(site, place)
        penalty, failure = service.penalty[own], service.failure[own]
        fixed = service.layout.weight * service.fixed[own] + service.lateness(site, own)
        parts.append((rtt, transfer, penalty, failure, fixed, service.work[own]))
        row.append(site + index * pairs.sites)
        column.append(instance)
        most = _most_of_class(service.layout, instance, made.low)
        groups += [
            (entries + offset, low, high, words)
            for entries, low, high, words in _groups(
                service.layout, site, instance, pairs.sites, most
            )
        ]
        offset += end - first
    rtt, transfer, penalty, failure, fixed, work = (
        np.concatenate(each) for each in zip(*parts, strict=True)
    )
    rows = np.concatenate(row).astype(np.intp)
    columns = np.concatenate(column).astype(np.intp)
    weight = np.repeat([service.layout.weight for service in pairs.services], pairs.sites)
    flow = Flow(
        demand=np.concatenate([none, *(service.demand for service in pairs.services)]),
        row=rows,
        column=columns,
        linear=weight[rows] * (rtt + transfer) + fixed if len(rows) else none,
        work=work,
        base=np.zeros(pairs.instances),
        bounds=_bounds(groups),
        budgets=made.budgets,
    )
    return Problem(
        layout=layout,
        pairs=pairs,
        codes=codes,
        rows=made.rows,
        service_of=np.repeat(pairs.numbers, pairs.sites),
        empty=made.empty,
        flow=flow,
        rtt=rtt,
        transfer=transfer,
        penalty=penalty,
        failure=failure,
        curves=made.curves,
        pace=made.pace,
        number=made.curves.copies
        * np.array([np.nan if b.number is None else b.number for b in made.estimates]),
        age=np.array([estimate.number_age for estimate in made.estimates]),
        excluded=made.excluded,
        limits=made.limits,
        limit_words=tuple(words for *_, words in groups),
        money=made.money,
        low=made.low,
    )


def _most_of_class(service: ServiceLayout, instance: Indices, low: Array) -> Array:
    """Return the largest share of each entry that devices with a *low* battery leave, (entries,).

    Where an override pins clients to their devices, nothing else may answer them.
    """
    most: Array = 1.0 - low[instance]
    if service.pinned:
        most[np.isin(instance, np.array(sorted(service.pinned), dtype=np.intp))] = 1.0
    return most


def _groups(
    service: ServiceLayout, site: Indices, instance: Indices, sites: int, most: Array
) -> list[tuple[Indices, float, float, str]]:
    """Return (entries, least, largest share, in words) of each row that anything bounds.

    What devices with a low battery leave, *most*, bounds overrides as well.
    """
    row = np.bincount(site, minlength=sites)
    groups: list[tuple[Indices, float, float, str]] = [
        (np.array([entry]), 0.0, float(most[entry]), "devices whose battery is low")
        for entry in np.flatnonzero(most < 1.0).tolist()
        if row[site[entry]] > 1
    ]
    for covered, low, high, words, client in service.limits:
        bound = np.isin(instance, np.array(covered, dtype=np.intp))
        members = np.flatnonzero(bound if client < 0 else bound & (site == client))
        own = np.bincount(site[members], minlength=sites)
        every = np.bincount(site, minlength=sites)
        groups += [
            (entries, min(low, float(most[entries].sum())), high, words)
            for entries in np.split(members, np.cumsum(own)[:-1])
            if len(entries) and len(entries) < every[site[entries[0]]]
        ]
    return groups


def _bounds(groups: Sequence[tuple[Indices, float, float, str]]) -> Bounds:
    if not groups:
        return Bounds()
    sizes = [len(entries) for entries, *_ in groups]
    return Bounds(
        np.concatenate([entries for entries, *_ in groups]),
        np.repeat(np.arange(len(groups), dtype=np.intp), sizes),
        np.array([low for _, low, _, _ in groups]),
        np.array([high for _, _, high, _ in groups]),
    )


def _rate_limits(
    view: FleetView, layout: Layout, pace: Array, sizes: Array, words: dict[int, list[str]]
) -> dict[int, float]:
    """Return instance -> the most work that its rate limit leaves; requests of least work count."""
    found: dict[int, float] = {}
    for column, instance in enumerate(layout.instances):
        if instance.rate_limit is None:
            continue
        own = [number for number, each in enumerate(layout.services) if column in each.columns]
        if not own:
            continue
        shown = [view.instances[instance.name]]
        counts = [count_tokens(layout.services[n].service.tokens, shown) for n in own]
        rate = instance.rate_limit.requests(max(map(sum, counts)))
        if rate < np.inf:
            found[column] = RATE_KEPT * rate * float(pace[column] * sizes[own].min())
            words.setdefault(column, []).append(f"rate limit of {rate:.3g} requests/s")
    return found


def _watts(layout: Layout, curves: Curves) -> Array:
    """Return the watts above idle for each unit of work, (instances,)."""
    watts: Array = layout.joules * curves.copies / curves.capacity
    return watts


def _budgets(layout: Layout, curves: Curves, rates: Mapping[int, float]) -> Budgets:
    """Return the sites' power budgets and the instances' rate limits as limits on work."""
    weights: list[Array] = []
    limit: list[float] = []
    for column, work in rates.items():
        weights.append(np.eye(1, len(layout.instances), column)[0])
        limit.append(work)
    watts = _watts(layout, curves)
    copies = np.broadcast_to(curves.copies, watts.shape)
    for position, site in enumerate(layout.config.sites):
        budget = site.power.budget
        if budget is None:
            continue
        here = np.array([at == position for at in layout.site_of], dtype=bool)
        if not (watts[here] > 0).any():
            continue
        idle = sum(
            i.power.idle * float(copies[column])
            for column, i in enumerate(layout.instances)
            if i.site == site.name
        )
        weights.append(np.where(here, watts, 0.0))
        limit.append(max(budget - idle, 1e-3 * budget))
    if not weights:
        return Budgets(np.zeros((0, len(layout.instances))), np.zeros(0))
    return Budgets(np.array(weights), np.array(limit))
