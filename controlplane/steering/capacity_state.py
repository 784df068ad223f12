"""What is remembered of every instance's work, and how it is saved and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.latency import Array
from controlplane.steering.observation import Gauge
from controlplane.steering.saved import MOST, read_array, read_number
from controlplane.steering.token_rates import SLOWDOWNS, SUMS, WINDOW

OBSERVATIONS = 8
"""Observations among which a change is looked for."""


@dataclass(slots=True)
class CapacityState:
    """What is remembered of all instances; the first axis is theirs."""

    names: tuple[str, ...]
    count: Array
    """(instances,): completions remembered."""
    exposure: Array
    """(instances, slowdowns): work remembered."""
    score: Array
    """(instances, slowdowns): log likelihood remembered."""
    full: Array
    """(instances,): requests running when others waited; not a number if never seen."""
    highest: Array
    """(instances,): most requests running, slowly forgotten."""
    window_count: Array
    """(instances, window): latest completions, newest last."""
    window_exposure: Array
    """(instances, window, slowdowns)."""
    claimed: Array
    """(instances,): smoothed number inside by its own word."""
    observed: Array
    """(instances,): smoothed number inside by Envoys' word."""
    gauges: list[Gauge | None]
    changed_at: Array
    """(instances,): when a change was last noticed; not a number if never."""
    deviation: Array
    """(instances,): squared deviations of completions from the estimate, over Poisson's."""
    deviations: Array
    """(instances,): how many of them are remembered."""
    tokens: Array
    """(instances, slowdowns, SUMS): see `controlplane.steering.token_rates`."""
    surprise: Array
    """(instances, intervals, 3): how far the latest tokens were from what was expected."""
    written: Array
    """(instances, 3): prompt tokens, output tokens and the completions that these were counted
    beside."""
    since: Array
    """(instances, 2): completions, and work, since tokens last said how fast a batch is."""
    doubted: Array
    """(instances,): 1 where these do not fit what tokens said, else 0."""

    @property
    def understated(self) -> NDArray[np.bool_]:
        """Return which instances claim to hold much less than Envoys' latencies imply."""
        found: NDArray[np.bool_] = (self.observed >= 1.0) & (self.claimed < 0.5 * self.observed)
        return found

    @staticmethod
    def new(names: tuple[str, ...]) -> CapacityState:
        """Return the state of instances that have shown nothing."""
        size, shapes = len(names), len(SLOWDOWNS)
        return CapacityState(
            names=names,
            count=np.zeros(size),
            exposure=np.zeros((size, shapes)),
            score=np.zeros((size, shapes)),
            full=np.full(size, np.nan),
            highest=np.zeros(size),
            window_count=np.zeros((size, OBSERVATIONS)),
            window_exposure=np.zeros((size, OBSERVATIONS, shapes)),
            claimed=np.zeros(size),
            observed=np.full(size, np.nan),
            gauges=[None] * size,
            changed_at=np.full(size, np.nan),
            deviation=np.zeros(size),
            deviations=np.zeros(size),
            tokens=np.zeros((size, shapes, SUMS)),
            surprise=np.zeros((size, WINDOW, 3)),
            written=np.zeros((size, 3)),
            since=np.zeros((size, 2)),
            doubted=np.zeros(size),
        )

    def keep(self, names: tuple[str, ...]) -> CapacityState:
        """Return the state of *names*: known ones as they are, others new."""
        fresh = CapacityState.new(names)
        known = {name: position for position, name in enumerate(self.names)}
        for position, name in enumerate(names):
            old = known.get(name)
            if old is None:
                continue
            fresh.gauges[position] = self.gauges[old]
            for field in _ARRAYS:
                getattr(fresh, field)[position] = getattr(self, field)[old]
        return fresh

    def saved(self, position: int, now: float) -> dict[str, Any]:
        """Return what was learned of one instance; what it has never shown is left out."""
        found: dict[str, Any] = {}
        for field in _ARRAYS:
            value = getattr(self, field)[position]
            if field == "changed_at":
                found["age"] = _plain(now - value)
            elif field not in _OF_TOKENS or np.any(value):
                found[field] = _plain(value)
        return found

    def read(self, saved: Mapping[str, Any], position: int, *, now: float) -> None:
        """Continue one instance's estimates from what `saved` returned.

        Raises:
            ValueError, KeyError, TypeError: they are none; nothing is changed.
        """
        found: dict[str, Any] = {}
        for field in _ARRAYS:
            if field == "changed_at":
                age = saved["age"]
                found[field] = np.nan if age is None else now - read_number(age, least=-MOST)
                continue
            if field in _LATER and field not in saved:
                continue
            like = np.asarray(getattr(self, field)[position])
            least = -MOST if field in _SIGNED else 0.0
            found[field] = read_array(saved[field], like=like, least=least)
        for field, value in found.items():
            getattr(self, field)[position] = value


_ARRAYS = (
    "count", "exposure", "score", "full", "highest", "window_count", "window_exposure",
    "claimed", "observed", "changed_at", "deviation", "deviations", "tokens", "surprise", "written",
    "since", "doubted",
)  # fmt: skip

_OF_TOKENS = ("tokens", "surprise", "written", "since", "doubted")
_LATER = ("deviation", "deviations", *_OF_TOKENS)
"""Those that earlier versions did not save."""

_SIGNED = ("score", "tokens", "surprise", "written")
"""Those that may be negative: logarithms of likelihoods, products, and parts of requests begun."""


def _plain(value: Any) -> Any:
    """Return floats, and none for what is not a number."""
    if np.ndim(value):
        return [_plain(each) for each in value]
    return None if np.isnan(value) else round(float(value), 9)
