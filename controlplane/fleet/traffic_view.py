"""What Envoys see of services and instances, as it is known now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from controlplane.model import FailureClass, Reading


@dataclass(frozen=True, slots=True)
class TrafficView:
    """What Envoys of one client site see of one service at one instance."""

    rate: Reading
    """Requests issued a second."""
    failures: float
    """Share of the answers that were failures, 0 to 1."""
    latency: Reading | None
    """Mean seconds as seen by the Envoys, network included."""
    ttft: Reading | None
    in_progress: float = 0.0
    """Attempts that wait for the end of their answer, without those that hang."""
    answered: float = 0.0
    """Attempts answered well a second."""


class Served(NamedTuple):
    """What Envoys saw of one service at one instance, added up since it was first seen."""

    answers: float = 0.0
    """Answers whose latency is known."""
    inside: float = 0.0
    """Seconds that these spent there, the network not included."""
    under_way: float = 0.0
    """Seconds that all requests have spent there so far, ended or not, as counted at each report.
    """


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Attempts that ended, by how; see `controlplane.model.FailureClass`."""

    answered: float = 0.0
    """Well: a whole answer with a status below 400."""
    refused: float = 0.0
    client_error: float = 0.0
    server_error: float = 0.0
    overload: float = 0.0
    unanswered: float = 0.0
    """Reset, cut or hung; see `controlplane.fleet.hung`."""
    late: float = 0.0
    abandoned: float = 0.0
    """Left by the client before the end, which is neither an answer nor a failure."""

    def of(self, kind: FailureClass) -> float:
        """Return the attempts that failed in the way *kind*."""
        return float(getattr(self, kind.value))

    @property
    def failed(self) -> float:
        """Return the attempts that failed in any way, client errors included."""
        return (
            self.refused
            + self.client_error
            + self.server_error
            + self.overload
            + self.unanswered
            + self.late
        )

    @property
    def ended(self) -> float:
        """Return the attempts that were answered or failed."""
        return self.answered + self.failed


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """How one instance answers one service, as the Envoys of all client sites see it."""

    recent: Outcomes
    """Attempts of the last seconds, decayed over `controlplane.fleet.trust.WINDOW`."""
    total: Outcomes
    """All attempts since the instance was first seen; only grows."""
    rate: float
    """Attempts sent a second, retries included."""
    in_progress: float
    """Attempts that wait for the end of their answer."""
    at: float
    """When an Envoy last reported them."""
    hung: float = 0.0
    """Of those in progress, how many at least have waited for longer than answers take; they are
    counted as unanswered already."""


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """How long the answers of one service took, over all Envoys, since the beginning."""

    bounds: tuple[float, ...]
    """Upper bounds of the buckets, seconds, rising."""
    latency: tuple[float, ...]
    """Answers by the time to the last byte; one bucket more than bounds."""
    ttft: tuple[float, ...]
    """By the time to the first byte."""


@dataclass(frozen=True, slots=True)
class PromiseView:
    """What became of one promise of one service."""

    attainment: float | None
    """Part of the requests of the last five minutes that kept it; None without any."""
    attainment_long: float | None
    """Of the last hour."""
    kept: float
    """Requests that kept it since the beginning."""
    missed: float
    """Requests that did not, those that failed included."""
