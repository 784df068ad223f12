"""The rules of both modes as scripts: what is fed, and what must then be sent."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from controlplane.errors import ProtocolError
from controlplane.xds import holding
from controlplane.xds.delta import DeltaStream
from controlplane.xds.snapshot import Snapshot, TypeSnapshot
from controlplane.xds.sotw import SotwStream
from controlplane.xds.stream import MAX_IN_FLIGHT, MAX_TYPES
from controlplane.xds.subscription import MAX_NAME_LENGTH, MAX_NAMES, Subscription
from controlplane.xds.types import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    Acked,
    DeltaRequest,
    Event,
    Nacked,
    Rejection,
    SotwRequest,
    StaleNonce,
)
from testbed.fakes.xds import make_snapshot, make_stand_in

SHORT = {CLUSTER: "C", ENDPOINT: "E", LISTENER: "L", ROUTE: "R"}
LONG = {short: type_url for type_url, short in SHORT.items()}
MODES = [pytest.param(False, id="sotw"), pytest.param(True, id="delta")]


def snap(text: str) -> Snapshot:
    """Make a snapshot of ``C:a1,b1 E:a1``: type, names of one letter, content."""
    types: dict[str, dict[str, str]] = {type_url: {} for type_url in SHORT}
    for part in text.split():
        kind, _, resources = part.partition(":")
        types[LONG[kind]] = {item[0]: item[1:] for item in resources.split(",") if item}
    return make_snapshot(types)


class Script:
    """A stream, driven in short words."""

    def __init__(self, snapshot: str, *, delta: bool) -> None:
        self.delta = delta
        self.stream: SotwStream | DeltaStream = (DeltaStream if delta else SotwStream)(
            snap(snapshot)
        )
        self.nonces: dict[str, list[str]] = {}
        self.names: dict[str, tuple[str, ...]] = {}

    def publish(self, snapshot: str) -> None:
        """Publish."""
        self.stream.publish(snap(snapshot))

    def ask(
        self,
        kind: str,
        names: Iterable[str] = (),
        *,
        drop: Iterable[str] = (),
        nonce: str = "",
        refuse: str = "",
        initial: dict[str, str] | None = None,
    ) -> list[Event]:
        """Send a request: all names wanted in state-of-the-world mode, changes in delta mode."""
        rejection = Rejection(3, refuse) if refuse else None
        self.names[kind] = tuple(names)
        if isinstance(self.stream, DeltaStream):
            return self.stream.receive(
                DeltaRequest(LONG[kind], tuple(names), tuple(drop), initial or {}, nonce, rejection)
            )
        return self.stream.receive(
            SotwRequest(LONG[kind], tuple(names), nonce=nonce, rejection=rejection)
        )

    def answer(self, kind: str, *, refuse: str = "", back: int = 1) -> list[Event]:
        """Acknowledge or refuse the last response of a type, or one further back."""
        nonce = self.nonces[kind][-back]
        names = () if self.delta else self.names[kind]
        return self.ask(kind, names, nonce=nonce, refuse=refuse)

    def sent(self) -> str:
        """Return what is due as ``C:a,b E:a -x ?y``: sent, removed, missing."""
        words = []
        for response in self.stream.responses_to_send():
            kind = SHORT[response.type_url]
            self.nonces.setdefault(kind, []).append(response.nonce)
            push = response.push
            words.append(f"{kind}:" + ",".join(resource.name for resource in push.resources))
            words += [f"-{name}" for name in push.removed]
            words += [f"?{name}" for name in push.missing]
        return " ".join(words)

    def settle(self) -> None:
        """Acknowledge everything until nothing comes."""
        while self.sent():
            for kind in self.nonces:
                self.answer(kind)


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


def test_a_first_request_counts_whatever_its_nonce() -> None:
    """Nonces do not survive a stream."""
    script = Script("E:a1", delta=False)
    script.ask("E", "a", nonce="of-another-stream")

    assert "E:a" == script.sent()


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


@pytest.mark.parametrize("delta", MODES)
def test_refused_company_is_taken_apart_after_the_next_change(delta: bool) -> None:
    """The bad one is found by going alone; the others are not kept back."""
    script = Script("E:a1,b1,c1", delta=delta)
    script.ask("E", "abc")
    script.settle()
    script.publish("E:a2,b2,c1")
    assert "E:a,b" == script.sent()
    script.answer("E", refuse="b is bad")
    assert "" == script.sent()
    script.publish("E:a2,b2,c2")
    seen = []
    while sent := script.sent():
        seen.append(sent)
        script.answer("E", refuse="bad" if sent == "E:b" else "")

    assert ["E:c", "E:a", "E:b"] == seen
    script.publish("E:a3,b3,c3")
    assert "E:a,c" == script.sent()
    script.answer("E")
    assert "E:b" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_refused_company_is_taken_apart_without_a_change_when_told(delta: bool) -> None:
    """Each goes once more, alone, and then there is silence."""
    script = Script("E:a1,b1", delta=delta)
    script.ask("E", "ab")
    script.sent()
    script.answer("E", refuse="bad")
    assert script.stream.has_suspects
    script.stream.isolate()
    for name in "ab":
        assert f"E:{name}" == script.sent()
        script.answer("E", refuse="bad")
    script.stream.isolate()

    assert not script.stream.has_suspects
    assert "" == script.sent()


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
