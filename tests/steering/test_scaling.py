"""What autoscalers and batch systems are given: bounds that hold, replicas that keep promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.steering import Steering
from controlplane.steering.latency import Curves
from controlplane.steering.promise_tails import PromiseKind, Tail
from controlplane.steering.promises import LATE
from controlplane.steering.scaling import replica_gain
from controlplane.steering.scaling_group import ScalingGroup
from testbed.fakes.views import make_config, make_instance, make_service, make_view


def curve(slots: float, slowdown: float = 0.0) -> Curves:
    """Return the curve of one instance."""
    return Curves(np.array([slots]), np.array([slowdown]))


@settings(max_examples=60, deadline=None)
@given(
    slots=st.integers(1, 32),
    slowdown=st.sampled_from([0.0, 0.05, 0.2]),
    here=st.integers(1, 6),
    away=st.integers(1, 6),
    level=st.floats(0.05, 0.93),
    rtt=st.floats(0.0, 3.0),
)
def test_the_true_gain_of_a_replica_lies_between_its_bounds(
    *, slots: int, slowdown: float, here: int, away: int, level: float, rtt: float
) -> None:
    """Solved again with one more: two groups, of which one is farther away."""
    each = curve(float(slots), slowdown)
    demand = level * float(each.capacity[0]) * (here + away)
    near = np.linspace(0.0, demand, 40_001)

    def costs(count: int) -> Any:
        return (
            count * each.number(near / count)
            + away * each.number((demand - near) / away)
            + rtt * (demand - near)
        )

    before = costs(here)
    best = int(before.argmin())
    gains = replica_gain(each, near[best : best + 1], np.array([here]))
    least, most = (float(bound[0]) for bound in gains)
    gain = float(before[best] - costs(here + 1).min())

    tolerance = 1e-3 * (1.0 + float(before[best]))
    assert least - tolerance <= gain <= most + tolerance


def groups(
    rate: float, *, replicas: int = 2, site: str = "near", **service: Any
) -> dict[tuple[str, str], ScalingGroup]:
    """Return the groups of a plan for *rate* requests a second of one second each."""
    config = make_config(
        sites=[
            {"name": "near", "kind": "edge", "region": "near"},
            {"name": "far", "kind": "cloud", "region": "far"},
        ],
        services=[make_service("chat", service_time="1s", **service)],
        instances=[
            make_instance(f"i{number}", site, slots=4, service_time="1s")
            for number in range(replicas)
        ],
    )
    view = make_view(config, demand={("near", "chat"): rate}, rtt={("near", "far"): 0.030})
    plan = Steering(config).decide(view)
    return {(each.site, each.model): each for each in plan.scaling}


def only(rate: float, **more: Any) -> ScalingGroup:
    """Return the one group of such a plan."""
    (group,) = groups(rate, **more).values()
    return group


def test_a_group_says_what_it_is() -> None:
    """Counted are the instances that may get requests."""
    group = only(4.0, replicas=3)

    assert (group.site, group.replicas) == ("near", 3)
    assert group.work == pytest.approx(4.0, rel=0.2)
    assert group.utilisation == pytest.approx(group.work / 12, rel=0.01)


def test_a_replica_is_worth_more_the_fuller_its_group_is() -> None:
    """And next to nothing where there is room."""
    gains = [only(rate).gain_most for rate in (0.5, 2.0, 4.0, 6.0, 7.5)]

    assert gains == sorted(gains)
    assert gains[0] < 0.05
    assert gains[-1] > 1.0


def test_room_ends_where_work_delays_others_more_than_it_takes() -> None:
    """An empty group has most; a full one none."""
    rooms = [only(rate).room_rate for rate in (0.1, 3.0, 6.0, 7.9)]

    assert rooms == sorted(rooms, reverse=True)
    assert rooms[0] > 3.0
    assert rooms[-1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("rate", [1.0, 6.0, 20.0, 75.0])
@pytest.mark.parametrize("promise", [3.6, 5.0, 10.0])
def test_as_many_replicas_as_are_wanted_keep_the_promise_and_one_less_does_not(
    rate: float, promise: float
) -> None:
    """By the curve that steering predicts with, at the 99th percentile."""
    group = only(rate, replicas=40, slo={"latency": f"{promise}s"})
    assert group.wanted is not None

    def late(count: int) -> bool:
        each = np.array([group.work / count])
        tail = Tail(0, PromiseKind.LATENCY, promise)
        path = np.array([0.001])
        return bool(tail.late(path, curve(4).number(each) / each)[0] > LATE)

    assert not late(group.wanted)
    assert group.wanted == 1 or late(group.wanted - 1)
    assert group.bound_by == "chat"


def test_a_promise_that_an_idle_instance_breaks_is_kept_by_no_number_of_replicas() -> None:
    """More of them would be money for nothing, and the service is named."""
    group = only(4.0, slo={"latency": "500ms"})

    assert group.wanted is None
    assert group.bound_by == "chat"


def two_sites(rtt: float, rate: float, **service: Any) -> list[int | None]:
    """Return what is wanted at two sites of three instances with *rate* requests a second each."""
    config = make_config(
        sites=[{"name": name, "kind": "edge", "region": "r"} for name in ("near", "far")],
        services=[make_service("chat", service_time="1s", **service)],
        instances=[
            make_instance(f"{site}-{number}", site, slots=4, service_time="1s")
            for site in ("near", "far")
            for number in range(3)
        ],
    )
    demand = {("near", "chat"): rate, ("far", "chat"): rate}
    view = make_view(config, demand=demand, rtt={("near", "far"): rtt, ("far", "near"): rtt})
    return [each.wanted for each in Steering(config).decide(view).scaling]


@pytest.mark.parametrize(
    ("rtt", "service", "wanted"),
    [
        (0.005, {"slo": {"latency": "6s"}}, [1, 2]),
        (3.0, {"slo": {"latency": "6s"}}, [2, 2]),
        (0.005, {}, [1, 2]),
        (0.8, {}, [2, 2]),
    ],
    ids=["near", "the promise is broken there", "nothing promised", "too far"],
)
def test_a_part_of_a_replica_is_wanted_where_another_site_has_room_for_its_work(
    rtt: float, service: dict[str, Any], wanted: list[int]
) -> None:
    """1.2 replicas at each of two sites are three in all, not four, unless they are too far."""
    assert wanted == sorted(count or 0 for count in two_sites(rtt, 4.2, **service))


def test_a_burst_of_seconds_wants_no_replicas_that_start_in_a_minute() -> None:
    """Work is averaged over a minute, and so are tails; what is shown is that of now."""
    config = make_config(
        sites=[{"name": "near", "kind": "edge", "region": "near"}],
        services=[make_service("chat", service_time="1s")],
        instances=[
            make_instance(f"i{number}", "near", slots=4, service_time="1s") for number in range(6)
        ],
    )
    steering, found = Steering(config), []
    for at, rate in enumerate([6.0] * 5 + [18.0] * 3):
        view = make_view(config, demand={("near", "chat"): rate}, at=float(at))
        (group,) = steering.decide(view).scaling
        found.append((group.work, group.wanted))

    (before, wanted), (now, still) = found[4], found[-1]
    assert now > 1.5 * before
    assert still == wanted


def test_without_a_promise_requests_wait_no_longer_than_they_take() -> None:
    """So that every group has a number to scale by."""
    group = only(30.0, replicas=10)
    assert group.wanted is not None

    each = np.array([group.work / group.wanted])
    assert curve(4).number(each)[0] / each[0] <= 2.0
    assert not group.bound_by


def test_a_plan_that_another_process_made_says_nothing_of_scaling() -> None:
    """It carries shares, not the fleet behind them."""
    from controlplane.steering.plan import Plan  # noqa: PLC0415 -- for this alone

    assert () == Plan(version="", at=0.0, assignments={}).scaling
