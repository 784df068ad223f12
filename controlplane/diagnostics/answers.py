"""Answers that come too fast to be any: a status of 200 may carry an error.

Envoys read no bodies of answers, so to them and to steering an instance that answers every request
with ``200 {"error": ...}`` is the best there is. What gives it away is that the others of the
service need many times as long; that is a hint, not a proof, and so moves no traffic.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from typing import Any

from controlplane.diagnostics.finding import Finding

TIMES_FASTER = 20.0
"""How much longer every other instance of a service takes before one is conspicuous: no two
machines that serve one model differ by as much, and no queue of usual length makes up for it."""
LEAST_RATE = 0.1
"""Requests a second below which a mean says little."""


def examine_answers(fleet: Any) -> Iterator[Finding]:
    """Look at ``/api/v1/fleet`` for instances that answer far faster than all others do."""
    services: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for item in fleet.get("traffic", ()):
        if item["latency"] is not None and item["latency"]["value"] > 0:
            means = services.setdefault(item["service"], {}).setdefault(item["instance"], [])
            means.append((item["rate"]["value"], item["latency"]["value"]))
    for service, instances in services.items():
        ranked = sorted((_mean(means), name) for name, means in instances.items())
        if len(ranked) < 2:
            continue
        (fastest, name), (second, _) = ranked[:2]
        rate = fsum(rate for rate, _ in instances[name])
        if rate >= LEAST_RATE and second > TIMES_FASTER * fastest:
            yield Finding(
                "warning",
                f"{name} answers {service} in {1000 * fastest:.1f} ms, where all others need"
                f" {1000 * second:.0f} ms or more",
                "see the body of one of its answers: Envoys see the status alone, so an error that"
                " is answered with 200 draws requests; a server should answer it with a status from"
                " 500, or say by cats_ready 0 that it is not well",
            )


def _mean(means: list[tuple[float, float]]) -> float:
    """Return the mean latency over requests, of (rate, latency) of each client site."""
    whole = fsum(rate for rate, _ in means)
    if whole <= 0:
        return fsum(latency for _, latency in means) / len(means)
    return fsum(rate * latency for rate, latency in means) / whole
