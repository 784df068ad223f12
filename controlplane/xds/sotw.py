"""State-of-the-world streams: each request repeats the whole list of names.

Quoted sentences are from the xDS protocol page of the Envoy documentation; the section is in
brackets.
"""

from __future__ import annotations

from controlplane.xds.stream import XdsStream
from controlplane.xds.types import WHOLE_STATE, Event, SotwRequest


class SotwStream(XdsStream):
    """The server's side of ``StreamAggregatedResources`` or of a single type's stream."""

    delta = False

    def _is_whole(self, type_url: str) -> bool:
        # "for Listener and Cluster resource types, [...] every response must include every resource
        # the client is interested in; a resource that is absent is deleted" [Deleting Resources].
        return type_url in WHOLE_STATE

    def receive(self, request: SotwRequest) -> list[Event]:
        """Receive a request.

        Raises:
            ProtocolError: it breaks the protocol or a limit; the stream must end.
        """
        state = self._states.get(request.type_url)
        events: list[Event] = []
        if state is None:
            # "nonces do not survive a stream" [ACK/NACK and resource type instance version]:
            # the first request of a type counts whatever its nonce says.
            state = self._state(request.type_url)
            first = True
        else:
            first = False
            events = self._answer(state, request.nonce, request.rejection)
            if state.in_flight:
                # "if a newer response was sent, the server ignores" it [ACK/NACK]; no name is lost
                # for ever: the client repeats them when it answers the response in flight.
                return events
        subscription = state.subscription
        if first or subscription.names != frozenset(request.names) or subscription.wildcard:
            newer = subscription.replaced(request.names, request.type_url)
            if newer != subscription:
                # A name dropped and taken up again is new [How the client specifies ...].
                state.forget(newer.names - subscription.names)
                state.subscribe(newer)
        if first:
            state.answer_due = state.whole and (
                state.subscription.wildcard or bool(state.subscription.names)
            )
        return events
