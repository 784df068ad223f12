"""Which instances hold which adapters: loading one costs time, and pushes another one out.

Engines hold a few of the models that they serve (vLLM's LoRA adapters, what Ollama has loaded) and
load another one when it is asked for. Requests that follow latency alone visit every instance, so
that each loads each. Here every model has homes, where its requests are worth sending; elsewhere a
request is charged what its loading takes. The most wanted ones have places of their own, several
if one instance cannot serve them; those that find no place share the instances that are left for
them, where they push out only each other. That is close to the best that fixed homes can do: for
popularities p and room for n, the sum of the n greatest p is found loaded.

Homes change seldom, since each change is a loading: rates are means over minutes, and one that has
a home keeps it unless another one is wanted half as much again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlplane.config.serving import preferred_model
from controlplane.fleet.view import OUT_OF_SERVICE, FleetView
from controlplane.steering.adapter_homes import Flags, Indices, Wanted, choose_shared, place
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.problem import Network

REVIEW = 15.0
"""Seconds between two looks at the homes, while the same instances are in use."""
MEMORY = 300.0
"""Seconds over which a model's rate is averaged: what is asked for rarely is known slowly."""
AWAY = 8.0
"""Loadings that a request away from home is charged: its own, later that of what it pushed out, and
what the requests beside them wait meanwhile."""


@dataclass(frozen=True, slots=True)
class _Table:
    """What the configuration says of models that are loaded when they are asked for."""

    models: tuple[str, ...]
    load_time: Array
    """(M,): seconds."""
    of: Indices
    """(services, instances): the model that serves; -1 where nothing is loaded for it."""
    room: Indices
    """(instances,): how many fit; 0 where it is not known, or all do."""

    @property
    def of_service(self) -> Indices:
        """Return the model of each service where it has one, else -1, (services,)."""
        models: Indices = self.of.max(axis=1)
        return models


class AdapterPlacement:
    """Remembers where models have their homes, and what loading costs elsewhere."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._rooms: tuple[int | None, ...] = ()
        self._table: _Table | None = None
        self._homes: dict[str, frozenset[str]] = {}
        """Model -> names of instances."""
        self._shared: frozenset[str] = frozenset()
        self._rates: dict[str, float] = {}
        self._began = self._at = self._reviewed = -np.inf
        self._usable: Flags | None = None
        self._charge: Array | None = None
        self.moved = False
        """Whether the last look changed a home: shares follow, however little that gains."""

    def observe(
        self,
        view: FleetView,
        layout: Layout,
        network: Network,
        *,
        demand: Array,
        capacity: Array,
    ) -> Array | None:
        """Return what loading is expected to cost a request, (services, instances), seconds.

        Args:
            view: the fleet now.
            layout: of the same fleet.
            network: of its paths.
            demand: (services, sites): requests a second.
            capacity: (instances,): requests of ordinary size a second that each sustains.

        Returns:
            None if nothing is ever loaded on demand.
        """
        table = self._tabulate(view, layout)
        if table is None:
            return None
        sizes = np.array([service.size for service in layout.services])
        self._average(table, _asked(view, layout, demand) * sizes, now=view.at)
        usable = np.array(
            [view.instances[each.name].phase not in OUT_OF_SERVICE for each in layout.instances]
        )
        self.moved = False
        same = self._usable is not None and np.array_equal(usable, self._usable)
        if same and view.at - self._reviewed < REVIEW and self._charge is not None:
            return self._charge
        self._usable, self._reviewed = usable, view.at
        self._review(view, layout, network, table, demand=demand, capacity=capacity * usable)
        return self._charge

    def _tabulate(self, view: FleetView, layout: Layout) -> _Table | None:
        rooms = tuple(
            each.max_loaded or view.instances[each.name].max_loaded for each in layout.instances
        )
        if self._layout is not layout or rooms != self._rooms:
            self._layout, self._rooms = layout, rooms
            self._table = _tabulate(layout, rooms)
            self._charge = None
        return self._table

    def _average(self, table: _Table, rates: Array, *, now: float) -> None:
        """Average each model's rate, over its whole past while that is short."""
        if self._at == -np.inf:
            self._began = self._at = now
        span = now - self._at
        part = 1.0 if not self._rates else span / max(min(now - self._began, MEMORY), span, 1e-9)
        self._at = now
        sums = np.bincount(table.of_service + 1, rates, len(table.models) + 1)[1:]
        for name, rate in zip(table.models, sums.tolist(), strict=True):
            before = self._rates.get(name, rate)
            self._rates[name] = before + part * (rate - before)

    def _review(
        self,
        view: FleetView,
        layout: Layout,
        network: Network,
        table: _Table,
        *,
        demand: Array,
        capacity: Array,
    ) -> None:
        """Place the models, and charge for what is elsewhere."""
        names = [instance.name for instance in layout.instances]
        holding = np.flatnonzero(table.room > 0)
        allowed = np.zeros((len(table.models), len(names)), dtype=bool)
        for service in range(len(layout.services)):
            able = np.flatnonzero(table.of[service] >= 0)
            allowed[table.of[service, able], able] = True
        wanted = Wanted(
            rates=np.array([self._rates[name] for name in table.models]),
            allowed=allowed[:, holding],
            distance=_distances(layout, network, table, demand)[:, holding],
            capacity=capacity[holding],
            room=table.room[holding],
        )
        held = [names[instance] for instance in holding.tolist()]
        before = self._before(view, table, held)
        shared = choose_shared(wanted, np.array([name in self._shared for name in held]))
        chosen = place(wanted, homes=before, shared=shared)
        self._shared = frozenset(np.array(held)[shared].tolist())
        homes = {
            model: frozenset(np.array(held)[chosen[number]].tolist())
            for number, model in enumerate(table.models)
        }
        self.moved = homes != self._homes
        self._homes = homes
        away = np.zeros((len(table.models) + 1, len(names)))
        away[1:, holding] = np.where(chosen, 0.0, AWAY * table.load_time[:, None])
        # A model that found no home costs the same everywhere.
        away[1:][~chosen.any(axis=1)] = 0.0
        self._charge = np.take_along_axis(away, table.of + 1, axis=0)

    def _before(self, view: FleetView, table: _Table, held: list[str]) -> Flags:
        """Return the homes so far; at first those that engines say they have loaded."""
        before = np.zeros((len(table.models), len(held)), dtype=bool)
        for number, model in enumerate(table.models):
            homes = self._homes.get(model)
            for place_, name in enumerate(held):
                loaded = view.instances[name].loaded or ()
                before[number, place_] = name in homes if homes else model in loaded
        return before


