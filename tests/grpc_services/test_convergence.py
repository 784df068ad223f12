"""How long until Envoys hold what was published."""

from __future__ import annotations

from controlplane.grpc_services.convergence import MOST_OPEN, PATIENCE, Convergence, Settled


def test_a_plan_has_converged_when_the_last_one_holds_it() -> None:
    """Each acknowledgement is measured from the report, the whole from the publication."""
    following = Convergence()
    following.publish("p1", {"a": "v1", "b": "w1"}, heard_at=9.5, now=10.0)

    assert (0.75, []) == following.acknowledge("a", "v1", now=10.25)
    assert (1.5, [Settled("p1", 1.0)]) == following.acknowledge("b", "w1", now=11.0)
    assert (None, []) == following.acknowledge("b", "w1", now=12.0)


def test_a_later_version_counts_for_the_earlier_ones() -> None:
    """An Envoy that skips a plan lacks it no more; an earlier version does not count."""
    following = Convergence()
    following.publish("p1", {"a": "v1", "b": "v1"}, heard_at=None, now=0.0)
    following.publish("p2", {"a": "v2", "b": "v2"}, heard_at=0.5, now=1.0)

    assert (1.5, []) == following.acknowledge("a", "v2", now=2.0)
    assert (None, [Settled("p1", 2.0)]) == following.acknowledge("b", "v1", now=2.0)
    assert (None, []) == following.acknowledge("b", "v0", now=2.5)
    assert (2.5, [Settled("p2", 2.0)]) == following.acknowledge("b", "v2", now=3.0)


def test_who_leaves_is_not_waited_for() -> None:
    """An Envoy that is gone lacks nothing, and one that comes later was not asked."""
    following = Convergence()
    following.publish("p1", {"a": "v1", "b": "v1"}, heard_at=None, now=0.0)
    following.acknowledge("a", "v1", now=0.5)

    assert (None, []) == following.acknowledge("c", "v1", now=0.5)
    assert [Settled("p1", 0.75)] == following.leave("b", now=0.75)


def test_what_somebody_lacks_for_long_is_given_up() -> None:
    """By age or by number, so that an Envoy that hangs costs no memory; it counts as patience."""
    following = Convergence()
    following.publish("p", {"a": "v"}, heard_at=None, now=0.0)
    assert [Settled("p", PATIENCE + 1)] == following.publish(
        "q", {}, heard_at=None, now=PATIENCE + 1
    )
    for number in range(MOST_OPEN):
        assert [] == following.publish(f"p{number}", {"a": "v"}, heard_at=None, now=100.0)
    assert [Settled("p0", PATIENCE)] == following.publish(
        "last", {"a": "v"}, heard_at=None, now=100
    )
