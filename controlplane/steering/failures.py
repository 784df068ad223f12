"""What sending a request to an instance costs in failures: learned per service and instance.

An answer that fails is not an answer, however fast it comes. Each instance's probability of
failing a service's request is followed attempt by attempt, as Envoys report them; of it counts what
the service's other instances do not show as well, beyond chance, for a failure that all show is
the client's. Steering adds that probability times ``failure_cost`` to what a request costs there.

What gets next to no requests shows next to nothing, so an old failure fades, and probes ask in
the meantime: an instance that answers again is used again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from controlplane.fleet.view import FleetView, Outcomes
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout

FADE = 10.0
"""Seconds in which what is known of failures loses half its weight, unless it is seen again."""

LEAST_MEMORY, MOST_MEMORY = 3.0, 50.0
"""Attempts that are remembered: few where few come, so that the first ones count."""

_SPAN = 5.0
"""Seconds of attempts that are remembered between those bounds."""

_SURE = 1.5
"""Standard errors by which an instance must fail more than others for it to be its own fault."""

_CHANCE = 0.02
"""Least variance that chance is taken to have."""


@dataclass(slots=True)
class _Seen:
    """One service at one instance."""

    ended: float
    failed: float
    at: float
    probability: float = 0.0
    memory: float = LEAST_MEMORY


@dataclass(slots=True)
class FailureLearner:
    """The probability of failure of every instance and service that Envoys have tried."""

    recovered: bool = False
    """Whether an instance that failed has just ceased to."""
    _failing: set[tuple[str, str]] = field(default_factory=set)
    _seen: dict[tuple[str, str], _Seen] = field(default_factory=dict)

    def observe(self, view: FleetView, layout: Layout) -> Array:
        """Follow what *view* says is new.

        Returns:
            (services, instances): the probability that a request fails there and would not
            elsewhere, 0 to 1.
        """
        found = np.zeros((len(layout.services), len(layout.instances)))
        if not view.outcomes:
            self._seen.clear()
            self._failing, self.recovered = set(), False
            return found
        number = {each.service.name: k for k, each in enumerate(layout.services)}
        memory = np.zeros(found.shape)
        for key in [key for key in self._seen if key not in view.outcomes]:
            del self._seen[key]
        for key, outcome in view.outcomes.items():
            instance, service = key
            seen = self._seen.get(key)
            if seen is None:
                seen = self._seen[key] = _Seen(0.0, 0.0, view.at)
            _follow(seen, outcome.total, outcome.rate, view.at)
            if instance in layout.column and service in number:
                place = number[service], layout.column[instance]
                found[place], memory[place] = seen.probability, seen.memory
        own = _own_part(found, memory)
        failing = {
            (layout.instances[column].name, layout.services[service].service.name)
            for service, column in zip(*np.nonzero(own), strict=True)
        }
        self.recovered = bool(self._failing - failing)
        self._failing = failing
        return own


def _follow(seen: _Seen, total: Outcomes, rate: float, now: float) -> None:
    """Move the estimate by the attempts that ended since the last look, or let it fade."""
    ended = total.ended - seen.ended
    failed = total.failed - seen.failed
    span = max(now - seen.at, 0.0)
    seen.ended, seen.failed, seen.at = total.ended, total.failed, now
    if ended < 0:
        # Counted from 0, by Envoys that restarted or an instance that is another one.
        return
    seen.probability *= 0.5 ** (span / FADE)
    if ended == 0:
        return
    # The more has been seen, the longer it is remembered; what came before counts for as much.
    longest = min(max(rate * _SPAN, LEAST_MEMORY), MOST_MEMORY)
    seen.memory = min(seen.memory + 0.5 * ended, longest)
    gain = 1.0 - (1.0 - 1.0 / seen.memory) ** ended
    seen.probability += gain * (min(failed / ended, 1.0) - seen.probability)


def _own_part(probability: Array, memory: Array) -> Array:
    """Return what of each *probability* the service's other instances do not show, beyond chance.

    Both are (services, instances); *memory* is the attempts behind each, 0 where there are none.
    """
    known = memory > 0
    weight = np.where(known, memory, 0.0)
    others = weight.sum(axis=1, keepdims=True) - weight
    failing = (weight * probability).sum(axis=1, keepdims=True) - weight * probability
    level = np.where(others > 0, failing / np.maximum(others, 1e-12), probability)
    variance = np.maximum(level * (1.0 - level), _CHANCE)
    chance = _SURE * np.sqrt(variance / np.maximum(memory, 1.0))
    own: Array = np.where(known, np.maximum(probability - level - chance, 0.0), 0.0)
    return own
