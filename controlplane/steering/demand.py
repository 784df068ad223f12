"""What each client site asks for, smoothed where it is measured, never where it is decided.

A rate is counted over an interval, so its noise is known: a count of k has the standard error
sqrt(k), times what counts of these clients were seen to scatter beyond chance. The estimate
follows quickly when the rate moves by more than that, and slowly otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controlplane.model import Reading
from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Indices
from controlplane.steering.saved import MOST, read_number

CALM = 20.0
"""Seconds over which an unchanging rate is averaged."""

SURPRISE = 3.5
"""Standard errors by which a rate must differ to count as changed."""

FEW = 12
"""Rates beyond which each must show a change more clearly: one of many is always unlucky
(Bonferroni), and a fleet whose rates jump in turn is pushed without end."""

_BEGUN = 1.0
"""Drift from which on a change may have begun; smaller ones come and go."""

_MEMORY = 90.0
"""Counts over which their scatter is remembered."""

_COMMON = 20.0
"""Counts that the scatter of all rates is worth beside that of one, and Poisson's beside all."""

_OUTLIER, _MOST_SCATTER = 36.0, 4.0
"""Largest squared difference that counts for the scatter, and the largest scatter that is believed:
what jumps further than that is followed, whatever it is used to do."""

LEAST_SECONDS = 1e-3
"""Seconds that a saved average has taken, at least; any real one has a period."""
_FIELDS = ("value", "seconds", "at", "drift")


