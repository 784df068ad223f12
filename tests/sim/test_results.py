"""Figures count what they say."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.sim.fleets import ramp_fleet
from controlplane.sim.results import measure, prediction_error, shares_over_time
from controlplane.sim.true_fleet import Record


def record(latency: list[float], failed: list[bool], stream: list[int]) -> Record:
    """Make a record of requests that came one a second."""
    size = len(latency)
    return Record(
        np.arange(size, dtype=float),
        np.array(latency),
        np.zeros(size, dtype=np.int64),
        np.array(stream),
        np.array(failed),
    )


def test_windows_take_requests_by_arrival_and_goodput_by_answer() -> None:
    """An unanswered request counts the time it waited, and as failed."""
    fleet = ramp_fleet(seed=1, duration=10)
    batch = len(fleet.streams) // 2
    given = record([1.0, 6.0, np.nan, 2.0], [False, False, False, True], [0, 0, batch, batch])
    windows, services, latency = measure(fleet, given, [("w", 0.0, 3.0)], ended=10.0)

    assert [1.0, 6.0, 8.0, 2.0] == latency.tolist()
    assert (3, 5.0) == (windows["w"].requests, windows["w"].mean)
    assert 1 / 3 == pytest.approx(windows["w"].failed)
    # The second answer comes after the window and beyond the service's objective of 5 s.
    assert 1 / 3 == pytest.approx(windows["w"].goodput)
    assert (2, 1) == (services["w", "chat"].requests, services["w", "batch"].requests)


def test_shares_of_each_second_add_up_to_one() -> None:
    """Where anything came."""
    fleet = ramp_fleet(seed=1, duration=10)
    shares = shares_over_time(fleet, record([1.0] * 4, [False] * 4, [0] * 4), duration=4)

    assert [1.0] * 4 == pytest.approx(sum(shares.values()))


def test_a_prediction_is_held_against_the_ten_seconds_after_it() -> None:
    """A constant latency of 2 s predicted as 2.5 s is off by a quarter."""
    given = record([2.0] * 40, [False] * 40, [0] * 40)

    assert 0.25 == prediction_error([(10.0, 2.5), (12.0, 2.5)], given, period=1, after=0)
    assert None is prediction_error([(39.0, 2.5)], given, period=1, after=0)
