"""Instances of one model that differ by next to nothing count as equal; others keep their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.steering.alike import even_out
from controlplane.steering.estimate import Estimate
from controlplane.steering.layout import Layout, build_layout
from testbed.fakes.views import make_config, make_instance


def layout_of(count: int, **settings: object) -> Layout:
    """Return a fleet of that many instances of one model."""
    config = make_config(
        instances=[make_instance(f"i{number}", "near", **settings) for number in range(count)]
    )
    return build_layout(config, config.instances)


def estimate(
    pace: float, uncertainty: float = 0.02, slots: float = 8.0, slowdown: float = 0.0
) -> Estimate:
    """Return one instance's estimate."""
    return Estimate(slots=slots, slowdown=slowdown, pace=pace, uncertainty=uncertainty)


def paces(*estimates: Estimate, **settings: object) -> list[float]:
    """Return what becomes of the paces."""
    return [each.pace for each in even_out(estimates, layout_of(len(estimates), **settings))]


@pytest.mark.parametrize("apart", [0.001, 0.01, 0.03])
def test_paces_that_differ_by_a_few_per_cent_become_one(apart: float) -> None:
    """So that neither of two equal instances gets every request."""
    first, second = paces(estimate(0.1), estimate(0.1 * (1 + apart)))

    assert first == pytest.approx(second, rel=1e-3)


@pytest.mark.parametrize("apart", [1.2, 2.0, 10.0])
def test_paces_that_differ_by_more_stay(apart: float) -> None:
    """A faster machine is a faster machine."""
    assert paces(estimate(0.1), estimate(0.1 * apart)) == pytest.approx([0.1, 0.1 * apart])


def test_first_requests_that_seemed_slow_do_not_leave_an_instance_out() -> None:
    """Where instances are few, what is hardly known is taken to be as the others."""
    assert paces(estimate(0.1), estimate(0.12, uncertainty=0.6)) == pytest.approx(
        [0.1, 0.1], rel=0.05
    )


def test_an_instance_of_many_is_what_it_seems_to_be() -> None:
    """Many instances are seldom equal, and one that is left out for a while is missed little."""
    assert paces(*[estimate(0.1)] * 5, estimate(0.12, uncertainty=0.6))[-1] == pytest.approx(0.12)


def test_instances_that_differ_are_no_pattern_for_one_that_is_hardly_known() -> None:
    """Uneven machines say nothing of what the next one is like."""
    uneven = estimate(0.1), estimate(0.3)

    assert paces(*uneven, estimate(0.12, uncertainty=0.6))[-1] == pytest.approx(0.12)


def test_what_is_hardly_known_but_far_away_stays() -> None:
    """One that crawls at a twentieth of the speed is asked by probes, not in full."""
    assert paces(estimate(0.1), estimate(2.0, uncertainty=0.6)) == pytest.approx([0.1, 2.0])


def test_what_an_operator_states_of_an_instance_stays() -> None:
    """Its own service time is not that of others."""
    stated = paces(
        estimate(0.004, uncertainty=1.0), estimate(0.005, uncertainty=1.0), service_time="4ms"
    )

    assert stated == pytest.approx([0.004, 0.005])


def test_other_slots_are_other_machines() -> None:
    """The same pace does not make sixteen slots of eight."""
    made = even_out([estimate(0.1, slots=8), estimate(0.1, slots=16)], layout_of(2))

    assert [8.0, 16.0] == [pytest.approx(each.slots) for each in made]


@given(st.lists(st.floats(0.01, 10.0), min_size=2, max_size=8))
def test_nothing_leaves_the_range_of_its_like(values: list[float]) -> None:
    """Whatever the paces are, each stays between the least and the greatest."""
    made = paces(*map(estimate, values))

    assert min(values) * 0.999 <= min(made) <= max(made) <= max(values) * 1.001
