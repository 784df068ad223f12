"""The rules of both modes as scripts: answers, nonces, heartbeats, bounds."""

from __future__ import annotations

import pytest

from controlplane.errors import ProtocolError
from controlplane.xds import holding
from controlplane.xds.delta import DeltaStream
from controlplane.xds.snapshot import Snapshot, TypeSnapshot
from controlplane.xds.sotw import SotwStream
from controlplane.xds.stream import MAX_IN_FLIGHT, MAX_TYPES
from controlplane.xds.subscription import MAX_NAME_LENGTH, MAX_NAMES
from controlplane.xds.types import (
    ENDPOINT,
    Acked,
    DeltaRequest,
    Nacked,
    SotwRequest,
    StaleNonce,
)
from testbed.fakes.xds import make_snapshot, make_stand_in
from tests.xds.script import MODES, Script, snap


@pytest.mark.parametrize("delta", MODES)
def test_an_acknowledgement_is_not_answered(delta: bool) -> None:
    """Nothing changed, so nothing is sent."""
    script = Script("E:a1", delta=delta)
    script.ask("E", "a")

    assert "E:a" == script.sent()
    assert [Acked] == [type(event) for event in script.answer("E")]
    assert "" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_a_refusal_is_not_answered_until_something_changes(delta: bool) -> None:
    """What was sent counts, not what was taken."""
    script = Script("E:a1", delta=delta)
    script.ask("E", "a")
    script.sent()
    (event,) = script.answer("E", refuse="weight 0")

    assert isinstance(event, Nacked)
    assert "weight 0" == event.rejection.message
    assert "" == script.sent()
    script.publish("E:a1")
    assert "" == script.sent()
    script.publish("E:a2")
    assert "E:a" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_only_what_changed_is_sent(delta: bool) -> None:
    """Three of ten change: three go."""
    script = Script("E:a1,b1,c1", delta=delta)
    script.ask("E", "abc")
    script.settle()
    script.publish("E:a1,b2,c1")

    assert "E:b" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_states_that_were_not_sent_yet_are_replaced(delta: bool) -> None:
    """One push is in flight; then only the latest goes."""
    script = Script("E:a1", delta=delta)
    script.ask("E", "a")
    script.sent()
    for content in "234":
        script.publish(f"E:a{content}")
        assert "" == script.sent()
    script.answer("E")
    (response,) = script.stream.responses_to_send()

    assert response.push.resources[0].body.endswith(b"a=4")


def test_sotw_a_stale_nonce_is_ignored_and_its_names_come_with_the_next_answer() -> None:
    """Names of an outdated request are not lost: the client repeats them."""
    script = Script("E:a1,b1", delta=False)
    script.ask("E", "a")
    script.settle()
    old = script.nonces["E"][-1]
    script.publish("E:a2,b1")
    script.sent()

    assert [StaleNonce(ENDPOINT, old)] == script.ask("E", "ab", nonce=old)
    assert "" == script.sent()
    script.answer("E")
    assert "E:b" == script.sent()


def test_sotw_a_stale_nonce_counts_when_nothing_is_in_flight() -> None:
    """A client that repeats an old nonce would otherwise wait for ever."""
    script = Script("E:a1,b1", delta=False)
    script.ask("E", "a")
    script.settle()
    script.ask("E", "ab", nonce="of-another-stream")

    assert "E:b" == script.sent()


def test_delta_a_stale_nonce_keeps_its_change_of_subscription() -> None:
    """The nonce must not be used to reject requests."""
    script = Script("E:a1,b1", delta=True)
    script.ask("E", "a")
    script.settle()
    old = script.nonces["E"][-1]
    script.publish("E:a2,b1")
    script.sent()
    script.ask("E", "b", nonce=old)

    assert "E:b" == script.sent()


def test_delta_answers_in_flight_are_bounded() -> None:
    """A client that only asks and never acknowledges waits at last."""
    script = Script("E:a1", delta=True)
    answered = 0
    for _ in range(MAX_IN_FLIGHT * 2):
        script.ask("E", "a")
        answered += bool(script.sent())

    assert MAX_IN_FLIGHT == answered


