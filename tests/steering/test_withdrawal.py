"""A plan without what went is that plan, made cheaply."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.resources.build import SnapshotBuilder
from controlplane.steering import Plan, Steering
from controlplane.steering.assignment_sums import add_up, digest_of, keys_with, sums_of
from controlplane.steering.digest import assignment_digest
from controlplane.steering.withdrawal import without
from testbed.fakes import fleets
from testbed.fakes.views import make_config, make_instance, make_service, make_view

SITES = ("near", "far", "farther")
CONFIG = make_config(
    sites=[*SITES, {"name": "phones", "kind": "device"}],
    services=[
        make_service("chat", service_time="500ms"),
        make_service("batch", delay="tolerant"),
        make_service("unserved", models=[{"name": "m", "penalty": "never"}]),
    ],
    instances=[
        *(make_instance(f"{site}-{n}", site, slots=2 + n) for site in SITES for n in range(3)),
        make_instance("own", "phones"),
    ],
)
NAMES = [each.name for each in CONFIG.instances]
PAIRS = st.sets(st.tuples(st.sampled_from(("chat", "batch")), st.sampled_from(NAMES)))


def decide(policy: str) -> Plan:
    """Return a plan of several sites with fallbacks and devices."""
    demand = {("near", "chat"): 9.0, ("far", "batch"): 4.0, ("phones", "chat"): 1.0}
    config = CONFIG.model_copy(
        update={"steering": CONFIG.steering.model_copy(update={"policy": policy})}
    )
    return Steering(config).decide(make_view(config, demand=demand))


PLANS = {policy: decide(policy) for policy in ("optimal", "nearest")}


@settings(max_examples=60)
@given(policy=st.sampled_from(sorted(PLANS)), pairs=PAIRS)
def test_nothing_is_sent_to_what_was_withdrawn(policy: str, pairs: set[tuple[str, str]]) -> None:
    """Others keep their weights; a row that would lose all it has, and no other, stays."""
    plan = PLANS[policy]
    left = without(plan, pairs)

    for key, before in plan.assignments.items():
        now = left.assignments[key]
        gone = {name for service, name in pairs if service == key[0]}
        kept = [each for each in before.allocations if each.instance not in gone]
        if not kept:
            assert before is now
            continue
        assert [(e.instance, e.weight) for e in kept] == [
            (each.instance, each.weight) for each in now.allocations
        ]
        levels = sorted({each.priority for each in now.allocations})
        assert list(range(len(levels))) == levels


@settings(max_examples=60)
@given(policy=st.sampled_from(sorted(PLANS)), pairs=PAIRS)
def test_digests_and_sums_are_those_of_the_assignments_themselves(
    policy: str, pairs: set[tuple[str, str]]
) -> None:
    """They come from arrays as far as nothing was withdrawn."""
    left = without(PLANS[policy], pairs)

    for key, assignment in left.assignments.items():
        assert assignment_digest(assignment) == digest_of(left.assignments, key)
    for service in ("chat", "batch"):
        found, drop = sums_of(left.assignments, service)
        whole, whole_drop = add_up(left.assignments, service)
        assert drop == whole_drop
        assert found == {place: each for place, each in whole.items() if place in found}
        assert {place[1] for place in whole.keys() - found.keys()} <= {"phones"}


def test_envoys_get_what_they_would_of_the_assignments_themselves() -> None:
    """Those of unknown sites as well, whose weights are sums."""
    left = without(PLANS["nearest"], {("chat", "near-0"), ("chat", "far-1"), ("batch", "far-0")})
    made = replace(left, assignments=dict(left.assignments))

    assert SnapshotBuilder(CONFIG).build(made) == SnapshotBuilder(CONFIG).build(left)


def test_rows_that_lose_nothing_are_not_made() -> None:
    """They are the very ones from before, and what uses an instance is found without them."""
    plan = PLANS["nearest"]
    used = {
        key
        for key, assignment in plan.assignments.items()
        if any(each.instance == "far-1" for each in assignment.allocations)
    }
    left = without(plan, {("chat", "far-1")})

    assert used == keys_with(plan.assignments, {"far-1"})
    assert used != {key for key, each in plan.assignments.items() if each.allocations}
    for key in plan.assignments.keys() - {key for key in used if key[0] == "chat"}:
        assert plan.assignments[key] is left.assignments[key]
    assert set() == {key for key in keys_with(left.assignments, {"far-1"}) if key[0] == "chat"}


def test_a_plan_without_an_instance_keeps_the_others_and_their_order() -> None:
    """Priorities count from 0 again; where no other is left the assignment stays."""
    split: dict[tuple[str, str], dict[str, int | tuple[int, int]]] = {
        ("chat", "north"): {"north-a": 3, "north-b": (1, 1)},
        ("chat", "cloud"): {"north-a": 1},
    }
    left = without(fleets.make_plan(fleets.make_config(), split), {("chat", "north-a")})

    assert {("chat", "north"): [("north-b", 0)], ("chat", "cloud"): [("north-a", 0)]} == {
        key: [(each.instance, each.priority) for each in assignment.allocations]
        for key, assignment in left.assignments.items()
    }
