"""Real Envoys that are steered against the same Envoys balancing alone, on the same requests.

Twelve unequal instances at four sites, an Envoy at each, then forty at eight; a minute of Poisson
arrivals from a cold start; at half of it two (five) large instances drop to 40 % of their speed.
`testbed.tools.envoy_comparison` holds the whole setting.
The ways to balance run one after the other.
A row whose requests were sent late comes from a starved machine and has to be measured again.
Run alone: ``python -m benchmarks.real_envoys``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

from benchmarks.figures import Row, Target, main
from testbed.tools.envoy_comparison import LATE, run_trials
from testbed.tools.lone_envoys import Balancing
from testbed.tools.trials import FORTY, Result, Trial, percentile

TITLE = "Real Envoys: latency of requests, steered and by Envoy's own balancing"
BOUND = 0.75
"""Of the 99th percentile of each of Envoy's own policies."""
WARM = 10.0
"""Seconds after which a cold start is over."""
REFERENCES = (Balancing.ROUND_ROBIN, Balancing.LEAST_REQUEST)


def run_all(*, quick: bool = False) -> list[Row]:
    """Run the schedule under every way to balance; a short one of twelve under the main three."""
    if quick:
        short = Trial(length=25.0, slow_at=12.5, timeout=15.0)
        return _rows("", short, (Balancing.STEERED, *REFERENCES))
    return [
        *_rows("", Trial(), tuple(Balancing)),
        *_rows("40 instances: ", Trial(FORTY), (Balancing.STEERED_BLIND, *REFERENCES)),
    ]


def _rows(title: str, trial: Trial, balancings: Sequence[Balancing]) -> list[Row]:
    results = {
        balancing: asyncio.run(run_trials(trial, (balancing,)))[balancing]
        for balancing in balancings
    }
    return [_row(title, trial, result, results) for result in results.values()]


def _row(title: str, trial: Trial, result: Result, results: Mapping[Balancing, Result]) -> Row:
    name = f"{title}{result.balancing}"
    latencies = result.latencies()
    figures = {
        "requests": float(len(latencies)),
        "failed": float(result.failed),
        "mean s": math.fsum(latencies) / len(latencies),
        "p99 s": percentile(latencies, 0.99),
        "p99 warm s": percentile(result.latencies(WARM), 0.99),
        "p99 after drop s": percentile(result.latencies(trial.slow_at), 0.99),
        "p99 sent late s": result.late,
    }
    on_time = Target("p99 sent late s", LATE)
    if result.balancing not in {Balancing.STEERED, Balancing.STEERED_BLIND}:
        return Row(name, figures, (on_time,))
    ratios = {
        f"p99 / {each}": figures["p99 s"] / percentile(results[each].latencies(), 0.99)
        for each in REFERENCES
    }
    return Row(name, figures | ratios, (on_time, *(Target(figure, BOUND) for figure in ratios)))


if __name__ == "__main__":
    main(TITLE, run_all)
