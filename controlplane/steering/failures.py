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

from controlplane.fleet.traffic_view import Outcomes
from controlplane.fleet.view import FleetView
from controlplane.model import FailureClass
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.plan import Failing

FADE = 10.0
"""Seconds in which what is known of failures loses half its weight, unless it is seen again."""

LEAST_MEMORY, MOST_MEMORY = 3.0, 50.0
"""Attempts that are remembered: few where few come, so that the first ones count."""

DOUBT, LONGEST_DOUBT = 0.5, 60.0
"""Probability of failure, at most, that does not fade while an instance has answered nothing since
it failed, and the seconds without any attempt after which it does: when Envoys have ejected it, or
no probe reaches it, silence is no sign that it is well."""

_AGED, _AGES = 1.25, 3.0
"""Least attempts that are remembered when good answers come after a silence, and the seconds of it
in which what is remembered loses half its weight: what answers again is soon believed."""

_SPAN = 5.0
"""Seconds of attempts that are remembered between those bounds."""

_SURE = 1.5
"""Standard errors by which an instance must fail more than others for it to be its own fault."""

_CHANCE = 0.02
"""Least variance that chance is taken to have."""


_KINDS = tuple(FailureClass)


@dataclass(slots=True)
class _Seen:
    """One service at one instance."""

    total: Outcomes
    at: float
    probability: float = 0.0
    memory: float = LEAST_MEMORY
    kind: FailureClass = FailureClass.SERVER_ERROR
    """Of the failures that were seen last."""
    doubt: float = 0.0
    """Least probability while nothing was answered since it failed."""
    tried_at: float = 0.0
    """When an attempt last ended."""


@dataclass(slots=True)
class FailureLearner:
    """The probability of failure of every instance and service that Envoys have tried."""

    recovered: frozenset[str] = frozenset()
    """Instances that failed something and have just ceased to."""
    failing: tuple[Failing, ...] = ()
    """What fails now what others do not, in the order of instances and services."""
    _since: dict[tuple[str, str], float] = field(default_factory=dict)
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
            self._since, self.failing, self.recovered = {}, (), frozenset()
            return found
        number = {each.service.name: k for k, each in enumerate(layout.services)}
        memory = np.zeros(found.shape)
        for key in [key for key in self._seen if key not in view.outcomes]:
            del self._seen[key]
        for key, outcome in view.outcomes.items():
            instance, service = key
            seen = self._seen.get(key)
            if seen is None:
                seen = self._seen[key] = _Seen(Outcomes(), view.at)
            _follow(seen, outcome.total, outcome.rate, view.at)
            if instance in layout.column and service in number:
                place = number[service], layout.column[instance]
                found[place], memory[place] = seen.probability, seen.memory
        own = _own_part(found, memory)
        failing = []
        for column, service in zip(*np.nonzero(own.T), strict=True):
            pair = layout.instances[column].name, layout.services[service].service.name
            since = self._since.get(pair, view.at)
            kind = self._seen[pair].kind
            failing.append(Failing(*pair, float(own[service, column]), kind, since))
        known = {(each.instance, each.service): each.since for each in failing}
        ceased = self._since.keys() - known.keys()
        self.recovered = frozenset(instance for instance, _ in ceased)
        self._since, self.failing = known, tuple(failing)
        return own


def _follow(seen: _Seen, total: Outcomes, rate: float, now: float) -> None:
    """Move the estimate by the attempts that ended since the last look, or let it fade."""
    ended = total.ended - seen.total.ended
    failed = total.failed - seen.total.failed
    span = max(now - seen.at, 0.0)
    before = seen.total
    seen.total, seen.at = total, now
    if ended < 0:
        # Counted from 0, by Envoys that restarted or an instance that is another one.
        return
    seen.probability *= 0.5 ** (span / FADE)
    if now - seen.tried_at < LONGEST_DOUBT:
        seen.probability = max(seen.probability, seen.doubt)
    if ended == 0:
        return
    silence, seen.tried_at = now - seen.tried_at - _SPAN, now
    if failed > 0:
        seen.kind = max(_KINDS, key=lambda kind: total.of(kind) - before.of(kind))
    # The more has been seen, the longer it is remembered; what came before counts for as much.
    longest = min(max(rate * _SPAN, LEAST_MEMORY), MOST_MEMORY)
    seen.memory = min(seen.memory + 0.5 * ended, longest)
    memory = seen.memory
    if failed == 0 and silence > 0:
        memory = max(memory * 0.5 ** (silence / _AGES), _AGED)
        seen.memory = max(memory, LEAST_MEMORY)
    gain = 1.0 - (1.0 - 1.0 / memory) ** ended
    seen.probability += gain * (min(failed / ended, 1.0) - seen.probability)
    seen.doubt = min(seen.probability, DOUBT) if failed > 0 else 0.0


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
