"""What caches of prompts save, by what instances count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from controlplane.fleet.view import FleetView, InstanceView
from controlplane.model import Signal
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout


@dataclass(slots=True)
class _Sums:
    """What one instance counted, older counts weighing less."""

    at: float = -np.inf
    queries: float = 0.0
    hits: float = 0.0
    reading: float = 0.0
    """Seconds to first tokens without waits."""
    begun: float = 0.0


@dataclass(slots=True)
class PrefixLearner:
    """What caches of prefixes save, by instance; models share what is found at most."""

    _sums: dict[str, _Sums] = field(default_factory=dict)
    _found: dict[str, float] = field(default_factory=dict)
    """Model -> the largest part of its prompts' tokens that some instance found."""
    _at: float = -np.inf

    def observe(self, view: FleetView, layout: Layout) -> Array:
        """Follow what *view* says is new; return what a lost prefix costs, (instances,).

        In seconds alone in the engine; 0 where nothing is known to be cached.
        """
        known = {instance.name for instance in layout.instances}
        self._sums = {name: each for name, each in self._sums.items() if name in known}
        if view.at > self._at > -np.inf:
            kept = float(np.exp(-(view.at - self._at) / FORGET))
            self._found = {model: most * kept for model, most in self._found.items()}
        self._at = view.at
        losses = np.zeros(len(layout.instances))
        for place, instance in enumerate(layout.instances):
            sums = self._follow(view.instances[instance.name])
            if sums.queries < LEAST_TOKENS or sums.begun <= 0:
                continue
            part = min(sums.hits / sums.queries, 0.99)
            most = max(self._found.get(instance.model, 0.0), part)
            self._found[instance.model] = most
            losses[place] = sums.reading / sums.begun / (1.0 - part) * most
        return losses

    def _follow(self, shown: InstanceView) -> _Sums:
        sums = self._sums.setdefault(shown.name, _Sums())
        rates = {signal: reading.value for signal, reading in shown.rates.items()}
        seen = shown.rates.get(Signal.PREFIX_QUERIES)
        if seen is None or seen.at is None or seen.at <= sums.at or shown.interval <= 0:
            return sums
        kept = float(np.exp(-shown.interval / MEMORY))
        sums.at = seen.at
        for name, gained in _gained(rates).items():
            setattr(sums, name, kept * getattr(sums, name) + gained * shown.interval)
        return sums


MEMORY = 60.0
"""Seconds over which counters are averaged."""

FORGET = 900.0
"""Seconds over which the most that a cache found is forgotten."""

LEAST_TOKENS = 2000.0
"""Tokens that must have been looked up before their part that was found says something."""


def _gained(rates: Mapping[Signal, float]) -> dict[str, float]:
    wait = rates.get(Signal.QUEUE_SUM, 0.0)
    return {
        "queries": rates.get(Signal.PREFIX_QUERIES, 0.0),
        "hits": rates.get(Signal.PREFIX_HITS, 0.0),
        "reading": max(rates.get(Signal.TTFT_SUM, 0.0) - wait, 0.0),
        "begun": rates.get(Signal.TTFT_COUNT, 0.0),
    }
