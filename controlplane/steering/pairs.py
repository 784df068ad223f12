"""Every pair of row and instance that may be used, held by factors and never as a matrix.

What a request costs before it reaches an instance depends on the client site and the instance's
site (round trip, transfer) and on the instance alone (penalty, energy). Sums of the two are made
for the pairs that are looked at; the cheapest of all is found site by site. So memory grows with
sites squared and with the pairs in use, not with client sites times instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout, ServiceLayout
from controlplane.steering.optimiser import Flags, Indices

Codes = NDArray[np.int64]
"""Pairs as ``(service * sites + client site) * instances + instance`` of one layout, ascending."""

_CHUNK = 1_000_000
"""Pairs of rows and sites that are priced at once."""


@dataclass(frozen=True, slots=True)
class ServicePairs:
    """One service's pairs: every client site with every instance that is usable now."""

    layout: ServiceLayout
    demand: Array
    """(client sites,): requests a second."""
    columns: Indices
    """(usable,): instances, ascending."""
    reach: Indices
    """(usable,): the only client site that may use the instance; -1 for all."""
    place: Indices
    """(usable,): the instance's site, as a place in `at`."""
    at: Indices
    """(serving sites,): the service's serving sites, as columns of the network."""
    network_rtt: Array
    """(client sites, all serving sites): seconds."""
    network_bandwidth: Array | None
    """(client sites, all serving sites): bytes a second; None where every one is infinite."""
    size: float
    """Bytes of a request and its response."""
    penalty: Array
    """(usable,): seconds."""
    energy: Array
    """(usable,): what a request's energy is worth, seconds of the service's delay."""
    carbon: Array
    """(usable,): the same of the carbon that it causes."""
    price: Array
    """(usable,): the same of what is charged for it."""
    loading: Array
    """(usable,): what loading its model is expected to cost a request, seconds."""
    failure: Array
    """(usable,): what failures there are expected to cost a request, seconds."""
    work: Array
    """(usable,): seconds of the instance that a request takes."""
    late_path: Array | None = None
    """(client sites, serving sites): what late answers are charged, weighted seconds; None where
    no promise binds. See `controlplane.steering.promises`."""
    late: Array | float = 0.0
    """(usable,): the same of the instance, beside what its price of work holds."""
    shift: Array | float = 0.0
    """(usable,): the part of a request's charge that its instance's price of work holds."""

    @property
    def reserved(self) -> Flags:
        """Report the usable instances that are one client site's own, (usable,)."""
        return self.reach >= 0

    def way(self, site: Indices | int, place: Indices) -> tuple[Array, Array]:
        """Return round trip and transfer from each client *site* to the site at each *place*."""
        column = self.at[place]
        rtt: Array = self.network_rtt[site, column]
        if self.network_bandwidth is None:
            return rtt, np.zeros(rtt.shape)
        return rtt, self.size / self.network_bandwidth[site, column]

    def path(self, sites: Indices) -> Array:
        """Return the weighted cost of the network, (*sites*, serving sites)."""
        away = self.network_rtt[sites[:, None], self.at]
        if self.network_bandwidth is not None:
            away = away + self.size / self.network_bandwidth[sites[:, None], self.at]
        weighted: Array = self.layout.weight * away
        if self.late_path is not None:
            weighted += self.late_path[sites]
        return weighted

    @property
    def own(self) -> Array:
        """Return the weighted cost at each usable instance whatever its load."""
        cost: Array = self.layout.weight * self.fixed + self.late
        return cost

    @property
    def fixed(self) -> Array:
        """Return what a request costs at each usable instance besides time, (usable,), seconds."""
        money = self.energy + self.carbon + self.price
        return self.penalty + self.loading + money + self.failure

    def node(self, price: Array) -> Array:
        """Return the weighted cost at each usable instance at the instances' *price* of work."""
        return self.own + self.work * price[self.columns]

    def row(self, site: int, price: Array) -> Array:
        """Return what one more request from client *site* costs at each usable instance."""
        rtt, transfer = self.way(site, self.place)
        marginal: Array = self.layout.weight * (rtt + transfer) + self.node(price)
        if self.late_path is not None:
            marginal += self.late_path[site, self.place]
        return marginal

    def lateness(self, site: Indices, own: Indices) -> Array:
        """Return what late answers are charged beside the price of work, weighted seconds.

        From each client *site* at the usable instance at each place of *own*.
        """
        charged: Array = np.broadcast_to(np.asarray(self.late, dtype=np.float64), self.work.shape)
        charged = charged[own]
        if self.late_path is not None:
            charged = charged + self.late_path[site, self.place[own]]
        return charged


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of all services that anything may serve; rows are numbered through them."""

    services: tuple[ServicePairs, ...]
    numbers: Indices
    """(services,): the index of each in the layout."""
    sites: int
    """Client sites; each service has a row for each."""
    instances: int

    @property
    def count(self) -> int:
        """Return how many pairs there are."""
        own = sum(int(service.reserved.sum()) for service in self.services)
        return self.sites * (sum(len(each.columns) for each in self.services) - own) + own

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return self.sites * len(self.services)

    def whole(self, service: int) -> Codes:
        """Return every pair of *service*, an index of `services`."""
        each = self.services[service]
        rows = self.numbers[service] * self.sites + np.arange(self.sites, dtype=np.int64)
        codes: Codes = (rows[:, None] * self.instances + each.columns[~each.reserved]).ravel()
        own = np.flatnonzero(each.reserved)
        if not len(own):
            return codes
        return join([codes, np.sort(rows[each.reach[own]] * self.instances + each.columns[own])])

    def usable(self, codes: Codes) -> Codes:
        """Return those of *codes* whose pairs may be used now."""
        number = codes // (self.sites * self.instances)
        able = np.zeros((int(self.numbers.max(initial=-1)) + 2, self.instances), dtype=bool)
        reach = np.full(self.instances, -1, dtype=np.intp)
        for index, service in zip(self.numbers.tolist(), self.services, strict=True):
            able[index, service.columns] = True
            reach[service.columns] = service.reach
        number = np.minimum(number, len(able) - 1)
        only = reach[codes % self.instances]
        near = (only < 0) | (only == codes // self.instances % self.sites)
        found: Codes = codes[able[number, codes % self.instances] & near]
        return found

    def cheapest(self, price: Array, rows: Indices) -> tuple[Array, Codes]:
        """Return the least that one more request costs anywhere, and where, for each of *rows*."""
        found = np.empty(len(rows))
        codes = np.empty(len(rows), dtype=np.int64)
        for index, service in enumerate(self.services):
            mine = np.flatnonzero(rows // self.sites == index)
            node = service.node(price)
            order, starts = by_place(service, node)
            best = node[order[starts]]
            for part in np.array_split(mine, max(1, len(mine) * len(best) // _CHUNK)):
                site = rows[part] % self.sites
                cost = service.path(site)
                cost += best
                place = cost.argmin(axis=1) if len(part) else part
                found[part] = cost[np.arange(len(part)), place]
                row = self.numbers[index] * self.sites + site
                codes[part] = row * self.instances + service.columns[order[starts[place]]]
        return found, codes


def by_place(service: ServicePairs, node: Array) -> tuple[Indices, Indices]:
    """Return the usable instances by site, the cheapest first, and where each site begins."""
    order = np.lexsort((node, service.place))
    starts = np.searchsorted(service.place[order], np.arange(len(service.at)))
    return order, starts.astype(np.intp)


def carry(codes: Codes, values: Array, wanted: Codes) -> Array:
    """Return the *values* of *codes* for the *wanted* pairs; 0 where there is none."""
    if not len(codes):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[place] == wanted, values[place], 0.0)


def translate(codes: Codes, former: Layout, layout: Layout) -> tuple[Codes, Indices]:
    """Return the *codes* of a *former* layout in another, without what that does not have.

    Returns:
        The codes, ascending, and for each its place among the ones given.
    """
    if former is layout or not len(codes):
        return codes, np.arange(len(codes))
    rows, instance = np.divmod(codes, len(former.instances))
    service, site = np.divmod(rows, len(former.sites))
    services = _places(
        [s.service.name for s in former.services], [s.service.name for s in layout.services]
    )
    sites = _places(former.sites, layout.sites)
    instances = _places([i.name for i in former.instances], [i.name for i in layout.instances])
    moved = services[service], sites[site], instances[instance]
    there = np.flatnonzero((moved[0] >= 0) & (moved[1] >= 0) & (moved[2] >= 0))
    service, site, instance = (each[there] for each in moved)
    made = (service * len(layout.sites) + site) * len(layout.instances) + instance
    order = np.argsort(made, kind="stable")
    return made[order], there[order]


def _places(names: Sequence[str], among: Sequence[str]) -> Codes:
    """Return where each of *names* is in *among*; -1 where it is not."""
    known = {name: place for place, name in enumerate(among)}
    return np.array([known.get(name, -1) for name in names], dtype=np.int64)


def join(parts: Sequence[Codes]) -> Codes:
    """Return the union of *parts*, each ascending."""
    kept = [part for part in parts if len(part)]
    if not kept:
        return np.zeros(0, dtype=np.int64)
    if len(kept) == 1:
        return kept[0]
    whole = np.concatenate(kept)
    whole.sort()
    joined: Codes = whole[np.append(True, whole[1:] != whole[:-1])]
    return joined
