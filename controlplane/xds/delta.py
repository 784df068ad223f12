"""Delta streams: each request carries changes of the subscription, each response changes of state.

Quoted sentences are from the xDS protocol page of the Envoy documentation; the section is in
brackets.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.xds.holding import ClientState
from controlplane.xds.stream import XdsStream
from controlplane.xds.subscription import WILDCARD, check_names
from controlplane.xds.type_state import TypeState
from controlplane.xds.types import WHOLE_STATE, DeltaRequest, Event, Resource


class DeltaStream(XdsStream):
    """The server's side of ``DeltaAggregatedResources`` or of a single type's stream."""

    delta = True

    def _is_whole(self, type_url: str) -> bool:  # noqa: ARG002  delta responses are never whole
        return False

    def receive(self, request: DeltaRequest) -> list[Event]:
        """Receive a request.

        Raises:
            ProtocolError: it breaks the protocol or a limit; the stream must end.
        """
        state = self._states.get(request.type_url)
        if state is None:
            state = self._state(request.type_url)
            state.subscribe(
                state.subscription.changed(
                    request.subscribe,
                    request.unsubscribe,
                    legacy=request.type_url in WHOLE_STATE,
                )
            )
            self._start_from(state, request.initial_versions)
            state.again = frozenset(filter(state.subscription.covers, state.again))
            # A client that holds nothing yet waits for an answer even if there is nothing to hold.
            state.answer_due = state.subscription.wildcard and not request.initial_versions
            state.urgent = True
            return []
        events = self._answer(state, request.nonce, request.rejection) if request.nonce else []
        # The nonce "should not be used to reject stale requests": the change of the subscription
        # counts whatever it says [Resource updates].
        if request.subscribe or request.unsubscribe:
            self._resubscribe(state, request)
        return events

    def _start_from(self, state: TypeState, versions: Mapping[str, str]) -> None:
        """Believe what a client holds from an earlier stream [Client Behavior on Reconnects]."""
        if not versions:
            return
        check_names(versions)
        covers = state.subscription.covers
        served = state.type_snapshot.resources
        held = {}
        for name, version in versions.items():
            if covers(name):
                resource = served.get(name)
                if resource is None or resource.version != version:
                    resource = Resource(name, version, b"")
                held[name] = resource
        state.held = ClientState("", held)

    def _resubscribe(self, state: TypeState, request: DeltaRequest) -> None:
        before = state.subscription
        after = before.changed(request.subscribe, request.unsubscribe)
        asked = set(request.subscribe)
        if WILDCARD in asked and before.wildcard:
            asked.update(state.held.resources)
        asked.discard(WILDCARD)
        # "the server must send [...] all resources that the client subscribes to, even if the
        # server believes that the client already has them" [How the client specifies ...].
        # "a client [...] unsubscribing from a name while it has a wildcard subscription" learns
        # whether it is still to hold the resource [Unsubscribing From Resources].
        left = before.names.intersection(request.unsubscribe) if after.wildcard else frozenset()
        state.subscribe(after)
        again = left.union(name for name in asked if after.covers(name))
        state.forget(again)
        state.again |= again
        state.urgent = True
