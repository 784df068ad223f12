"""Counts become rates, through noise and steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.fleet.rates import CounterWindow, smoothed, unaccounted
from controlplane.model import Signal

RATES = st.floats(0, 1e6)


@given(RATES, RATES, st.floats(0, 100), st.floats(0.01, 100))
def test_the_estimate_moves_towards_what_was_measured_and_never_beyond(
    estimate: float, measured: float, elapsed: float, interval: float
) -> None:
    """Damping that overshoots would be none."""
    low, high = sorted((estimate, measured))

    moved = smoothed(estimate, measured, elapsed=elapsed, interval=interval)

    assert low - 1e-9 * high <= moved <= high + 1e-9 * high


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        pytest.param(110.0, 102.2, id="one_deviation_is_noise"),
        pytest.param(140.0, 129.4, id="over_three_are_mostly_real"),
        pytest.param(200.0, 196.4, id="seven_are_real"),
        pytest.param(0.0, 3.6, id="a_stop_is_real"),
    ],
)
def test_noise_moves_it_slowly_and_a_step_at_once(measured: float, expected: float) -> None:
    """A second of a hundred requests a second varies by ten."""
    moved = smoothed(100.0, measured, elapsed=1.0, interval=1.0)

    assert pytest.approx(expected, abs=0.1) == moved


@pytest.mark.parametrize(
    ("arrivals", "seen", "expected"),
    [
        pytest.param(0.3, 0.0, 0.3, id="no Envoy reports"),
        pytest.param(6.0, 5.0, 0.0, id="one deviation"),
        pytest.param(4.0, 5.0, 0.0, id="fewer than were seen"),
        pytest.param(12.0, 5.0, 7.0, id="many others ask as well"),
    ],
)
def test_only_what_chance_does_not_explain_came_past_the_envoys(
    arrivals: float, seen: float, expected: float
) -> None:
    """Else each instance's lucky seconds would be demand of a service that no one asks for."""
    assert expected == unaccounted(arrivals, seen)


def test_a_longer_interval_reports_more() -> None:
    """Ten seconds of 110 a second are no noise where one second is."""
    short, long = (smoothed(100.0, 115.0, elapsed=1.0, interval=span) for span in (1.0, 10.0))

    assert short < 105
    assert long > 110


def test_arrivals_are_what_left_and_what_piled_up() -> None:
    """An instance at its limit completes no more, however many come."""
    window = CounterWindow()
    for at, completed, waiting in ((0.0, 0.0, 0.0), (2.0, 20.0, 10.0)):
        signals = {
            Signal.COMPLETED: completed,
            Signal.FAILED: completed / 10,
            Signal.RUNNING: 4.0,
            Signal.WAITING: waiting,
        }
        window.add(signals, at=at, shortest=0.8)

    assert (20 + 2 + 10) / 2 == window.arrivals
    assert {Signal.COMPLETED: 10.0, Signal.FAILED: 1.0} == window.rates


def test_reports_in_quick_succession_extend_the_interval() -> None:
    """A hundredth of a second says no rate."""
    window = CounterWindow()
    closed = [
        window.add({Signal.COMPLETED: count}, at=at, shortest=0.8)
        for at, count in ((0.0, 0.0), (0.01, 5.0), (0.5, 5.0), (1.0, 8.0))
    ]

    assert [False, False, False, True] == closed
    assert (8.0, 1.0) == (window.rates[Signal.COMPLETED], window.interval)
