"""What energy costs and causes at a site over a day, and what requests came to at these prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.sim.engine_spec import EngineSpec

JOULES_PER_KWH = 3.6e6
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tariff:
    """A site's price and carbon, which swing about their means with the day."""

    price: float
    """Currency for a kilowatt-hour, in the mean."""
    carbon: float
    """Grams of CO2 for a kilowatt-hour, in the mean."""
    price_swing: float = 0.0
    """Peak above the mean, as a part of it."""
    carbon_swing: float = 0.0
    day: float = 86_400.0
    """Seconds."""
    phase: float = 0.0
    """Where in the day the run begins, 0 to 1."""

    def at(self, times: Floats) -> tuple[Floats, Floats]:
        """Return price and carbon at *times*."""
        wave = np.sin(2 * np.pi * (times / self.day + self.phase))
        price: Floats = self.price * (1 + self.price_swing * wave)
        carbon: Floats = self.carbon * (1 + self.carbon_swing * wave)
        return price, carbon


@dataclass(frozen=True, slots=True)
class Spent:
    """What the mean request of a service came to in one window."""

    money: float
    """Currency."""
    grams: float
    """Of CO2."""


def spend(
    times: Floats,
    work: Floats,
    instance: NDArray[np.int64],
    *,
    engines: Sequence[EngineSpec],
    tariffs: Sequence[Tariff],
) -> tuple[Floats, Floats]:
    """Return the currency and the grams of each request; (requests,) like *times*.

    Args:
        times: when each began.
        work: of each, in seconds alone at speed 1.
        instance: where each was served, as a place in *engines* and *tariffs*; -1 for nowhere.
        engines: what draws the power, in proportion to the slots in use.
        tariffs: of each engine's site.
    """
    money, grams = np.zeros(len(times)), np.zeros(len(times))
    for place, (engine, tariff) in enumerate(zip(engines, tariffs, strict=True)):
        here = instance == place
        watts = (engine.busy_power - engine.idle_power) / engine.slots
        kwh = watts * work[here] / engine.speed / JOULES_PER_KWH
        price, carbon = tariff.at(times[here])
        money[here], grams[here] = kwh * price, kwh * carbon
    return money, grams


def mean_spent(
    times: Floats,
    costs: tuple[Floats, Floats],
    members: Mapping[str, NDArray[np.bool_]],
    windows: Sequence[tuple[str, float, float]],
) -> dict[tuple[str, str], Spent]:
    """Return (window, service) -> what the mean request came to; *members* are by service."""
    found = {}
    for name, start, end in windows:
        inside = (times >= start) & (times < end)
        for service, mine in members.items():
            both = inside & mine
            if both.any():
                money, grams = (float(each[both].mean()) for each in costs)
                found[name, service] = Spent(money, grams)
    return found
