"""Claims against observation: what an instance says of itself beside what Envoys see of it.

An instance that claims to be idle draws traffic; if Envoys see it fail, hang or dawdle, its claim
is wrong, whatever the reason, and it must lose weight.
Trust falls smoothly, towards a floor that keeps some traffic as evidence, and recovers slower
than it fell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controlplane.model import COUNTERS, Signal

WINDOW = 5.0
"""Seconds after which what was claimed or observed counts for a third."""
FLOOR = 0.1
FALL = 4.0
"""Seconds over which trust falls by about two thirds of its way."""
RECOVERY = 15.0
"""Seconds over which it recovers as much."""
WATCH_PERIOD = 1.0
"""Seconds between two judgements of an instance that makes no claims."""
REFUTED = 100.0
"""Factor between a claimed latency and the observed one that no network or queue explains: other
units, or a time that ends before the answer does."""
FEW_ANSWERS = 2.0
"""Answers that suffice where the difference is a factor of `REFUTED`."""
MIN_ANSWERS = 5.0
"""Answers in the window below which nothing is concluded from them."""

_GAUGES = frozenset({Signal.RUNNING, Signal.WAITING})
_LATENCIES = frozenset(
    {
        *(Signal.LATENCY_SUM, Signal.LATENCY_COUNT, Signal.TTFT_SUM, Signal.TTFT_COUNT),
        *(Signal.QUEUE_SUM, Signal.QUEUE_COUNT),
    }
)
_COUNTED = (
    Signal.COMPLETED,
    Signal.FAILED,
    Signal.LATENCY_SUM,
    Signal.LATENCY_COUNT,
)


@dataclass(frozen=True, slots=True)
class Claims:
    """What an instance says of itself."""

    inside: float | None
    """Requests running and waiting."""
    completed: float | None
    """Requests a second that it answers."""
    failed: float
    """Requests a second that it says have failed."""
    latency: float | None
    """Mean seconds of an answer."""


NO_CLAIMS = Claims(inside=None, completed=None, failed=0.0, latency=None)
"""Of an instance that nothing is read of, or whose account is not believed."""


class ClaimWindow:
    """An instance's claims, averaged with the same decay as what Envoys observe.

    A load that just fell is still in the Envoys' averages; only like may be compared with like.
    """

    __slots__ = ("_counts", "_inside", "_inside_weight", "_seconds")

    def __init__(self) -> None:
        self._inside = 0.0
        self._inside_weight = 0.0
        self._counts: dict[Signal, float] = {}
        self._seconds = 0.0

    def add(self, signals: Mapping[Signal, float], *, elapsed: float) -> None:
        """Add a report's gauges, *elapsed* seconds after the last."""
        decay = math.exp(-elapsed / WINDOW)
        self._inside *= decay
        self._inside_weight *= decay
        self._seconds *= decay
        for signal in self._counts:
            self._counts[signal] *= decay
        if Signal.RUNNING in signals:
            weight = 1 - decay if self._inside_weight else 1.0
            inside = signals[Signal.RUNNING] + signals.get(Signal.WAITING, 0.0)
            self._inside += weight * inside
            self._inside_weight += weight

    def count(self, rates: Mapping[Signal, float], *, interval: float) -> None:
        """Add the counters' growth over an interval."""
        self._seconds += interval
        for signal in _COUNTED:
            if signal in rates:
                self._counts[signal] = self._counts.get(signal, 0.0) + rates[signal] * interval

    def claims(self) -> Claims:
        """Return the averages."""
        counts, seconds = self._counts, max(self._seconds, 1e-9)
        completed = counts.get(Signal.COMPLETED, counts.get(Signal.LATENCY_COUNT))
        answers = counts.get(Signal.LATENCY_COUNT, 0.0)
        return Claims(
            inside=self._inside / self._inside_weight if self._inside_weight > 0 else None,
            completed=None if completed is None else completed / seconds,
            failed=counts.get(Signal.FAILED, 0.0) / seconds,
            latency=counts[Signal.LATENCY_SUM] / answers
            if answers > 1e-6 and Signal.LATENCY_SUM in counts
            else None,
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """What all Envoys together see of an instance, averaged over the last seconds."""

    rate: float
    """Requests a second sent to it."""
    in_progress: float
    """Requests that wait for its answer."""
    answers: float
    """Answers in the window, failures included."""
    answer_rate: float
    """Successful answers a second."""
    failures: float
    """Share of the answers that failed, 0 to 1."""
    latency: float | None
    """Mean seconds of an answer, without the network's round trip."""
    rtt: float
    """Mean round trip to the Envoys that use it, seconds."""
    answered: float = 0.0
    """Successful answers since it was first seen; only grows."""


def judge(claims: Claims, observed: Observation) -> tuple[float, str]:
    """Return the trust that *claims* deserve, `FLOOR` to 1, and what speaks against them."""
    deserved = 1.0
    reasons: list[str] = []
    if claims.inside is not None:
        # Requests on the wire are in progress too, and belong to no one.
        unexplained = observed.in_progress - observed.rate * observed.rtt - 2 * claims.inside
        if unexplained > 3:
            deserved *= 3 / unexplained
            reasons.append(
                f"claims {claims.inside:.0f} requests inside, Envoys wait for "
                f"{observed.in_progress:.0f}"
            )
    elif observed.latency is not None:
        # By Little's law, as many are in progress as come in while one is answered.
        explained = observed.rate * observed.rtt + 3 * observed.answer_rate * observed.latency
        unexplained = observed.in_progress - explained
        if unexplained > 3:
            deserved *= 3 / unexplained
            reasons.append(
                f"Envoys wait for {observed.in_progress:.0f} answers and get "
                f"{observed.answer_rate:.1f} a second"
            )
    if observed.answers >= MIN_ANSWERS:
        answered = observed.answer_rate
        if claims.completed is not None and claims.completed < 0.1 * answered:
            deserved *= 0.3
            reasons.append(
                f"claims {claims.completed:.1f} answers a second, Envoys get {answered:.1f}"
            )
        claimed_failures = claims.failed / max(claims.failed + (claims.completed or 0.0), 1e-9)
        hidden = observed.failures - claimed_failures
        if hidden > 0.1:
            deserved *= 1 - hidden
            reasons.append(
                f"{observed.failures:.0%} of its answers fail, it claims {claimed_failures:.0%}"
            )
        if claims.latency is not None and observed.latency is not None:
            plausible = 3 * claims.latency + 0.25
            if observed.latency > plausible:
                deserved *= plausible / observed.latency
                reasons.append(
                    f"claims {claims.latency:.2f} s an answer, Envoys wait {observed.latency:.2f} s"
                )
    return max(FLOOR, deserved), "; ".join(reasons)


@dataclass(frozen=True, slots=True)
class RefutedClaims:
    """Signals that what Envoys measure refutes: a fault of the metrics, not of the instance."""

    signals: frozenset[Signal]
    reason: str


def refute(claims: Claims, observed: Observation) -> tuple[RefutedClaims, ...]:
    """Return what of *claims* cannot be, while the instance answers as it should."""
    if observed.answers < FEW_ANSWERS:
        return ()
    found: list[RefutedClaims] = []
    if claims.latency is not None and observed.latency is not None:
        # What Envoys measure is known no better than the round trip that was taken off.
        measured = max(observed.latency, observed.rtt, 1e-3)
        too_short = claims.latency * REFUTED < observed.latency and observed.latency > 0.02
        if too_short or claims.latency > REFUTED * measured:
            reason = (
                f"claims {claims.latency:.2g} s an answer, Envoys measure "
                f"{observed.latency:.2g} s: "
                "its latencies are of something else"
            )
            found.append(RefutedClaims(_LATENCIES, reason))
    enough = observed.answers >= MIN_ANSWERS
    if (
        enough
        and claims.completed is not None
        and claims.completed < observed.answer_rate / REFUTED
    ):
        reason = (
            f"claims {claims.completed:.1f} answers a second, Envoys get "
            f"{observed.answer_rate:.1f}: its counters are of something else"
        )
        found.append(RefutedClaims(COUNTERS, reason))
    if enough and claims.inside is not None and observed.latency is not None:
        wire = observed.rate * observed.rtt
        if (
            observed.in_progress - wire - 2 * claims.inside > 3 + observed.in_progress / 2
            and observed.in_progress <= wire + 2 * observed.answer_rate * observed.latency
        ):
            reason = (
                f"claims {claims.inside:.0f} requests inside, Envoys wait for "
                f"{observed.in_progress:.0f} and get them answered in time"
            )
            found.append(RefutedClaims(_GAUGES, reason))
    return tuple(found)


def without(claims: Claims, signals: Collection[Signal]) -> Claims:
    """Return what is left of *claims* without *signals*."""
    return Claims(
        inside=None if Signal.RUNNING in signals else claims.inside,
        completed=None if Signal.COMPLETED in signals else claims.completed,
        failed=0.0 if Signal.FAILED in signals else claims.failed,
        latency=None if Signal.LATENCY_SUM in signals else claims.latency,
    )


def moved(trust: float, deserved: float, *, elapsed: float) -> float:
    """Return *trust* after *elapsed* seconds on its way to what is deserved."""
    pace = FALL if deserved < trust else RECOVERY
    return min(1.0, max(FLOOR, trust - math.expm1(-elapsed / pace) * (deserved - trust)))
