"""A day of tariffs or of carbon, which moves what can wait to where energy is cheap or clean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Kind, Place, build_config
from controlplane.sim.results import Outcome
from controlplane.sim.suite import Case, Measure, Runs
from controlplane.sim.tariffs import JOULES_PER_KWH, Tariff
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work

SITES = 4
DAY, SHORT_DAY = 3600.0, 1200.0
"""Seconds that stand for a day."""
WORTH = 0.2
"""Seconds of delay that the energy of a mean request is worth to a sensitive service."""
_START = 60.0
_PLAIN = "controlplane:moneyless"
_WORK = Work(2.0)
_PRICE, _CARBON = 0.3, 400.0
_WATTS = 40.0
"""Above idle, for each slot in use."""


def draw_tariff_fleet(
    seed: int, *, day: float = DAY, load: float = 0.3, swing: float = 0.6, carbon: bool = False
) -> Fleet:
    """Draw four sites whose prices swing with the day, each at its time; long, as it is a list.

    Args:
        seed: of sizes, places, phases and demands.
        day: seconds of it.
        load: of all capacity; a third of it is of a sensitive service, the rest can wait.
        swing: of prices, or with *carbon* of carbon, about their means.
        carbon: whether carbon swings and has a price, instead of energy.
    """
    rng = np.random.default_rng((seed, 37))
    places = []
    for number in range(SITES):
        slots, speed = int(rng.choice((16, 24, 32))), float(rng.uniform(0.98, 1.02))
        engine = EngineSpec(slots, speed, idle_power=100.0, busy_power=100.0 + _WATTS * slots)
        places.append(Place(f"site-{number}-a", f"site-{number}", engine))
    spots = rng.random((SITES, 2))
    rtt = {
        (f"site-{one}", f"site-{other}"): 0.002
        if one == other
        else 0.004 + 0.050 * float(np.linalg.norm(spots[one] - spots[other]))
        for one in range(SITES)
        for other in range(SITES)
    }
    total = load * sum(place.engine.capacity(_WORK.mean) for place in places)
    sizes = rng.uniform(0.5, 1.5, SITES)
    streams = [
        Stream(f"site-{n}", service, float(total * part * sizes[n] / sizes.sum()), work=_WORK)
        for service, part in (("chat", 1 / 3), ("batch", 2 / 3))
        for n in range(SITES)
    ]
    phases = (np.arange(SITES) + rng.uniform(-0.3, 0.3, SITES)) / SITES
    tariffs = {
        f"site-{n}": Tariff(
            0.0 if carbon else _PRICE,
            _CARBON,
            0.0 if carbon else swing,
            swing if carbon else 0.0,
            day,
            float(phases[n]),
        )
        for n in range(SITES)
    }
    mean = _WATTS * _WORK.mean / JOULES_PER_KWH
    # A kilogram of CO2 costs so much that a mean request's is worth what its energy is otherwise.
    steering = {"energy_value": WORTH / (_PRICE * mean)}
    steering |= {"carbon_price": 1e3 * _PRICE / _CARBON} if carbon else {}
    kinds = (Kind("chat", "sensitive"), Kind("batch", "tolerant"))
    config = build_config(
        places,
        rtt,
        services=kinds,
        known=True,
        work=_WORK.mean,
        period=2.0,
        steering=steering,
    )
    engines = {place.name: place.engine for place in places}
    return Fleet("tariffs", config, engines, tuple(streams), rtt, tariffs=tariffs)


def tariff_cases() -> list[Case]:
    """Return the cases, each with the limits that were promised for it."""
    return [
        Case(
            f"a day of {what}",
            _trial(carbon=what == "carbon"),
            ("controlplane", _PLAIN),
            (
                Measure(f"{figure} of what can wait / without", limit, _spent(figure)),
                Measure("mean of sensitive / without", 1.02, _latency),
                Measure("part saved, as predicted, off by", 0.05, _prediction_error(figure), ""),
            ),
            most_seeds=3,
        )
        for what, figure, limit in (("tariffs", "money", 0.75), ("carbon", "grams", 0.7))
    ]


def _trial(*, carbon: bool) -> Callable[[int, bool], Trial]:
    def trial(seed: int, shorter: bool) -> Trial:
        day = SHORT_DAY if shorter else DAY
        fleet = draw_tariff_fleet(seed, day=day, carbon=carbon)
        window: Window = ("day", _START, _START + day)
        return Trial(fleet.name, fleet, window[2], (window,))

    return trial


def _both(runs: Runs, figure: Callable[[Outcome], float]) -> float:
    return figure(runs["controlplane"]) / figure(runs[_PLAIN])


def _spent(figure: str) -> Callable[[Runs], float]:
    """Return our money or grams a request of what can wait, over those without prices."""
    return lambda runs: _both(runs, lambda each: getattr(each.spent["day", "batch"], figure))


def _latency(runs: Runs) -> float:
    return _both(runs, lambda each: each.services["day", "chat"].mean)


def _prediction_error(figure: str) -> Callable[[Runs], float]:
    """Return by how much the part saved differs from what plans said, as a dry run shows it."""

    def of(runs: Runs) -> float:
        said = _both(runs, lambda each: getattr(each.predicted_spent["batch"], figure))
        return abs(said - _spent(figure)(runs))

    return of