def _tabulate(layout: Layout, rooms: tuple[int | None, ...]) -> _Table | None:
    times = {model.name: model.load_time for model in layout.config.models if model.load_time > 0}
    if not times or not any(rooms):
        return None
    number = {name: place for place, name in enumerate(sorted(times))}
    of = np.full((len(layout.services), len(layout.instances)), -1, dtype=np.intp)
    names = [frozenset(instance.model_names) for instance in layout.instances]
    for service, each in enumerate(layout.services):
        for column in each.columns:
            if rooms[column] and layout.reach[column] < 0:
                model = preferred_model(each.service, names[column])
                of[service, column] = number.get(model or "", -1)
    room = np.array([each or 0 for each in rooms], dtype=np.intp)
    for column in range(len(rooms)):
        if len(set(of[:, column].tolist()) - {-1}) <= room[column]:
            room[column], of[:, column] = 0, -1
    if not room.any():
        return None
    return _Table(tuple(number), np.array([times[name] for name in number]), of, room)


def _asked(view: FleetView, layout: Layout, demand: Array) -> Array:
    """Return the requests a second of each service, (services,): as counted, where they are.

    Means over minutes need no filter, and one would lend the rare ones of the others' demand.
    """
    if not view.counted:
        total: Array = demand.sum(axis=1)
        return total
    number = {each.service.name: place for place, each in enumerate(layout.services)}
    asked = np.zeros(len(number))
    for (_, service), reading in view.counted.items():
        if service in number:
            asked[number[service]] += reading.value
    return asked


def _distances(layout: Layout, network: Network, table: _Table, demand: Array) -> Array:
    """Return the mean round trip of each model's requests to each instance, (M, instances)."""
    asked = np.zeros((len(table.models) + 1, demand.shape[1]))
    np.add.at(asked, table.of_service + 1, demand)
    asked = asked[1:]
    parts = asked / np.maximum(asked.sum(axis=1, keepdims=True), 1e-12)
    at = np.searchsorted(network.serving, np.array(layout.site_of, dtype=np.intp))
    distances: Array = (parts @ network.rtt)[:, at]
    return distances
