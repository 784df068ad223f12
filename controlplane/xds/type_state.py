"""Where one stream stands with one type: what its client wants, holds, has rejected and awaits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from controlplane.xds.holding import NONE, NOTHING, ClientState
from controlplane.xds.snapshot import TypeSnapshot
from controlplane.xds.subscription import Subscription
from controlplane.xds.types import Acked, Event, Nacked, Push, Rejection, Resource


class ResourceStatus(StrEnum):
    """How far a resource has come on one stream."""

    TAKEN = "taken"
    UNDER_WAY = "under way"
    """Sent and not answered."""
    REFUSED = "refused"
    NOT_SENT = "not sent"
    """Wanted, and to be sent, or unknown to us."""


@dataclass(frozen=True, slots=True)
class ClientResource:
    """One resource of one stream, for anyone who asks who has what."""

    type_url: str
    name: str
    standing: ResourceStatus
    resource: Resource | None
    """As last sent; None if it was not."""


class TypeState:
    """Where one stream stands with one type."""

    __slots__ = (
        "again",
        "answer_due",
        "apart",
        "held",
        "in_flight",
        "nonce",
        "parked",
        "refused",
        "subscription",
        "target",
        "type_snapshot",
        "type_url",
        "urgent",
        "whole",
    )

    def __init__(self, type_url: str, type_snapshot: TypeSnapshot, *, whole: bool) -> None:
        self.type_url = type_url
        self.type_snapshot = type_snapshot
        self.whole = whole
        self.subscription = Subscription()
        self.target: ClientState | None = None
        self.held = NOTHING
        self.again = NONE
        self.apart = NONE
        self.parked = NONE
        self.in_flight: dict[str, Push] = {}
        self.nonce = ""
        self.urgent = False
        self.answer_due = False
        self.refused = NONE

    def subscribe(self, subscription: Subscription) -> None:
        """Adopt a changed subscription; what is no longer wanted counts as dropped by it."""
        if subscription == self.subscription:
            return
        narrowed = (
            not subscription.wildcard and self.subscription.names - subscription.names
        ) or self.subscription.wildcard > subscription.wildcard
        self.subscription = subscription
        self.target = None
        if narrowed:
            covered = [name for name in self.held.resources if subscription.covers(name)]
            self.forget(set(self.held.resources).difference(covered))
            self.held = ClientState(
                self.held.version,
                self.held.resources,
                self.held.missing.intersection(subscription.names),
            )

    def forget(self, names: Iterable[str]) -> None:
        """Count *names* as never sent."""
        gone = frozenset(names)
        held = self.held
        if gone.isdisjoint(held.resources) and gone.isdisjoint(held.missing):
            return  # Another object, though equal, would share nothing with other streams.
        kept = {name: known for name, known in held.resources.items() if name not in gone}
        self.held = ClientState(held.version, kept, held.missing - gone)
        self.apart -= gone
        self.parked -= gone

    def see(self, type_snapshot: TypeSnapshot) -> None:
        """Aim at the resources of a newer snapshot; a change frees what was refused in company."""
        if type_snapshot is self.type_snapshot:
            return
        if type_snapshot.version != self.type_snapshot.version:
            self.unpark()
        self.type_snapshot = type_snapshot
        self.target = None

    def unpark(self) -> None:
        """Let what was refused in company go once more, one by one."""
        if self.parked:
            self.again |= self.parked
            self.parked = NONE

    def aim_at(self) -> ClientState:
        """Return what the client should hold."""
        target = self.target
        if target is None:
            self.target = target = self.type_snapshot.select(self.subscription)
        return target

    def settle(self, nonce: str, rejection: Rejection | None) -> Event:
        """Receive the client's answer to the response *nonce*, which is in flight."""
        push = self.in_flight.pop(nonce)
        if rejection is None:
            if self.refused or self.apart:
                self._trust(_names_of(push))
            return Acked(self.type_url, push.version, nonce)
        names = _names_of(push)
        self.refused |= names
        if not self.whole:
            if len(names) > 1:
                self.parked |= names
            self.apart |= names
        return Nacked(self.type_url, push.version, nonce, rejection)

    def _trust(self, names: frozenset[str]) -> None:
        """Let what was taken travel with the others again, if it proved itself alone."""
        self.refused = NONE if self.whole else self.refused.difference(names)
        if len(names) == 1:
            self.apart -= names


def _names_of(push: Push) -> frozenset[str]:
    return frozenset([*(resource.name for resource in push.resources), *push.removed])