def test_a_first_request_counts_whatever_its_nonce() -> None:
    """Nonces do not survive a stream."""
    script = Script("E:a1", delta=False)
    script.ask("E", "a", nonce="of-another-stream")

    assert "E:a" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_large_responses_are_split(delta: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response stays below what clients accept, where the type may be split."""
    monkeypatch.setattr(holding, "RESPONSE_LIMIT", 150)
    script = Script("E:a1,b1,c1", delta=delta)
    script.ask("E", "abc")
    assert "E:a" == script.sent().split(",")[0]
    while script.nonces["E"][-1] in script.stream._states[ENDPOINT].in_flight:
        for nonce in tuple(script.stream._states[ENDPOINT].in_flight):
            script.ask("E", "" if delta else "abc", nonce=nonce)
        script.sent()
    script.publish("E:a1,b1,c1")

    assert "" == script.sent()
    assert 1 < len(script.nonces["E"])


def test_streams_that_are_alike_share_their_pushes() -> None:
    """What two streams are sent alike is made once."""
    first, second = (Script("E:a1", delta=False) for _ in range(2))
    one, two = snap("E:a1,b1"), snap("E:a2,b1")
    pushes = []
    for snapshot in (one, two):
        for script in (first, second):
            script.stream.publish(snapshot)
            script.ask("E", "ab")
        pushes += [
            response.push
            for script in (first, second)
            for response in script.stream.responses_to_send()
        ]
        for script in (first, second):
            script.ask("E", "ab", nonce=script.stream._states[ENDPOINT].nonce)

    assert pushes[0] is pushes[1]
    assert pushes[2] is pushes[3]


@pytest.mark.parametrize("delta", MODES)
def test_heartbeats_renew_what_has_a_time_to_live(delta: bool) -> None:
    """They carry the same version, and only what lives for a limited time."""
    resources = [make_stand_in(ENDPOINT, "a", "1", ttl=9.0), make_stand_in(ENDPOINT, "b", "1")]
    script = Script("", delta=delta)
    script.stream.publish(Snapshot({ENDPOINT: TypeSnapshot.of(resources)}))
    script.ask("E", "ab")
    script.settle()
    (beat,) = script.stream.heartbeats_to_send()

    assert 9.0 == script.stream.shortest_ttl
    assert beat.push.heartbeat
    assert ["a"] == [resource.name for resource in beat.push.resources]
    assert [Acked] == [
        type(event) for event in script.ask("E", "" if delta else "ab", nonce=beat.nonce)
    ]
    assert "" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_a_glob_collection_holds_its_direct_members(delta: bool) -> None:
    """Members come and go with the collection; deeper ones are others' [xRFC TP1]."""
    base = "xdstp://cats/envoy.config.endpoint.v3.ClusterLoadAssignment/shop/"
    members = {base + "a": "1", base + "b/c": "1", base + "d?env=prod": "1"}
    script = Script("", delta=delta)
    script.stream.publish(make_snapshot({ENDPOINT: members}))
    script.ask("E", [base + "*"])
    assert f"E:{base}a" == script.sent()
    script.answer("E")
    script.stream.publish(make_snapshot({ENDPOINT: {**members, base + "e": "1"}}))

    assert f"E:{base}e" == script.sent()


@pytest.mark.parametrize("delta", MODES)
@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"n{i}" for i in range(MAX_NAMES + 1)], id="too many names"),
        pytest.param(["n" * (MAX_NAME_LENGTH + 1)], id="a name too long"),
    ],
)
def test_what_no_honest_client_asks_ends_the_stream(delta: bool, names: list[str]) -> None:
    """Limits on what one client can make us hold."""
    script = Script("", delta=delta)

    with pytest.raises(ProtocolError):
        script.ask("E", names)


@pytest.mark.parametrize("delta", MODES)
def test_types_per_stream_are_bounded(delta: bool) -> None:
    """A stream cannot open types without end."""
    stream: SotwStream | DeltaStream = (DeltaStream if delta else SotwStream)(snap(""))

    def ask(type_url: str) -> None:
        if isinstance(stream, DeltaStream):
            stream.receive(DeltaRequest(type_url))
        else:
            stream.receive(SotwRequest(type_url))

    for number in range(MAX_TYPES):
        ask(f"type-{number}")

    with pytest.raises(ProtocolError):
        ask("one-more")


@pytest.mark.parametrize("delta", MODES)
def test_nothing_is_sent_without_a_snapshot(delta: bool) -> None:
    """An empty answer would wipe a running Envoy."""
    script = Script("", delta=delta)
    script.stream = (DeltaStream if delta else SotwStream)(None)
    script.ask("C")
    assert "" == script.sent()
    script.publish("C:a1")

    assert "C:a" == script.sent()
