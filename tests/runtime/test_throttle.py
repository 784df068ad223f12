"""Pacing the starts of streams."""

from __future__ import annotations

from controlplane.runtime.throttle import LOG_PERIOD, MAX_KEYS, LogLimit, TokenBucket


def test_a_burst_starts_at_once_and_the_rest_at_the_rate() -> None:
    """Waits grow by the period of the rate until patience ends, and shrink as time goes by."""
    bucket = TokenBucket(rate=2.0, burst=2.0, now=0.0)
    waits = [bucket.reserve(now=0.0, patience=1.0) for _ in range(6)]

    assert [0.0, 0.0, 0.5, 1.0, None, None] == waits
    assert 0.5 == bucket.reserve(now=1.0, patience=1.0)
    assert 0.0 == bucket.reserve(now=100.0, patience=0.0)


def test_the_same_is_reported_once_a_period_and_what_is_remembered_is_bounded() -> None:
    """Each thing by itself; the one reported longest ago is forgotten first."""
    reported: LogLimit[int] = LogLimit(lines_per_minute=10_000)

    assert [True, False, True] == [
        reported.is_due(0, now=now) for now in (0.0, LOG_PERIOD - 1, LOG_PERIOD)
    ]
    assert all(reported.is_due(key, now=LOG_PERIOD) for key in range(1, MAX_KEYS + 1))
    assert not reported.is_due(1, now=LOG_PERIOD)
    assert reported.is_due(0, now=LOG_PERIOD)


def test_all_things_together_have_a_rate() -> None:
    """Keys that clients can choose do not multiply the lines that they cause."""
    reported: LogLimit[int] = LogLimit(lines_per_minute=60)

    assert 60 == sum(reported.is_due(key, now=0.0) for key in range(1_000))
    assert 1 == sum(reported.is_due(key, now=1.0) for key in range(1_000, 2_000))