@dataclass(slots=True)
class DemandFilter:
    """The estimated demand of every (client site, service).

    Attributes:
        period: seconds that a reading stands for.
        value: (pairs,): requests a second.
        seconds: (pairs,): time that has been averaged.
        at: (pairs,): when each was last counted.
        drift: (pairs,): sum of standardised differences of one sign: a slow change that no
            single count shows.
        run: (2, pairs): requests counted since that sum began, and the seconds that took.
        scatter: (2, pairs): squared standardised differences remembered, and how many they are.
    """

    period: float = 1.0
    value: Array = field(default_factory=lambda: np.zeros(0))
    seconds: Array = field(default_factory=lambda: np.zeros(0))
    at: Array = field(default_factory=lambda: np.zeros(0))
    drift: Array = field(default_factory=lambda: np.zeros(0))
    run: Array = field(default_factory=lambda: np.zeros((2, 0)))
    scatter: Array = field(default_factory=lambda: np.zeros((2, 0)))
    _place: dict[tuple[str, str], int] = field(default_factory=dict)
    _keys: tuple[tuple[str, str], ...] = ()
    """Of the readings that came last, for which `_own` are the places."""
    _own: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    _grid: tuple[tuple[str, ...], tuple[str, ...], Indices] | None = None
    """(services, sites, place of each pair or -1) that `fill` was asked for last."""

    def observe(self, demand: Mapping[tuple[str, str], Reading], *, now: float) -> None:
        """Add the readings of one cycle; a reading with an old time is counted once."""
        keys = tuple(demand)
        if keys != self._keys:
            self._find(keys, demand, now)
        own = self._own
        if not len(own):
            return
        value = np.array([reading.value for reading in demand.values()])
        at = np.array([now if r.at is None else r.at for r in demand.values()])
        span = at - self.at[own]
        fresh = span > 0
        if not fresh.all():
            own, value, at, span = own[fresh], value[fresh], at[fresh], span[fresh]
        self._follow(own, value, np.minimum(span, CALM))
        self.at[own] = at

    def memory(self, *, now: float) -> list[list[Any]]:
        """Return the estimates as a JSON-ready document; instants become ages."""
        return [
            [*pair, float(self.value[n]), float(self.seconds[n]), now - float(self.at[n]),
             float(self.drift[n])]
            for pair, n in self._place.items()
        ]  # fmt: skip

    def remember(self, memory: Iterable[Any], *, now: float) -> None:
        """Continue from what `memory` gave in another process.

        Raises:
            ValueError, TypeError: it is none; nothing was taken.
        """
        found = {
            (str(site), str(service)): (
                read_number(value),
                read_number(seconds, least=LEAST_SECONDS),
                now - read_number(age, least=-MOST),
                read_number(drift, least=-MOST),
            )
            for site, service, value, seconds, age, drift in memory
        }
        self._place = {pair: place for place, pair in enumerate(found)}
        columns = np.array(list(found.values())).reshape(-1, len(_FIELDS)).T.copy()
        self.value, self.seconds, self.at, self.drift = columns
        self.run, self.scatter = np.zeros((2, 2, len(found)))
        self._keys, self._grid = (), None
        self._own = np.zeros(0, dtype=np.intp)

    def fill(
        self,
        services: tuple[str, ...],
        sites: tuple[str, ...],
        *,
        clients: Mapping[str, int],
        completions: float,
        capacity: float,
    ) -> Array:
        """Return requests a second, shape (services, sites), positive everywhere.

        Without any reading, what the instances complete is split over the sites by their Envoys;
        without that, half of the estimated *capacity* is, so that a cold fleet does not send all
        requests to one instance. Pairs that are merely silent get a trickle, so that their first
        requests find sensible shares.
        """
        if self._grid is None or self._grid[:2] != (services, sites):
            places = [self._place.get((site, name), -1) for name in services for site in sites]
            self._grid = services, sites, np.array(places, dtype=np.intp)
        place = self._grid[2].reshape(len(services), len(sites))
        known: Array = np.zeros(place.shape)
        known[place >= 0] = self.value[place[place >= 0]]
        total = float(known.sum())
        if total <= 0:
            total = completions if completions > 0 else 0.5 * capacity
            heads = np.array([float(clients.get(site, 0)) for site in sites])
            if heads.sum() <= 0:
                heads = np.ones(len(sites))
            spread = heads / heads.sum() * total / len(services)
            known = np.tile(spread, (len(services), 1))
        return np.maximum(known, max(1e-3 * total / known.size, 1e-6))

    def _find(
        self,
        keys: tuple[tuple[str, str], ...],
        demand: Mapping[tuple[str, str], Reading],
        now: float,
    ) -> None:
        """Note where the readings of *keys* belong; what is new begins at its reading."""
        new = [key for key in keys if key not in self._place]
        if new:
            first = len(self._place)
            self._place |= {key: first + offset for offset, key in enumerate(new)}
            value = [demand[key].value for key in new]
            at = [now if (said := demand[key].at) is None else said for key in new]
            self.value = np.append(self.value, value)
            self.seconds = np.append(self.seconds, np.full(len(new), self.period))
            self.at = np.append(self.at, at)
            self.drift = np.append(self.drift, np.zeros(len(new)))
            more = np.zeros((2, len(new)))
            self.run = np.concatenate([self.run, more], axis=1)
            self.scatter = np.concatenate([self.scatter, more], axis=1)
            self._grid = None
        self._keys = keys
        self._own = np.array([self._place[key] for key in keys], dtype=np.intp)

    def _follow(self, own: Indices, value: Array, span: Array) -> None:
        """Move the rates *own* towards *value*, counted over *span* seconds."""
        before, seconds = self.value[own], self.seconds[own]
        # Counts whose square roots are compared scatter alike whatever their mean, and the many
        # small ones are not taken for a change each time a request comes (Anscombe 1948).
        least = np.maximum(before, 1.0 / np.maximum(seconds, span))
        chance = 2.0 * (np.sqrt(value * span + 0.375) - np.sqrt(least * span + 0.375))
        # The estimate is itself only known to what was counted in its time.
        chance /= np.sqrt(1.0 + span / seconds)
        last = self.drift[own]
        drift = last + chance / np.sqrt(self._scatter(own))
        drift = np.copysign(np.maximum(np.abs(drift) - 0.5, 0.0), drift)
        same = (last * drift > 0) & (np.abs(last) > _BEGUN)
        run = np.where(same, self.run[:, own], 0.0) + np.array([value * span, span])
        # The rate is another one now: all that is known of it came since the drift began, but for
        # as much as makes the step not overshoot.
        changed = np.abs(drift) > SURPRISE + 1.5 + math.log(max(len(self.value) / FEW, 1.0))
        kept = 0.5 * span
        renewed = (run[0] + before * kept) / (run[1] + kept)
        calm = np.minimum(seconds + span, CALM)
        self.drift[own] = np.where(changed, 0.0, drift)
        self.run[:, own] = run
        self.seconds[own] = np.where(changed, np.minimum(run[1] + kept, CALM), calm)
        followed = before + (value - before) * np.minimum(1.0, span / calm)
        self.value[own] = np.where(changed, renewed, followed)
        square = np.minimum(chance**2, _OUTLIER)
        judged = own[~changed]
        fresh = np.array([square, np.ones(len(own))])[:, ~changed]
        self.scatter[:, judged] = (1.0 - 1.0 / _MEMORY) * self.scatter[:, judged] + fresh

    def _scatter(self, own: Indices) -> Array:
        """Return the variance of the counts of *own* over that of Poisson counts, at least 1."""
        total, number = self.scatter
        common = (total.sum() + _COMMON) / (number.sum() + _COMMON)
        found: Array = (total[own] + _COMMON * common) / (number[own] + _COMMON)
        return np.clip(found, 1.0, _MOST_SCATTER)
