"""In which order types are sent, so that no route is without its cluster."""

from __future__ import annotations

import pytest

from controlplane.xds.types import (
    CLUSTER,
    ENDPOINT,
)
from tests.xds.script import MODES, Script, snap


@pytest.mark.parametrize("delta", MODES)
def test_the_assignment_follows_its_changed_cluster(delta: bool) -> None:
    """Envoy warms a changed cluster only when its assignment comes, even unchanged."""
    script = Script("C:a1,b1 E:a1,b1", delta=delta)
    script.ask("C")
    script.ask("E", "ab")
    assert "C:a,b E:a,b" == script.sent()
    script.answer("C")
    script.answer("E")
    script.settle()
    script.publish("C:a2,b1 E:a1,b1")

    assert ("C:a E:a" if delta else "C:a,b E:a") == script.sent()


def test_delta_the_assignment_follows_a_cluster_that_changed_during_an_absence() -> None:
    """The client's versions of assignments do not spare them after a changed cluster."""
    held = snap("C:a1 E:a1")
    script = Script("C:a2 E:a1", delta=True)
    script.ask("C", "*", initial={"a": held.of_type(CLUSTER).resources["a"].version})
    assert "C:a" == script.sent()
    script.ask("E", "a", initial={"a": held.of_type(ENDPOINT).resources["a"].version})

    assert "E:a" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_all_assignments_follow_a_cluster_that_names_its_own_otherwise(delta: bool) -> None:
    """Which assignment a cluster takes is not known here."""
    script = Script("C:x1 E:a1,b1", delta=delta)
    script.ask("C")
    script.ask("E", "ab")
    script.settle()
    script.publish("C:x2 E:a1,b1")

    assert "C:x E:a,b" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_a_push_goes_in_order(delta: bool) -> None:
    """Clusters, assignments, listeners, routes, in whatever order they were asked for."""
    script = Script("C:a1 E:a1 L:l1 R:r1", delta=delta)
    for kind, names in (("R", "r"), ("L", ""), ("E", "a"), ("C", "")):
        script.ask(kind, names)
    assert "C:a E:a L:l R:r" == script.sent()
    script.settle()
    for kind in "CELR":
        script.answer(kind)
    script.publish("C:a2 E:a2 L:l2 R:r2")

    assert "C:a E:a L:l R:r" == script.sent()


@pytest.mark.parametrize("delta", MODES)
@pytest.mark.parametrize("changed", ["L:l2 R:r1", "L:l1 R:r2"], ids=["listener", "route"])
def test_a_changed_listener_or_route_waits_for_new_clusters(delta: bool, changed: str) -> None:
    """Envoy acknowledges clusters when they are warm; before that a route to them is a 503."""
    script = Script("C:a1 E:a1,b1 L:l1 R:r1", delta=delta)
    for kind, names in (("C", ""), ("E", "a"), ("L", ""), ("R", "r")):
        script.ask(kind, names)
    script.settle()
    script.publish(f"C:a1,b1 E:a1,b1 {changed}")
    sent = script.sent()
    assert "L" not in sent
    assert "R" not in sent
    script.answer("C")

    assert ("L:l" if "l2" in changed else "R:r") in script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_a_cluster_is_removed_after_the_route_that_drops_it_is_taken(delta: bool) -> None:
    """Make before break."""
    script = Script("C:a1,b1 R:r1", delta=delta)
    script.ask("C")
    script.ask("R", "r")
    script.settle()
    script.publish("C:a1 R:r2")
    assert "R:r" == script.sent()
    script.answer("R")

    assert ("C: -b" if delta else "C:a") == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_a_cluster_stays_while_the_route_that_drops_it_is_refused(delta: bool) -> None:
    """The client goes on with its old route."""
    script = Script("C:a1,b1 R:r1", delta=delta)
    script.ask("C")
    script.ask("R", "r")
    script.settle()
    script.publish("C:a1 R:r2")
    script.sent()
    script.answer("R", refuse="no")
    assert "" == script.sent()
    script.publish("C:a1 R:r3")
    assert "R:r" == script.sent()
    script.answer("R")

    assert ("C: -b" if delta else "C:a") == script.sent()
