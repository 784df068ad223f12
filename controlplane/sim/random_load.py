"""What the instances of a drawn fleet can do, and how hard and how long it is driven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Place
from controlplane.sim.workload import Work


@dataclass(frozen=True, slots=True)
class Scale:
    """How large fleets may be and how long they run."""

    instances: tuple[int, int] = (3, 300)
    pairs: int = 10_000
    """Most pairs of client site and instances' site."""
    requests: tuple[int, int] = (4_000, 50_000)
    """Requests wanted of a run, least and most."""
    warm: float = 20.0
    """Seconds before the figures begin; three mean lengths of the longest service are added."""
    span: float = 60.0
    """Least seconds of figures; twelve mean lengths of the longest service, if they are more."""
    longest: float = 8.0
    """Most seconds of the mean request, as long as `requests` allows."""


FULL = Scale()
SMALL = Scale((3, 16), 300, (4_000, 9_000), longest=6.0)
"""What many users have: few instances, so that each is a good part of what there is."""
SHORT = Scale((3, 40), 100, (1_000, 3_000), warm=10.0, span=20.0, longest=2.0)
"""For the tests of every change."""


@dataclass(frozen=True, slots=True)
class DrawnService:
    """One service of a drawn fleet."""

    name: str
    models: tuple[str, ...]
    work: Work
    part: float
    """Of the work that is asked for."""


class Capability:
    """What the places can do for the services, and how tightly that binds."""

    def __init__(self, places: Sequence[Place], services: Sequence[DrawnService]) -> None:
        self._services = services
        self._models = sorted({place.model for place in places})
        self.capacity = np.array([self.capacity_of(place) for place in places])
        """Work a second by place, with the services' mix; work is seconds alone at speed 1."""
        self._owner = np.array([self._models.index(place.model) for place in places])
        self._places = places

    def capacity_of(self, place: Place) -> float:
        """Return the work a second with the mix of the services that may go there."""
        own = [s for s in self._services if place.model in s.models] or list(self._services)
        parts = np.array([service.part for service in own])
        need = [
            place.engine.capacity(s.work.mean, s.work.prompt, s.work.output) * s.work.mean
            for s in own
        ]
        return float(parts.sum() / (parts / need).sum())

    def tightness(self, factors: np.ndarray) -> float:
        """Return load per work: the largest, over sets of services, of need over what serves it.

        By Hall's theorem that is the least largest load that any split reaches.
        """
        by_model = np.bincount(self._owner, self.capacity * factors, len(self._models))
        worst = 0.0
        for size in range(1, len(self._services) + 1):
            for group in combinations(self._services, size):
                reach = {model for service in group for model in service.models}
                total = sum(by_model[self._models.index(model)] for model in reach)
                worst = max(worst, sum(s.part for s in group) / max(total, 1e-12))
        return worst

    def left(self, factors: np.ndarray) -> float:
        """Return what is left of the capacity that binds, as a part of it."""
        return self.tightness(np.ones(len(factors))) / self.tightness(factors)

    def rates(self, load: float) -> list[float]:
        """Return each service's requests a second at *load*."""
        work = load / self.tightness(np.ones(len(self._places)))
        return [float(work * service.part / service.work.mean) for service in self._services]

    def lengths(self) -> list[float]:
        """Return each service's mean seconds alone, over places by their capacity."""
        parts = self.capacity / self.capacity.sum()
        return [
            float(
                sum(
                    part * place.engine.alone(s.work.mean, s.work.prompt, s.work.output)
                    for part, place in zip(parts, self._places, strict=True)
                )
            )
            for s in self._services
        ]


def fit_time(
    chunk: Capability, load: float, scale: Scale
) -> tuple[float, float, tuple[float, float]]:
    """Return (factor on all lengths, duration, window) that make a run long enough and cheap."""
    longest, rate = max(chunk.lengths()), sum(chunk.rates(load))
    stretch = 1.0
    for _ in range(20):
        warm = scale.warm + 3 * stretch * longest
        duration = warm + max(scale.span, 12 * stretch * longest)
        requests = rate / stretch * duration
        least, most = scale.requests
        wanted = requests / float(np.clip(requests, least, most))
        stretch = float(min(stretch * wanted, scale.longest / longest))
        if abs(wanted - 1) < 0.01:
            break
    warm = scale.warm + 3 * stretch * longest
    span = max(scale.span, 12 * stretch * longest)
    return stretch, warm + span, (warm, warm + span)


def stretch_engine(engine: EngineSpec, factor: float) -> EngineSpec:
    """Make an engine that counts tokens slower by *factor*."""
    if engine.kind == "work":
        return engine
    return replace(
        engine, prefill_rate=engine.prefill_rate / factor, step_time=engine.step_time * factor
    )


def lengthen(service: DrawnService, factor: float) -> DrawnService:
    """Make a service whose requests take *factor* times as long."""
    return replace(service, work=replace(service.work, mean=service.work.mean * factor))
