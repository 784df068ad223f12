"""What each client site asks for, smoothed where it is measured, never where it is decided.

Which pairs of client site and service there are, and since when they would have been counted;
how the rate of each is followed is said in `controlplane.steering.rate_filter`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controlplane.model import Reading, Source
from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Indices
from controlplane.steering.rate_filter import CALM, RateFilter, difference
from controlplane.steering.saved import MOST, read_number

STARTED = 2.5
"""Standard errors by which the first count of a pair must exceed its silence to count as the start
of steady demand: four requests at once after 20 s without any."""

LINGER = 15.0
"""Seconds for which a pair that nothing reports any longer keeps its demand: Envoys that reconnect,
or are replaced, are no reason to move everyone's shares twice."""

TOGETHER = 0.3
"""New pairs over known ones from which they began together, a crowd or a first report, and are
believed as they come."""

GAP = 5.0
"""Seconds without any reading after which those that come are the first of some that come back."""

LEAST_SECONDS = 1e-3
"""Seconds that a saved average has taken, at least; any real one has a period."""

_Pair = tuple[str, str]
"""(client site, service)."""


@dataclass(slots=True)
class DemandFilter:
    """The estimated demand of every client site for every service.

    Attributes:
        period: seconds that a reading stands for.
        rates: those of the pairs, requests a second.
    """

    period: float = 1.0
    rates: RateFilter = field(default_factory=RateFilter)
    _place: dict[_Pair, int] = field(default_factory=dict)
    """Pair -> its place in `rates`."""
    _since: dict[str, float] = field(default_factory=dict)
    """Client site -> since when its requests would have been counted."""
    _clients: frozenset[str] = frozenset()
    """Client sites whose Envoys were connected in the last cycle."""
    _guessed: frozenset[_Pair] = frozenset()
    """Pairs whose readings are what instances' own counters leave over, split over sites."""
    _resumed: float = -math.inf
    """When the estimates were last continued, after a gap or from those of another process."""
    _read_at: float = -math.inf
    """When something was last read."""
    _interval: float = 0.0
    """Seconds that readings cover, as known pairs are read."""
    _asked: bool = False
    """Whether anyone ever asked for anything."""
    _keys: tuple[_Pair, ...] = ()
    """Of the readings that came last, for which `_own` are the places."""
    _own: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    _grid: tuple[tuple[str, ...], tuple[str, ...], Indices] | None = None
    """(services, sites, place of each pair or -1) that `fill` was asked for last."""

    def observe(
        self,
        demand: Mapping[_Pair, Reading],
        *,
        clients: Mapping[str, int] | None = None,
        now: float,
    ) -> None:
        """Add the readings of one cycle; a reading with an old time is counted once.

        A pair that is in no reading any longer is forgotten after `LINGER`, unless nothing is read
        at all: then what was known is the best there is.

        Args:
            demand: (client site, service) -> requests a second.
            clients: client site -> its connected Envoys, which would have counted requests.
            now: seconds.
        """
        keys = tuple(demand)
        clients = clients or {}
        if keys != self._keys or clients.keys() != self._clients:
            heard = {site for site, _ in keys} | clients.keys()
            self._since = {site: self._since.get(site, now) for site in heard}
            self._clients = frozenset(clients)
        if not keys:
            return
        if now - self._read_at > max(GAP, 3.0 * self.period):
            self._resumed = now
        self._read_at = now
        if keys != self._keys or len(self._place) > len(keys):
            # An Envoy's word on one site's requests ends the guess at all of the service's.
            self._forget(self._guessed - demand.keys(), demand.keys(), now)
        candidates: Collection[_Pair] = self._guessed
        if keys != self._keys:
            self._find(keys, demand, now)
            candidates = keys
        self._guessed = frozenset(
            pair for pair in candidates if demand[pair].source is Source.SCRAPE
        )
        own = self._own
        value = np.array([reading.value for reading in demand.values()])
        at = np.array([now if r.at is None else r.at for r in demand.values()])
        fresh = at > self.rates.at[own]
        own, value, at = own[fresh], value[fresh], at[fresh]
        if len(own):
            self._interval = float(np.median(np.minimum(at - self.rates.at[own], CALM)))
            self._asked = self._asked or bool(value.any())
        self.rates.follow(own, value, at)

    def memory(self, *, now: float) -> list[list[Any]]:
        """Return the estimates as a JSON-ready document; instants become ages."""
        rates = self.rates
        return [
            [*pair, float(rates.value[n]), float(rates.seconds[n]), now - float(rates.at[n]),
             float(rates.drift[n])]
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
        self.rates = RateFilter()
        self.rates.extend(*np.array(list(found.values())).reshape(-1, 4).T)
        self._keys, self._grid, self._guessed = (), None, frozenset()
        self._asked = bool(self.rates.value.any())
        self._resumed = self._read_at = now

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
        known[place >= 0] = self.rates.value[place[place >= 0]]
        total = float(known.sum())
        if total <= 0 and not self._asked:
            total = completions if completions > 0 else 0.5 * capacity
            heads = np.array([float(clients.get(site, 0)) for site in sites])
            if heads.sum() <= 0:
                heads = np.ones(len(sites))
            spread = heads / heads.sum() * total / len(services)
            known = np.tile(spread, (len(services), 1))
        return np.maximum(known, max(1e-3 * total / known.size, 1e-6))

    def _forget(self, replaced: Collection[_Pair], present: Collection[_Pair], now: float) -> None:
        """Leave out the *replaced* pairs, and those that are long not *present*."""
        at = self.rates.at
        kept = {
            pair: place
            for pair, place in self._place.items()
            if pair in present
            or (pair not in replaced and now - max(at[place], self._resumed) <= LINGER)
        }
        if len(kept) < len(self._place):
            self.rates.keep(np.array(list(kept.values()), dtype=np.intp))
            self._place = {pair: place for place, pair in enumerate(kept)}
            self._keys = ()

    def _find(self, keys: tuple[_Pair, ...], demand: Mapping[_Pair, Reading], now: float) -> None:
        """Note where the readings of *keys* belong."""
        new = [key for key in keys if key not in self._place]
        if new:
            self._begin(new, [demand[key] for key in new], now)
        self._keys = keys
        self._own = np.array([self._place[key] for key in keys], dtype=np.intp)
        self._grid = None

    def _begin(self, pairs: list[_Pair], readings: list[Reading], now: float) -> None:
        """Add pairs with their first readings.

        Envoys report a pair from its first request on. The seconds without one count as well: a
        thousand pairs that ask once a minute would else be taken for many times their demand.
        """
        together = len(pairs) > TOGETHER * len(self._place)
        self._place |= {pair: len(self._place) + n for n, pair in enumerate(pairs)}
        interval = max(self.period, self._interval)
        value = np.array([each.value for each in readings])
        at = np.array([now if each.at is None else each.at for each in readings])
        since = np.array([self._since[site] for site, _ in pairs])
        guessed = np.array([each.source is Source.SCRAPE for each in readings])
        silent = np.clip(at - interval - since, 0.0, CALM)
        least = interval / np.maximum(silent, interval)
        started = difference(value * interval, least) > STARTED
        started |= guessed | together | (silent < interval)
        self.rates.extend(
            np.where(started, value, 0.0),
            np.where(started, interval, silent),
            np.where(started, at, at - interval),
        )
