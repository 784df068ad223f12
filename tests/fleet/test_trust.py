"""Claims are held against what Envoys observe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.fleet.trust import (
    FLOOR,
    Claims,
    Observation,
    judge,
    moved,
    refute,
    without,
)
from controlplane.model import Signal

HONEST = Claims(inside=5.0, completed=10.0, failed=0.0, latency=0.5)
SEEN = Observation(
    rate=10.0, in_progress=5.5, answers=50.0, answer_rate=10.0, failures=0.0, latency=0.5, rtt=0.05
)


@pytest.mark.parametrize(
    ("claims", "observed", "deserved"),
    [
        pytest.param(HONEST, SEEN, 1.0, id="honest"),
        pytest.param(HONEST, replace(SEEN, in_progress=60.0), 3 / 49.5, id="hangs"),
        pytest.param(HONEST, replace(SEEN, failures=0.5), 0.5, id="fails"),
        pytest.param(HONEST, replace(SEEN, latency=3.5), 0.5, id="dawdles"),
        pytest.param(replace(HONEST, completed=0.0), SEEN, 0.3, id="frozen_counters"),
        pytest.param(
            replace(HONEST, failed=10.0), replace(SEEN, failures=0.5), 1.0, id="admits_failures"
        ),
        pytest.param(
            HONEST, replace(SEEN, failures=1.0, answers=2.0), 1.0, id="too_little_to_tell"
        ),
        pytest.param(Claims(None, None, 0.0, None), SEEN, 1.0, id="claims_nothing"),
    ],
)
def test_trust_is_what_the_contradictions_leave(
    claims: Claims, observed: Observation, deserved: float
) -> None:
    """And each contradiction is reported."""
    result, reason = judge(claims, observed)

    assert pytest.approx(max(FLOOR, deserved)) == result
    assert (deserved < 1) == bool(reason)


@given(st.floats(FLOOR, 1), st.floats(FLOOR, 1), st.floats(0, 1000))
def test_trust_moves_towards_what_is_deserved_and_never_beyond(
    trust: float, deserved: float, elapsed: float
) -> None:
    """Smoothly, within its bounds."""
    low, high = sorted((trust, deserved))

    assert low - 1e-9 <= moved(trust, deserved, elapsed=elapsed) <= high + 1e-9


def test_trust_falls_faster_than_it_recovers() -> None:
    """A lie costs more than an honest second earns."""
    assert 1 - moved(1.0, FLOOR, elapsed=2.0) > moved(FLOOR, 1.0, elapsed=2.0) - FLOOR


@pytest.mark.parametrize(
    ("claims", "observed", "signals"),
    [
        pytest.param(HONEST, SEEN, set(), id="honest"),
        pytest.param(replace(HONEST, latency=0.0003), SEEN, {Signal.LATENCY_SUM}, id="too short"),
        pytest.param(replace(HONEST, latency=500.0), SEEN, {Signal.LATENCY_SUM}, id="milliseconds"),
        pytest.param(
            replace(HONEST, completed=0.0), SEEN, {Signal.COMPLETED, Signal.LATENCY_SUM},
            id="counters that do not count",
        ),
        pytest.param(
            replace(HONEST, inside=0.0), replace(SEEN, in_progress=40.0, latency=4.0),
            {Signal.RUNNING}, id="a gauge that stays at zero",
        ),
        pytest.param(
            replace(HONEST, inside=0.0), replace(SEEN, in_progress=40.0), set(), id="it hangs"
        ),
        pytest.param(replace(HONEST, latency=0.1), SEEN, set(), id="only a little"),
        pytest.param(
            replace(HONEST, latency=0.1), replace(SEEN, latency=0.0, rtt=0.02), set(),
            id="a configured round trip that hides the answer's time",
        ),
        pytest.param(
            replace(HONEST, latency=0.0003), replace(SEEN, answers=1.0), set(), id="too little"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refuted(
    claims: Claims, observed: Observation, signals: set[Signal]
) -> None:
    """Metrics that are of something else cost themselves; a hang costs the instance."""
    dropped = {each for found in refute(claims, observed) for each in found.signals}

    assert signals == dropped & {Signal.RUNNING, Signal.COMPLETED, Signal.LATENCY_SUM}
    assert without(claims, dropped) == replace(
        claims,
        inside=None if Signal.RUNNING in signals else claims.inside,
        completed=None if Signal.COMPLETED in signals else claims.completed,
        latency=None if Signal.LATENCY_SUM in signals else claims.latency,
    )
