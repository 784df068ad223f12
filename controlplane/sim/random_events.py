"""What happens to a random fleet: drawn before its load, so that what is left can bear it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from controlplane.sim.fleets import Place
from controlplane.sim.happenings import Happening, What

_TAKEN = 0.3
"""Most of the fleet's capacity that the events of a run touch together."""


@dataclass(frozen=True, slots=True)
class DrawnEvents:
    """Events at times from 0 to 1 of the window, and the least capacity and most demand then."""

    happenings: tuple[Happening, ...] = ()
    demand: float = 1.0
    """Largest factor on all demand."""

    def capacity_factors(self, places: Sequence[Place]) -> np.ndarray:
        """Return what is left of each place's capacity at the worst moment."""
        factors = np.ones(len(places))
        for event in self.happenings:
            left = {
                What.SLOWDOWN: event.amount,
                What.POWER_CAP: event.amount,
                What.TRAINING: 1 - event.amount,
                What.DEATH: 0.0,
            }.get(event.what)
            if left is not None:
                factors *= [left if place.name in event.instances else 1.0 for place in places]
        return factors

    def within(self, start: float, end: float) -> tuple[Happening, ...]:
        """Return the events with their times laid into the window."""
        length = end - start
        return tuple(
            replace(event, at=start + event.at * length, until=start + event.until * length)
            for event in self.happenings
        )


def draw_events(
    rng: np.random.Generator,
    places: Sequence[Place],
    capacities: Sequence[float],
    clients: Mapping[str, float],
    *,
    paths_measured_often: bool,
) -> DrawnEvents:
    """Draw none (half of the time), one or two events.

    *clients* are the client sites with their fractions of the demand.
    Congestion is drawn only where paths are measured every few seconds.
    """
    happenings: list[Happening] = []
    demand, taken = 1.0, 0.0
    kinds = [
        What.SLOWDOWN, What.POWER_CAP, What.TRAINING, What.DEATH, What.FLASH_CROWD, What.SILENCE,
    ]  # fmt: skip
    kinds += [What.CONGESTION] if paths_measured_often else []
    total = sum(capacities)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
        what = kinds[int(rng.integers(len(kinds)))]
        start = float(rng.uniform(0.1, 0.6))
        until = float(rng.uniform(start + 0.15, 1.0)) if rng.random() < 0.5 else math.inf
        event = Happening(what, start, until)
        if what is What.FLASH_CROWD:
            client = str(rng.choice(list(clients)))
            event = replace(event, amount=float(rng.uniform(1.5, 6)), clients=(client,))
            demand *= 1 + (event.amount - 1) * clients[client]
            happenings.append(event)
            continue
        chosen: list[str] = []
        wanted = max(1, int(len(places) * rng.uniform(0, 0.25)))
        for index in rng.permutation(len(places))[:wanted]:
            if taken + capacities[index] / total <= _TAKEN:
                taken += capacities[index] / total
                chosen.append(places[index].name)
        if what is What.CONGESTION and chosen:
            near = {place.site for place in places if place.name in chosen}
            chosen = [place.name for place in places if place.site in near]
        if chosen:
            happenings.append(
                replace(event, amount=_amount(rng, what), instances=tuple(sorted(chosen)))
            )
    return DrawnEvents(tuple(happenings), demand)


def _amount(rng: np.random.Generator, what: What) -> float:
    match what:
        case What.SLOWDOWN | What.POWER_CAP:
            return float(rng.uniform(0.2, 0.8))
        case What.TRAINING:
            return float(rng.uniform(0.2, 0.7))
        case What.CONGESTION:
            return float(rng.uniform(0.02, 0.3))
        case _:
            return 1.0
