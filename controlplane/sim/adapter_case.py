"""Many adapters of one base model on few instances, each of which holds a few of them."""

from __future__ import annotations

import numpy as np

from controlplane.config import Config
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.results import Outcome
from controlplane.sim.suite import Case, Measure, Runs, ratio
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work

ADAPTERS, INSTANCES, ROOM, SITES = 200, 12, 8, 3
LOAD_TIME = 1.0
_RATE = 80.0
_WINDOW: Window = ("steady", 140.0, 240.0)
_ENGINE = EngineSpec(16, 1.0, 0.02, max_loaded=ROOM, load_time=LOAD_TIME)


def adapter_case() -> Case:
    """Return the case: loadings a request beside random placement's, and what clients see."""
    return Case(
        f"{ADAPTERS} adapters on {INSTANCES} instances",
        _trial,
        ("controlplane", "random"),
        (
            Measure("loadings / random", 0.25, _loadings),
            Measure("mean steady / random", 1.0, ratio("steady", "mean", "random")),
        ),
        most_seeds=3,
    )


def _trial(seed: int, _shorter: bool) -> Trial:
    fleet = draw_adapter_fleet(seed)
    return Trial(fleet.name, fleet, _WINDOW[2], (_WINDOW,))


def draw_adapter_fleet(
    seed: int, *, adapters: int = ADAPTERS, instances: int = INSTANCES, rate: float = _RATE
) -> Fleet:
    """Draw which adapter is how popular (Zipf); instances are alike, at three sites in a square."""
    rng = np.random.default_rng((seed, 17))
    popularity = 1 / np.arange(1, adapters + 1)
    popularity = rng.permutation(popularity / popularity.sum())
    sites = [f"site-{number}" for number in range(SITES)]
    spots = rng.random((SITES, 2))
    rtt = {
        (client, site): 0.004 + 0.02 * float(np.linalg.norm(spots[c] - spots[s]))
        for c, client in enumerate(sites)
        for s, site in enumerate(sites)
    }
    names = [f"adapter-{number:03d}" for number in range(adapters)]
    config = Config.model_validate(
        {
            "version": 1,
            "sites": [{"name": name, "kind": "edge"} for name in sites],
            "models": [{"name": "base"}]
            + [
                {"name": name, "base": "base", "kind": "customised", "load_time": f"{LOAD_TIME}s"}
                for name in names
            ],
            "services": [
                {"name": name, "match": [{"model": name}], "models": [{"name": name}]}
                for name in names
            ],
            "instances": [
                {
                    "name": f"instance-{number:02d}",
                    "site": sites[number % SITES],
                    "address": f"10.0.0.{number + 1}:8000",
                    "models": names,
                    "max_loaded": ROOM,
                }
                for number in range(instances)
            ],
            "network": {
                "paths": [
                    {"from": client, "to": site, "rtt": f"{seconds}s"}
                    for (client, site), seconds in rtt.items()
                    if client < site
                ]
            },
        }
    )
    work = Work(0.5)
    streams = tuple(
        Stream(client, name, rate * float(share) / SITES, work=work)
        for client in sites
        for name, share in zip(names, popularity, strict=True)
    )
    engines = {instance.name: _ENGINE for instance in config.instances}
    return Fleet(f"{adapters} adapters", config, engines, streams, rtt)


def _loadings(runs: Runs) -> float:
    """Return the loadings in the window over those of random placement."""
    return loadings(runs["controlplane"]) / loadings(runs["random"])


def loadings(outcome: Outcome) -> float:
    """Return how many models were loaded in the window of the trial."""
    _, start, end = _WINDOW
    count: float = outcome.loadings[int(end) - 1] - outcome.loadings[int(start)]
    return float(count)
