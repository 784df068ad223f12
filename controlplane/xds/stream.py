"""What state-of-the-world and delta streams have in common: when to send what.

A stream is fed requests and snapshots and drained of events and responses; it opens nothing and
reads no clock.
The laws it keeps, whatever the order of what it is fed:

* Compare with what was sent, never with what was acknowledged: a refusal is not answered.
* One push in flight per type, then the latest: a slow client costs one response, never a queue.
* What a client was never sent goes at once; changes and removals go in the order of `ordering`.
* A changed cluster is followed by its assignment, for Envoy warms it only then
  [Resource warming].
* Refused company is taken apart: what was refused together is sent once more one by one, but only
  after the next change or after `isolate`, so that one bad resource does not keep back the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from controlplane.errors import ProtocolError
from controlplane.xds.holding import NONE, Aim, ClientState, Step
from controlplane.xds.ordering import REFERRERS, WAIT_FOR_CLUSTERS, push_rank
from controlplane.xds.snapshot import EMPTY, Snapshot
from controlplane.xds.subscription import MAX_NAME_LENGTH
from controlplane.xds.type_state import ClientResource, ResourceStatus, TypeState
from controlplane.xds.types import CLUSTER, ENDPOINT, Event, Push, Rejection, Response, StaleNonce

MAX_TYPES = 32
"""Types on one stream; Envoy knows about a dozen."""

MAX_IN_FLIGHT = 8
"""Responses of one type that a delta client may leave unacknowledged by asking for more."""


class XdsStream(ABC):
    """Feed it requests and snapshots; drain events and responses."""

    delta: bool

    def __init__(self, snapshot: Snapshot | None, *, stream_id: str = "") -> None:
        self._snapshot = snapshot
        self._stream_id = stream_id
        self._count = 0
        self._states: dict[str, TypeState] = {}
        self._ordered: tuple[TypeState, ...] = ()
        self._warming: frozenset[str] = NONE

    @property
    def has_suspects(self) -> bool:
        """Return whether resources wait to be sent one by one, having been refused in company."""
        return any(state.parked for state in self._ordered)

    @property
    def shortest_ttl(self) -> float | None:
        """Return the least time to live, in seconds, of the resources of the client's types."""
        ttls = (state.type_snapshot.shortest_ttl for state in self._ordered)
        return min((ttl for ttl in ttls if ttl is not None), default=None)

    def held_resources(self) -> Iterator[ClientResource]:
        """Return every resource that the client was sent or asked for by name, and its standing."""
        for state in self._ordered:
            under_way = {
                resource.name for push in state.in_flight.values() for resource in push.resources
            }
            for name, resource in state.held.resources.items():
                standing = (
                    ResourceStatus.UNDER_WAY
                    if name in under_way
                    else ResourceStatus.REFUSED
                    if name in state.refused
                    else ResourceStatus.TAKEN
                )
                yield ClientResource(state.type_url, name, standing, resource)
            for name in sorted(state.subscription.names.difference(state.held.resources)):
                yield ClientResource(state.type_url, name, ResourceStatus.NOT_SENT, None)

    def publish(self, snapshot: Snapshot) -> None:
        """Aim at a newer snapshot."""
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        for state in self._ordered:
            state.see(snapshot.types.get(state.type_url, EMPTY))

    def isolate(self) -> None:
        """Send what was refused in company once more, one by one."""
        for state in self._ordered:
            state.unpark()

    def responses_to_send(self) -> list[Response]:
        """Return the responses that are due now, in order; nothing until there is a snapshot."""
        if self._snapshot is None:
            return []
        responses: list[Response] = []
        for state in self._ordered:
            while (step := self._due(state)) is not None:
                responses.append(self._sent(state, step))
        return responses

    def heartbeats_to_send(self) -> list[Response]:
        """Renew what has a time to live: wrappers of an unchanged version without a resource [TTL].

        A type that waits for an acknowledgement gets none: what is under way renews it.
        """
        responses = []
        for state in self._ordered:
            living = tuple(
                resource for resource in state.held.resources.values() if resource.ttl is not None
            )
            if living and not state.in_flight:
                push = Push(state.held.version, living, heartbeat=True)
                responses.append(Response(state.type_url, self._take_nonce(state, push), push))
        return responses

    def _state(self, type_url: str) -> TypeState:
        """Find or make the state of a type.

        Raises:
            ProtocolError: there is no type, it is too long, or there are too many on this stream.
        """
        if not type_url:
            raise ProtocolError("a request without a type_url")
        if len(type_url) > MAX_NAME_LENGTH:
            raise ProtocolError(f"a type_url of {len(type_url)} characters")
        if len(self._states) >= MAX_TYPES:
            raise ProtocolError(f"more than {MAX_TYPES} types on one stream")
        type_snapshot = self._snapshot.of_type(type_url) if self._snapshot else EMPTY
        state = TypeState(type_url, type_snapshot, whole=self._is_whole(type_url))
        self._states[type_url] = state
        self._ordered = tuple(
            sorted(self._states.values(), key=lambda state: push_rank(state.type_url))
        )
        if type_url == ENDPOINT:
            state.again, self._warming = self._warming, NONE
        return state

    @abstractmethod
    def _is_whole(self, type_url: str) -> bool:
        """Return whether responses of a type carry everything wanted."""

    def _due(self, state: TypeState) -> Step | None:
        """Return the next response of a type, or none: nothing is due, or it has to wait."""
        if state.in_flight and (
            not state.urgent or not self.delta or len(state.in_flight) >= MAX_IN_FLIGHT
        ):
            return None
        if state.held is state.target and not state.again and not state.answer_due:
            state.urgent = False
            return None
        step = self._next_step(state)
        if step.due or (state.answer_due and step.to is None):
            return step
        state.urgent = False
        if step.to is None:
            state.held, state.again = state.aim_at(), NONE
        return None

    def _next_step(self, state: TypeState) -> Step:
        target = state.aim_at()
        fresh_only = state.type_url in WAIT_FOR_CLUSTERS and self._has_new_clusters_under_way()
        aim = Aim(self.delta, state.whole, state.again, state.apart, fresh_only=fresh_only)
        step = target.step_from(state.held, aim)
        if step.removes and state.type_url in REFERRERS and self._is_referred_to(state.type_url):
            step = target.step_from(state.held, aim._replace(keep=True))
        return step

    def _is_referred_to(self, type_url: str) -> bool:
        """Return whether a client may still hold something that refers to removed *type_url*."""
        for referrer in REFERRERS[type_url]:
            state = self._states.get(referrer)
            if state is None:
                continue
            if (
                state.in_flight
                or not state.refused.isdisjoint(state.aim_at().resources)
                or self._next_step(state).due
            ):
                return True
        return False

    def _has_new_clusters_under_way(self) -> bool:
        clusters = self._states.get(CLUSTER)
        if clusters is None:
            return False
        if any(push.adds for push in clusters.in_flight.values()):
            return True
        target = clusters.aim_at()
        return clusters.held is not target and any(
            name not in clusters.held.resources for name in target.resources
        )

    def _sent(self, state: TypeState, step: Step) -> Response:
        push, before = step.push, state.held
        state.held = state.aim_at() if step.to is None else step.to
        if state.again:
            done = (*(resource.name for resource in push.resources), *push.removed)
            state.again = NONE if step.to is None else state.again.difference(done)
        state.answer_due = False
        if state.type_url == CLUSTER:
            self._warm(push, before)
        return Response(state.type_url, self._take_nonce(state, push), push)

    def _take_nonce(self, state: TypeState, push: Push) -> str:
        self._count += 1
        nonce = f"{self._stream_id}{self._count:x}"
        state.nonce = nonce
        state.in_flight[nonce] = push
        return nonce

    def _warm(self, push: Push, before: ClientState) -> None:
        """Send the assignments of changed and new clusters after them, even unchanged."""
        changed = frozenset(
            resource.name
            for resource in push.resources
            if (known := before.resources.get(resource.name)) is None
            or known.version != resource.version
        )
        state = self._states.get(ENDPOINT)
        if state is None:
            if self._snapshot is not None:
                served = self._snapshot.of_type(ENDPOINT).resources
                self._warming = (self._warming | changed).intersection(served)
            return
        assignments = state.aim_at().resources
        # One that is only kept for now would not be sent again should it come back unchanged.
        state.forget(changed.difference(assignments))
        # A cluster may take an assignment of another name, which only the client knows.
        named_alike = changed.intersection(assignments)
        state.again = state.again.union(
            named_alike if len(named_alike) == len(changed) else assignments
        )

    def _answer(self, state: TypeState, nonce: str, rejection: Rejection | None) -> list[Event]:
        """Receive the part of a request that answers a response."""
        if nonce in state.in_flight:
            return [state.settle(nonce, rejection)]
        if nonce != state.nonce:
            return [StaleNonce(state.type_url, nonce)]
        return []
