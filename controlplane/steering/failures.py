"""What sending a request to an instance costs in failures: learned per service and instance.

An answer that fails is not an answer, however fast it comes. Each instance's probability of
failing a service's request is followed attempt by attempt, as Envoys report them; of it counts what
the service's other instances do not show as well, beyond chance, for a failure that all show is
the client's. Steering adds that probability times ``failure_cost`` to what a request costs there.

Each attempt is compared with what the others did in the same cycle, and what they do later is no
word of it: clients' errors come and go for all at once, while an instance that fails by itself is
left and hardly tried. Compared with the present, it would be as good as any other for as long as
these have a bad moment.

What gets next to no requests shows next to nothing, so an old failure fades, and probes ask in
the meantime: an instance that answers again is used again.
"""

from __future__ import annotations

import math
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

_BEST = 3.0
"""Standard errors by which the best of the others is taken to be worse than it was seen to be: it
may be the best by chance."""


_KINDS = tuple(FailureClass)


@dataclass(slots=True)
class _Seen:
    """One service at one instance."""

    total: Outcomes
    at: float
    probability: float = 0.0
    common: float = 0.0
    """Of it what the service's other instances showed in the cycles of the same attempts."""
    spread: float = 0.0
    """Variance of `common`, as a multiple of that of one attempt."""
    memory: float = LEAST_MEMORY
    streak: float = 0.0
    """Attempts that failed since one was answered: evidence, however few are remembered."""
    kind: FailureClass = FailureClass.SERVER_ERROR
    """Of the failures that were seen last."""
    doubt: float = 0.0
    """Least probability while nothing was answered since it failed."""
    tried_at: float = 0.0
    """When an attempt last ended."""

    def own(self) -> float:
        """Return the probability of failing what others would not, beyond chance."""
        return max(self.probability - self.common - self._chance(), 0.0)

    def shared(self) -> float:
        """Return the probability of failing what others would fail too, as far as is known."""
        return min(self.probability, self.common + self._chance())

    def _chance(self) -> float:
        variance = max(self.common * (1.0 - self.common), _CHANCE)
        return _SURE * math.sqrt(variance * (1.0 / max(self.memory, self.streak) + self.spread))


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
        for key in [key for key in self._seen if key not in view.outcomes]:
            del self._seen[key]
        ended, failed, memory, shared = (np.zeros(found.shape) for _ in range(4))
        tried = []
        for key, outcome in view.outcomes.items():
            instance, service = key
            if instance not in layout.column or service not in number:
                continue
            place = number[service], layout.column[instance]
            seen = self._seen.get(key)
            if seen is None:
                seen = self._seen[key] = _Seen(Outcomes(), view.at)
            else:
                memory[place], shared[place] = seen.memory, seen.shared()
            ended[place], failed[place] = _news(seen, outcome.total, view.at)
            tried.append((place, seen, outcome.rate))
        level, spread = _others(ended, failed, memory, shared)
        for place, seen, rate in tried:
            if ended[place] > 0:
                part = float(failed[place] / ended[place])
                others = float(level[place]), float(spread[place])
                _learn(seen, float(ended[place]), part, others=others, rate=rate, now=view.at)
            found[place] = seen.own()
        failing = []
        for column, service in zip(*np.nonzero(found.T), strict=True):
            pair = layout.instances[column].name, layout.services[service].service.name
            since = self._since.get(pair, view.at)
            kind = self._seen[pair].kind
            failing.append(Failing(*pair, float(found[service, column]), kind, since))
        known = {(each.instance, each.service): each.since for each in failing}
        ceased = self._since.keys() - known.keys()
        self.recovered = frozenset(instance for instance, _ in ceased)
        self._since, self.failing = known, tuple(failing)
        return found


def _news(seen: _Seen, total: Outcomes, now: float) -> tuple[float, float]:
    """Let what is known fade; return the attempts that ended since the last look, and failed."""
    ended = total.ended - seen.total.ended
    failed = min(max(total.failed - seen.total.failed, 0.0), max(ended, 0.0))
    if failed > 0:
        before = seen.total
        seen.kind = max(_KINDS, key=lambda kind: total.of(kind) - before.of(kind))
    span = max(now - seen.at, 0.0)
    seen.total, seen.at = total, now
    if ended < 0:
        # Counted from 0, by Envoys that restarted or an instance that is another one.
        return 0.0, 0.0
    former = seen.probability
    seen.probability *= 0.5 ** (span / FADE)
    if now - seen.tried_at < LONGEST_DOUBT:
        seen.probability = max(seen.probability, seen.doubt)
    else:
        seen.streak = 0.0
    if former > 0:
        seen.common *= seen.probability / former
    return ended, failed


def _learn(
    seen: _Seen, ended: float, part: float, *, others: tuple[float, float], rate: float, now: float
) -> None:
    """Move the estimate by attempts that *ended*, of which a *part* failed.

    *others* is the part that the service's other instances failed, and the variance of that.
    """
    silence, seen.tried_at = now - seen.tried_at - _SPAN, now
    # The more has been seen, the longer it is remembered; what came before counts for as much.
    longest = min(max(rate * _SPAN, LEAST_MEMORY), MOST_MEMORY)
    seen.memory = min(seen.memory + 0.5 * ended, longest)
    memory = seen.memory
    if part == 0 and silence > 0:
        memory = max(memory * 0.5 ** (silence / _AGES), _AGED)
        seen.memory = max(memory, LEAST_MEMORY)
    gain = 1.0 - (1.0 - 1.0 / memory) ** ended
    level, spread = others
    seen.probability += gain * (part - seen.probability)
    seen.common += gain * (level - seen.common)
    seen.spread = (1.0 - gain) ** 2 * seen.spread + gain**2 * spread
    seen.doubt = min(seen.probability, DOUBT) if part > 0 else 0.0
    seen.streak = seen.streak + ended if part == 1.0 else 0.0


def _others(ended: Array, failed: Array, memory: Array, shared: Array) -> tuple[Array, Array]:
    """Return what part of their attempts the other instances of each failed, and its variance.

    All are (services, instances). That is of the attempts that *ended* in this cycle; if none of
    the others' did, what they were known to fail that is not their own (*shared*, over the
    attempts in *memory*); if nothing is known of others, what the instance failed itself.
    However many of the others fail by themselves, it is no more than the best of them does.
    """
    tried = _but(ended)
    remembered = _but(memory)
    alone = failed / np.maximum(ended, 1e-9)
    known = np.where(remembered > 0, _but(memory * shared) / np.maximum(remembered, 1.0), alone)
    level = np.where(tried > 0, _but(failed) / np.maximum(tried, 1e-9), known)
    level = np.minimum(level, _best_other(ended, failed))
    spread = 1.0 / np.where(tried > 0, tried, np.maximum(remembered, LEAST_MEMORY))
    return level, spread


def _but(values: Array) -> Array:
    """Return the sum over the other instances of each."""
    left: Array = np.maximum(values.sum(axis=1, keepdims=True) - values, 0.0)
    return np.where(left > 1e-9, left, 0.0)


def _best_other(ended: Array, failed: Array) -> Array:
    """Return what the best of the others of each may fail at most: Wilson's interval (1927)."""
    count = ended + _BEST**2
    width = np.sqrt(failed * (ended - failed) / np.maximum(ended, 1e-9) + _BEST**2 / 4)
    most = np.minimum((failed + _BEST**2 / 2 + _BEST * width) / count, 1.0)
    if most.shape[1] < 2:
        return np.ones(most.shape)
    low = np.partition(most, 1, axis=1)
    best, second = low[:, :1], low[:, 1:2]
    return np.where(most == best, second, best)
