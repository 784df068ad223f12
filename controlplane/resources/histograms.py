"""The buckets in which Envoys count how long answers took."""

from __future__ import annotations

from controlplane.config import Config

SECONDS = (
    *(0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5),
    *(2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0),
)
"""Bounds whatever is promised: from a cached embedding to a long answer."""

MOST = 100
"""Bounds in all; more are not read."""


def histogram_bounds(config: Config) -> tuple[float, ...]:
    """Return the upper bounds of the buckets in seconds, rising.

    What is promised is among them, so that the part of the answers that keep it is counted and not
    estimated; Envoy knows two significant digits.
    """
    promised = {each for s in config.services for each in (s.slo.ttft, s.slo.latency) if each}
    return tuple(sorted({*SECONDS, *sorted(promised)[: MOST - len(SECONDS)]}))
