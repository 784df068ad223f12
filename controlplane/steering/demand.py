"""What each client site asks for, smoothed where it is measured, never where it is decided.

A rate is counted over an interval, so its noise is known: a count of k has the standard error
sqrt(k). The estimate follows quickly when the rate moves by more than that, and slowly otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controlplane.model import Reading
from controlplane.steering.latency import Array

CALM = 20.0
"""Seconds over which an unchanging rate is averaged."""

SURPRISE = 3.5
"""Standard errors by which a rate must differ to count as changed."""


@dataclass(slots=True)
class _Rate:
    """One rate as it is believed."""

    value: float
    seconds: float
    """Time that has been averaged."""
    at: float
    drift: float = 0.0
    """Sum of standardised differences of one sign: a slow change that no single count shows."""


@dataclass(slots=True)
class DemandFilter:
    """The believed demand of every (client site, service)."""

    period: float = 1.0
    """Seconds that a reading stands for."""
    _rates: dict[tuple[str, str], _Rate] = field(default_factory=dict)

    def observe(self, demand: Mapping[tuple[str, str], Reading], *, now: float) -> None:
        """Take in the readings of one cycle; a reading with an old time is counted once."""
        for pair, reading in demand.items():
            at = now if reading.at is None else reading.at
            rate = self._rates.get(pair)
            if rate is None:
                self._rates[pair] = _Rate(reading.value, self.period, at)
                continue
            span = at - rate.at
            if span <= 0:
                continue
            _follow(rate, reading.value, min(span, CALM))
            rate.at = at

    def memory(self, *, now: float) -> list[list[Any]]:
        """Give what is believed as a JSON-ready document; instants become ages."""
        return [
            [*pair, rate.value, rate.seconds, now - rate.at, rate.drift]
            for pair, rate in self._rates.items()
        ]

    def remember(self, memory: Iterable[Any], *, now: float) -> None:
        """Go on from what `memory` gave in another process.

        Raises:
            ValueError, TypeError: it is none; nothing was taken.
        """
        self._rates = {
            (str(site), str(service)): _Rate(
                float(value), float(seconds), now - float(age), float(drift)
            )
            for site, service, value, seconds, age, drift in memory
        }

    def fill(
        self,
        services: tuple[str, ...],
        sites: tuple[str, ...],
        *,
        clients: Mapping[str, int],
        completions: float,
        capacity: float,
    ) -> Array:
        """Give requests a second, shape (services, sites), positive everywhere.

        Without any reading, what the instances complete is split over the sites by their Envoys;
        without that, half of the believed *capacity* is, so that a cold fleet does not send
        everybody to one instance. Pairs that are merely silent get a trickle, so that their first
        requests find sensible shares.
        """
        known = np.zeros((len(services), len(sites)))
        for k, service in enumerate(services):
            for c, site in enumerate(sites):
                rate = self._rates.get((site, service))
                if rate is not None:
                    known[k, c] = rate.value
        total = float(known.sum())
        if total <= 0:
            total = completions if completions > 0 else 0.5 * capacity
            heads = np.array([float(clients.get(site, 0)) for site in sites])
            if heads.sum() <= 0:
                heads = np.ones(len(sites))
            spread = heads / heads.sum() * total / len(services)
            known = np.tile(spread, (len(services), 1))
        return np.maximum(known, max(1e-3 * total / known.size, 1e-6))


def _follow(rate: _Rate, value: float, span: float) -> None:
    """Move *rate* towards *value*, counted over *span* seconds."""
    error = math.sqrt(max(rate.value, 1.0 / max(rate.seconds, span)) / span)
    surprise = (value - rate.value) / error
    same = rate.drift * surprise > 0
    rate.drift = (rate.drift if same else 0.0) + math.copysign(
        max(abs(surprise) - 0.5, 0.0), surprise
    )
    if abs(rate.drift) > SURPRISE + 1.5:
        # The rate is another one now: forget, but for as much as makes the step not overshoot.
        rate.seconds = 0.5 * span
        rate.drift = 0.0
    rate.seconds = min(rate.seconds + span, CALM)
    rate.value += (value - rate.value) * min(1.0, span / rate.seconds)
