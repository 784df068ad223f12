"""Who is heard counts, with its clients, for as long as it says something."""

from __future__ import annotations

from controlplane.bus.presence import TIMEOUT, Presence


def test_clients_of_all_replicas_that_were_heard_lately_count() -> None:
    """What one replica says last is what it has; one that falls silent has none."""
    now = 0.0
    presence = Presence(clock=lambda: now)
    presence.own = {"north": 1}
    presence.hear("b", {"north": 5})
    presence.hear("b", {"north": 2, "south": 3})
    now = 1.0
    presence.hear("c", {"south": 4})

    assert 2 == presence.replicas
    assert {"north": 3, "south": 7} == presence.clients()
    assert {"north": 1, "south": 4} == presence.clients(apart="b")

    now = TIMEOUT
    assert 1 == presence.replicas
    assert {"north": 1, "south": 4} == presence.clients()


def test_what_the_leader_says_is_of_all_others() -> None:
    """A follower hears the leader alone, which counts the clients of the rest as its own."""
    presence = Presence(clock=lambda: 0.0)
    presence.hear("b", {"north": 5})
    presence.hear_only("leader", {"north": 7})

    assert 1 == presence.replicas
    assert {"north": 7} == presence.clients()
