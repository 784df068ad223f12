"""Pacing the starts of streams."""

from __future__ import annotations

from controlplane.server.throttle import TokenBucket


def test_a_burst_starts_at_once_and_the_rest_at_the_rate() -> None:
    """Waits grow by the period of the rate until patience ends, and shrink as time goes by."""
    bucket = TokenBucket(rate=2.0, burst=2.0, now=0.0)
    waits = [bucket.reserve(now=0.0, patience=1.0) for _ in range(6)]

    assert [0.0, 0.0, 0.5, 1.0, None, None] == waits
    assert 0.5 == bucket.reserve(now=1.0, patience=1.0)
    assert 0.0 == bucket.reserve(now=100.0, patience=0.0)
