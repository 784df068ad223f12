"""When not to believe the model.

When requests take much longer than was predicted, and much longer than they used to, the model is
wrong about something that it cannot see. Shares by capacity are used until that is over, and for a
while; every such fallback is counted and reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlplane.fleet.view import FleetView

FALLBACK = 30.0
"""Seconds that a fallback lasts at least."""

REFUTED_AFTER = 8.0
"""Seconds for which predictions must be refuted."""

_WRONG = 2.5
"""Observed over predicted latency that refutes a prediction."""

_WORSE = 2.0
"""Observed latency over what it used to be that makes a wrong prediction matter."""


@dataclass(slots=True)
class ModelMonitor:
    """Predictions against observations of Envoys."""

    usual: float = 0.0
    """Observed mean latency in good times, seconds."""
    since: float | None = None
    """When predictions began to be refuted."""
    until: float = -np.inf
    """When the fallback ends."""
    miss: float | None = None
    """The newest absolute error, as a part of the observed latency."""
    error: float | None = None
    """Smoothed absolute error of the predicted mean latency, as a part of the observed (MAPE)."""

    def observe(self, predicted: float | None, view: FleetView, *, standing: float = 0.0) -> bool:
        """Compare what was *predicted* for now with what *view* shows; return whether to fall back.

        *standing* is the latency that the requests known to be inside amount to, seconds (Little's
        law): queues that are seen, and being led back, refute nothing.
        """
        now = view.at
        observed = observe_latency(view)
        self.miss = None
        if predicted is None or observed is None or predicted <= 0:
            return now < self.until
        self.miss = miss = abs(predicted - observed) / observed
        self.error = miss if self.error is None else 0.95 * self.error + 0.05 * miss
        known = max(predicted, standing)
        wrong = observed > _WRONG * known and observed > _WORSE * self.usual > 0
        if not wrong:
            self.since = None
            rate = 0.02 if self.usual else 1.0
            if now >= self.until:
                self.usual += rate * (observed - self.usual)
        elif self.since is None:
            self.since = now
        elif now - self.since >= REFUTED_AFTER:
            self.until = now + FALLBACK
        return now < self.until


def observe_latency(view: FleetView) -> float | None:
    """Return the mean latency that Envoys observe over all requests, seconds."""
    total = weight = 0.0
    for seen in view.traffic.values():
        if seen.latency is not None and seen.rate.value > 0:
            total += seen.rate.value * seen.latency.value
            weight += seen.rate.value
    return total / weight if weight > 0 else None
