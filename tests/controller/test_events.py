"""Watchers get the newest state and every recent fault, in bounded memory."""

from __future__ import annotations

import json

import pytest

from controlplane.controller.events import FAULT_LIMIT, EventHub, WatcherReplaced


def parsed(content: bytes) -> list[tuple[str, object]]:
    """Split a stream into (kind, document) pairs."""
    events = []
    for block in content.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        events.append((fields["event"], json.loads(fields["data"])))
    return events


async def test_an_unread_state_is_replaced_by_the_newest() -> None:
    """Who reads slowly sees the present, not a backlog."""
    hub = EventHub()
    watcher = hub.watch()
    for version in range(1000):
        hub.publish_state("plan", lambda version=version: version)  # type: ignore[misc]
    hub.publish_state("fleet", lambda: {"at": 1})

    assert [("plan", 999), ("fleet", {"at": 1})] == parsed(await watcher.next_bytes())


async def test_faults_are_kept_in_order_up_to_a_limit() -> None:
    """The newest faults survive; an idle watcher does not grow."""
    hub = EventHub()
    watcher = hub.watch()
    for number in range(2 * FAULT_LIMIT + 5):
        hub.publish_fault(number)

    events = parsed(await watcher.next_bytes())

    assert [("fault", number) for number in range(5, 2 * FAULT_LIMIT + 5)] == events


async def test_what_is_only_reported_pushes_out_no_fault() -> None:
    """A busy day of moved shares leaves earlier faults for those who come to look."""
    hub = EventHub()
    hub.publish_fault({"kind": "fault"})
    for number in range(2 * FAULT_LIMIT):
        hub.publish_fault({"kind": "moved", "level": "info", "number": number})

    events = parsed(await hub.watch().next_bytes())

    assert ("fault", {"kind": "fault"}) == events[0]
    assert FAULT_LIMIT + 1 == len(events)


async def test_a_watcher_is_woken_for_a_state_that_it_fetches_itself() -> None:
    """Nothing is queued for it, and those who do not want the state sleep on."""
    hub = EventHub()
    watcher = hub.watch(frozenset({"live"}))
    hub.wake("live")
    hub.wake("live")

    assert (b"", True, False) == (await watcher.next_bytes(), hub.wants("live"), hub.wants("plan"))


async def test_a_new_watcher_gets_the_faults_of_before() -> None:
    """Anyone who opens the page after a refusal still sees it."""
    hub = EventHub()
    hub.publish_fault("refused")

    assert [("fault", "refused")] == parsed(await hub.watch().next_bytes())


def test_nothing_is_encoded_when_nobody_watches() -> None:
    """A fleet of thousands costs no JSON without a reader."""
    made: list[int] = []

    EventHub().publish_state("plan", lambda: made.append(1))

    assert [] == made


async def test_when_all_seats_are_taken_the_oldest_of_the_busiest_machine_makes_room() -> None:
    """64 forgotten terminals of one machine keep no other from watching."""
    hub = EventHub(client_limit=3)
    forgotten = [hub.watch(peer="10.0.0.1"), hub.watch(peer="10.0.0.1")]
    dashboard = hub.watch(peer="10.0.0.2")

    newest = hub.watch(peer="10.0.0.3")

    assert 3 == len(hub)
    with pytest.raises(WatcherReplaced):
        await forgotten[0].next_bytes()
    hub.publish_fault("seen")
    for watcher in (forgotten[1], dashboard, newest):
        assert [("fault", "seen")] == parsed(await watcher.next_bytes())
