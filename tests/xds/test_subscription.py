"""What a request subscribes to, and what is sent for each name, in both modes."""

from __future__ import annotations

import pytest

from controlplane.xds.subscription import Subscription
from controlplane.xds.types import (
    CLUSTER,
    ENDPOINT,
)
from testbed.fakes.xds import make_stand_in
from tests.xds.script import MODES, Script, snap


def test_sotw_names_of_an_outdated_request_drop_nothing() -> None:
    """A list that a newer one replaced must not make the server forget what the client holds."""
    script = Script("E:a1,b1", delta=False)
    script.ask("E", "a")
    script.settle()
    old = script.nonces["E"][-1]
    script.publish("E:a2,b1")
    script.sent()
    script.ask("E", "b", nonce=old)
    script.ask("E", "a", nonce=script.nonces["E"][-1])

    assert "" == script.sent()


@pytest.mark.parametrize("delta", MODES)
@pytest.mark.parametrize("names", [(), ("*",)], ids=["legacy", "explicit"])
def test_a_wildcard_gets_all_clusters(delta: bool, names: tuple[str, ...]) -> None:
    """No name at all, or the star."""
    script = Script("C:a1,b1", delta=delta)
    script.ask("C", names)

    assert "C:a,b" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_an_empty_list_of_assignments_is_no_wildcard(delta: bool) -> None:
    """The legacy wildcard is for clusters and listeners only."""
    script = Script("E:a1", delta=delta)
    script.ask("E")

    assert "" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_a_wildcard_on_nothing_is_answered(delta: bool) -> None:
    """A client waits for the first answer even when there is nothing."""
    script = Script("", delta=delta)
    script.ask("C")

    assert "C:" == script.sent()


def test_sotw_an_empty_list_after_names_unsubscribes() -> None:
    """Once named, empty means nothing."""
    script = Script("C:a1,b1", delta=False)
    script.ask("C", "a")
    script.settle()
    script.ask("C", (), nonce=script.nonces["C"][-1])
    script.publish("C:a2,b2")

    assert "" == script.sent()


def test_sotw_clusters_come_whole_and_their_absence_removes() -> None:
    """What is not in a response of clusters is deleted, down to an empty response."""
    script = Script("C:a1,b1", delta=False)
    script.ask("C")
    script.settle()
    script.publish("C:a2,b1")
    assert "C:a,b" == script.sent()
    script.answer("C")
    script.publish("C:b1")
    assert "C:b" == script.sent()
    script.answer("C")
    script.publish("")
    assert "C:" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_a_name_taken_up_again_is_sent_again(delta: bool) -> None:
    """A client that dropped a name has nothing of it."""
    script = Script("E:a1,b1", delta=delta)
    script.ask("E", "ab")
    script.settle()
    script.ask("E", () if delta else "a", drop="b", nonce="" if delta else script.nonces["E"][-1])
    assert "" == script.sent()
    script.ask("E", "b" if delta else "ab", nonce="" if delta else script.nonces["E"][-1])

    assert "E:b" == script.sent()


def test_delta_a_name_subscribed_twice_is_sent_twice() -> None:
    """The server must send it even if it believes that the client has it."""
    script = Script("E:a1", delta=True)
    script.ask("E", "a")
    script.settle()
    script.ask("E", "a")

    assert "E:a" == script.sent()


def test_delta_a_name_dropped_beside_a_wildcard_is_answered() -> None:
    """The client cannot know whether the wildcard covers it."""
    script = Script("C:a1", delta=True)
    script.ask("C", ("*", "a", "x"))
    assert "C:a -x ?x" == script.sent()
    script.answer("C")
    script.ask("C", drop="ax")

    assert "C:a -x" == script.sent()


def test_delta_a_phantom_unsubscription_does_nothing() -> None:
    """Names that were never wanted may be dropped."""
    script = Script("E:a1", delta=True)
    script.ask("E", "a")
    script.settle()
    script.ask("E", drop="z")

    assert "" == script.sent()


def test_delta_a_missing_name_is_removed_and_watched() -> None:
    """It is reported at once, and sent when it appears."""
    script = Script("E:a1", delta=True)
    script.ask("E", "ax")
    assert "E:a -x ?x" == script.sent()
    script.answer("E")
    script.publish("E:a1,x1")

    assert "E:x" == script.sent()


def test_delta_a_name_that_is_gone_is_removed_and_no_error() -> None:
    """Only what never existed for the client is an error of the resource."""
    script = Script("E:a1,b1", delta=True)
    script.ask("E", "ab")
    script.settle()
    script.publish("E:a1")

    assert "E: -b" == script.sent()


def test_an_authority_is_part_of_a_name() -> None:
    """Equal paths of two authorities are two resources."""
    names = ("xdstp://one/type/x", "xdstp://two/type/x")
    subscription = Subscription(frozenset(names[:1]), named=True)
    served = {name: make_stand_in(ENDPOINT, name, "1") for name in names}

    chosen, missing = subscription.choose(served)

    assert (names[:1], frozenset()) == (tuple(chosen), missing)


def test_sotw_a_missing_name_is_an_error_of_the_resource_and_watched() -> None:
    """It is reported once, and sent when it appears."""
    script = Script("E:a1", delta=False)
    script.ask("E", "ax")
    assert "E:a ?x" == script.sent()
    script.answer("E")
    script.publish("E:a2")
    assert "E:a" == script.sent()
    script.answer("E")
    script.publish("E:a2,x1")

    assert "E:x" == script.sent()


def test_delta_initial_versions_are_believed() -> None:
    """Held and unchanged is skipped, changed is sent, vanished is removed."""
    before = snap("E:a1,b1").of_type(ENDPOINT).resources
    script = Script("E:a1,b2", delta=True)
    initial = {"a": before["a"].version, "b": before["b"].version, "x": "1"}
    script.ask("E", "abx", initial=initial)

    assert "E:b -x" == script.sent()


def test_delta_a_wildcard_that_holds_everything_is_not_answered() -> None:
    """A reconnect without a change costs nothing."""
    version = snap("C:a1").of_type(CLUSTER).resources["a"].version
    script = Script("C:a1", delta=True)
    script.ask("C", "*", initial={"a": version})

    assert "" == script.sent()
