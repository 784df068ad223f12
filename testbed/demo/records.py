"""What became of requests: one record each, and what they say together."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NOT_SENT = -1
"""Status of a request that the stream's bound kept back."""
NO_ANSWER = 0
"""Status of a request whose connection failed, broke or timed out."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one request."""

    service: str
    site: str
    started_at: float
    """On the event loop's clock."""
    latency: float
    """Seconds to the end of the answer."""
    ttft: float
    """Seconds to the first byte of the body."""
    status: int
    """Of HTTP; 0 if the connection failed, -1 if it was not sent."""
    instance: str = ""
    """What ``x-cats-instance`` said."""
    at_site: str = ""
    """What ``x-cats-site`` said."""
    error: str = ""
    """What broke, or how the refusal began."""
    late: float = 0.0
    """Seconds that it was sent after it was due, for want of processor time on this side."""

    @property
    def answered(self) -> bool:
        """Whether the whole answer came."""
        return self.status == 200 and not self.error

    @property
    def ended_at(self) -> float:
        """Return the instant of the last byte or of the failure."""
        return self.started_at + self.latency


@dataclass(frozen=True, slots=True)
class Summary:
    """What a set of records says together."""

    sent: int
    failed: int
    mean: float
    """Seconds; not a number without answers."""
    p99: float
    shares: Mapping[str, float]
    """Instance -> share of the answered requests."""


def summarise(records: Sequence[Record]) -> Summary:
    """Count, and return the mean and the 99th percentile (nearest rank) of what was answered."""
    answered = [record for record in records if record.answered]
    latencies = sorted(record.latency for record in answered)
    counts: dict[str, int] = {}
    for record in answered:
        counts[record.instance] = counts.get(record.instance, 0) + 1
    total = len(answered)
    with contextlib.suppress(ZeroDivisionError):
        return Summary(
            len(records),
            len(records) - total,
            math.fsum(latencies) / total,
            latencies[math.ceil(0.99 * total) - 1],
            {name: count / total for name, count in sorted(counts.items())},
        )
    return Summary(len(records), len(records), math.nan, math.nan, {})
