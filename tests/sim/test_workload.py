"""Drawn arrivals have the rates and the variability that were asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controlplane.sim.workload import (
    TRACES,
    Burst,
    Stream,
    Surge,
    Work,
    draw_arrivals,
    read_trace,
)

STEADY = Stream("here", "chat", 50.0)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    """Another seed gives others."""
    first, again, other = (draw_arrivals([STEADY], duration=20, seed=s) for s in (1, 1, 2))

    assert np.array_equal(first.times, again.times)
    assert np.array_equal(first.work, again.work)
    assert not np.array_equal(first.times[:50], other.times[:50])


def test_a_change_to_one_stream_leaves_the_others_alone() -> None:
    """Streams draw from sources of their own."""
    one = draw_arrivals([STEADY, STEADY], duration=20, seed=1)
    two = draw_arrivals([STEADY, replace(STEADY, rate=5.0)], duration=20, seed=1)

    assert np.array_equal(one.times[one.stream == 0], two.times[two.stream == 0])


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gaps_have_the_variability_asked_for(cv: float) -> None:
    """Mean rate and coefficient of variation of the gaps."""
    arrivals = draw_arrivals([replace(STEADY, cv=cv)], duration=2000, seed=4)
    gaps = np.diff(arrivals.times)

    assert 50.0 == pytest.approx(len(arrivals.times) / 2000, rel=0.03)
    assert cv == pytest.approx(gaps.std() / gaps.mean(), rel=0.05)


def test_work_has_its_mean_and_spread() -> None:
    """Log-normal with the stated mean."""
    arrivals = draw_arrivals([replace(STEADY, work=Work(0.5, 0.6))], duration=2000, seed=4)

    assert 0.5 == pytest.approx(arrivals.work.mean(), rel=0.01)
    assert 0.6 == pytest.approx(np.log(arrivals.work).std(), rel=0.01)


def test_a_flash_crowd_multiplies_the_rate_while_it_lasts() -> None:
    """Five times the rate between 40 and 60 s."""
    arrivals = draw_arrivals([replace(STEADY, surges=(Surge(40, 60, 5.0),))], duration=100, seed=4)
    counts = np.histogram(arrivals.times, bins=[0, 40, 60, 100])[0] / [40, 20, 40]

    assert [50, 250, 50] == pytest.approx(counts, rel=0.05)


def test_bursts_keep_the_mean_rate() -> None:
    """A two-state modulation has mean 1 and spreads the counts of each second."""
    burst = replace(STEADY, burst=Burst(ratio=8.0, share=0.2, length=3.0))
    arrivals = draw_arrivals([burst], duration=20_000, seed=4)
    counts = np.histogram(arrivals.times, bins=20_000)[0]

    assert 50.0 == pytest.approx(counts.mean(), rel=0.05)
    assert counts.var() > 10 * counts.mean()


def test_a_day_has_its_peak_a_quarter_in() -> None:
    """The rate swings by 60 % about its mean."""
    arrivals = draw_arrivals([replace(STEADY, day=400.0)], duration=400, seed=4)
    counts = np.histogram(arrivals.times, bins=[90, 110, 290, 310])[0]

    assert 80 == pytest.approx(counts[0] / 20, rel=0.1)
    assert 20 == pytest.approx(counts[2] / 20, rel=0.15)


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_replayed_at_the_rate_asked_for(name: str) -> None:
    """Times are stretched as a whole and lengths are the trace's own."""
    arrivals = draw_arrivals([replace(STEADY, trace=name)], duration=2000, seed=4)
    trace = read_trace(name)

    assert 50.0 == pytest.approx(len(arrivals.times) / 2000, rel=0.1)
    assert set(arrivals.prompt) <= set(trace["prompt"])
    assert np.all(np.diff(arrivals.times) >= 0)
    assert np.all(np.diff(trace["at"]) >= 0)


def test_an_unknown_trace_is_refused_with_the_known_ones() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="azure-code"):
        read_trace("azure")
