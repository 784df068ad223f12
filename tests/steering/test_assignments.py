"""Assignments are made when asked for, and their digests are known before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controlplane.steering import Plan, Steering
from controlplane.steering.assignment_sums import Noted, digest_of, notes_of, sums_of
from controlplane.steering.assignments import Assignments
from controlplane.steering.digest import assignment_digest, plan_version
from controlplane.steering.fallbacks import Fallbacks
from testbed.fakes.views import make_config, make_instance, make_service, make_view


def decided(**settings: object) -> Plan:
    """Return a plan with shares, fallbacks, a device and a service that nothing serves."""
    config = make_config(
        sites=["near", "far", {"name": "phones", "kind": "device"}],
        services=[
            make_service("chat", service_time="500ms"),
            make_service("other", models=[{"name": "m", "penalty": "never"}]),
        ],
        instances=[
            make_instance("b", "near", slots=4),
            make_instance("a", "far", slots=8),
            make_instance("own", "phones"),
        ],
        steering=settings,
    )
    demand = {("near", "chat"): 9.0, ("phones", "chat"): 1.0}
    return Steering(config).decide(make_view(config, demand=demand))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="optimal"),
        pytest.param({"mode": "observe"}, id="observe"),
        pytest.param({"policy": "nearest"}, id="with-fallbacks"),
    ],
)
def test_a_digest_is_that_of_the_assignment_it_stands_for(settings: dict[str, object]) -> None:
    """Made from arrays or from the assignment, by this replica or another, it is the same."""
    plan = decided(**settings)

    for key, assignment in plan.assignments.items():
        assert digest_of(plan.assignments, key) == assignment_digest(assignment)
        assert digest_of(dict(plan.assignments), key) == assignment_digest(assignment)
    digests = ((key, assignment_digest(each)) for key, each in plan.assignments.items())
    assert plan.version == plan_version(digests)


def test_a_digest_distinguishes_weights_priorities_and_drops() -> None:
    """Whatever an Envoy would do otherwise has another digest; the client site has not."""
    assignment = decided(policy="nearest").assignments["chat", "near"]
    first, *rest = assignment.allocations
    others = [
        replace(assignment, drop=0.1),
        replace(assignment, allocations=(replace(first, weight=first.weight + 1), *rest)),
        replace(assignment, allocations=(first,)),
        replace(
            assignment, allocations=(*rest, replace(first, priority=1)) if rest else (first, first)
        ),
    ]

    digests = {assignment_digest(each) for each in (assignment, *others)}

    assert len(digests) == 1 + len(others)
    assert assignment_digest(replace(assignment, client_site="far")) in digests


def test_sums_and_notes_are_those_of_the_assignments() -> None:
    """What is added up in arrays is what adding up assignments gives."""
    plan = decided()
    plain = dict(plan.assignments)

    for service in ("chat", "other"):
        found, drop = sums_of(plain, service)
        found.pop(("own", "phones"), None)
        assert sums_of(plan.assignments, service) == (found, drop)
    assert notes_of(plan.assignments) == notes_of(plain)


def test_a_noted_plan_has_the_same_shares_and_a_note_everywhere() -> None:
    """Freezing makes no assignment and moves nothing."""
    plan = decided()

    frozen = Noted(plan.assignments, "frozen")

    assert all(frozen[key].allocations == plan.assignments[key].allocations for key in frozen)
    assert {each.note for each in frozen.values()} == {"frozen"}
    assert all(digest_of(frozen, key) == digest_of(plan.assignments, key) for key in frozen)


@pytest.mark.parametrize(
    ("only", "names"), [("a", "ab"), ("b", "ab"), ("a", "abc"), ("b", "abc"), ("c", "abc")]
)
def test_no_instance_is_fallen_to_twice(only: str, names: str) -> None:
    """Also where fewer instances are left than a row would fall to, whichever they are."""
    config = make_config(
        sites=["near", "far"],
        services=[make_service("chat", service_time="500ms")],
        instances=[
            make_instance(name, "near" if name == only else "far", slots=8) for name in names
        ],
        steering={"policy": "nearest"},
    )
    plan = Steering(config).decide(make_view(config, demand={("near", "chat"): 2.0}))

    found = [a.instance for a in plan.assignments["chat", "near"].allocations]

    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
def test_what_a_row_probes_is_not_fallen_to_as_well(names: str) -> None:
    """One address twice in one assignment is rejected whole, and nothing would be served."""
    config = make_config(
        sites=["near", "far"],
        services=[make_service("chat", service_time="500ms")],
        instances=[
            make_instance(name, "near" if name == "a" else "far", slots=8) for name in names
        ],
        steering={"policy": "nearest"},
    )
    steering = Steering(config)
    steering.decide(make_view(config, demand={("near", "chat"): 2.0}))
    decision = steering._decision
    assert decision is not None
    flow = decision.problem.flow
    probing = np.flatnonzero(flow.column == 1)
    probed, shares = np.zeros(len(flow.row)), decision.shares.copy()
    probed[probing] = 0.01
    shares[probing] += 0.01
    shares /= np.bincount(flow.row, shares)[flow.row]
    weights = np.where(probed > 0, 100, decision.weights)
    probing_decision = replace(decision, shares=shares, weights=weights, probed=probed)

    used = np.flatnonzero(weights)
    chosen = Fallbacks().choose(decision.problem, used, probed, now=0.0)
    assignments = Assignments(probing_decision, chosen)

    for key in assignments:
        found = [each.instance for each in assignments[key].allocations]
        assert sorted(set(found)) == sorted(found)
        assert "b" in found
    assert all(
        digest_of(assignments, key) == assignment_digest(assignments[key]) for key in assignments
    )
