"""A client in memory that behaves like Envoy, to be paired with a stream of ours."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from controlplane.xds.delta import DeltaStream
from controlplane.xds.snapshot import Snapshot
from controlplane.xds.sotw import SotwStream
from controlplane.xds.types import (
    CLUSTER,
    ENDPOINT,
    WHOLE_STATE,
    DeltaRequest,
    Rejection,
    Resource,
    Response,
    SotwRequest,
)

BAD = "bad"
"""Content that the client refuses."""


def content(resource: Resource) -> str:
    """Return the content of a stand-in."""
    return resource.body.decode().partition("=")[2]


@dataclass
class TypeView:
    """What the client wants and holds of one type."""

    wanted: set[str]
    wildcard: bool
    held: dict[str, str] = field(default_factory=dict)
    """Name -> content."""
    versions: dict[str, str] = field(default_factory=dict)
    nonce: str = ""
    version: str = ""


class PairedClient:
    """Keeps the protocol's client side: applies or refuses, acknowledges, never reorders."""

    def __init__(self, *, delta: bool) -> None:
        self.delta = delta
        self.types: dict[str, TypeView] = {}
        self.inbox: deque[Response] = deque()
        self.received: list[Response] = []
        self.seen_nonces: set[str] = set()
        self.warming: set[str] = set()
        """Changed clusters whose assignment did not come since."""
        self.stream: SotwStream | DeltaStream = SotwStream(None)
        self._streams = 0

    def connect(self, snapshot: Snapshot, *, eager: bool = False) -> None:
        """Open a new stream and ask for everything again; what is held stays.

        Args:
            snapshot: what the server serves.
            eager: whether the server answers each request before it sees the next.
        """
        self._streams += 1
        kind = DeltaStream if self.delta else SotwStream
        self.stream = kind(snapshot, stream_id=f"{self._streams}-")
        self.inbox.clear()
        for type_url, view in self.types.items():
            view.nonce = ""
            self._request(type_url, view, subscribe=self._names(view), first=True)
            if eager:
                self.drain()

    def subscribe(self, type_url: str, names: set[str], *, wildcard: bool = False) -> None:
        """Want exactly *names*; a name dropped is forgotten."""
        view = self.types.get(type_url)
        if view is None:
            view = self.types[type_url] = TypeView(names, wildcard)
            self._request(type_url, view, subscribe=self._names(view), first=True)
            return
        added, dropped = names - view.wanted, view.wanted - names
        view.wanted = set(names)
        if not view.wildcard:
            for name in dropped:
                view.held.pop(name, None)
                view.versions.pop(name, None)
        self._request(type_url, view, subscribe=tuple(sorted(added)), unsubscribe=dropped)

    def take_one(self) -> None:
        """Handle the oldest response not yet handled, if any."""
        if not self.inbox:
            return
        response = self.inbox.popleft()
        self.received.append(response)
        assert response.nonce not in self.seen_nonces
        self.seen_nonces.add(response.nonce)
        names = [resource.name for resource in response.push.resources]
        assert len(set(names)) == len(names)
        assert not set(names).intersection(response.push.removed)
        view = self.types[response.type_url]
        refused = self._apply(response, view)
        view.nonce = response.nonce
        if not refused:
            view.version = response.push.version
        self._request(
            response.type_url, view, rejection=Rejection(3, "no") if refused else None, answer=True
        )

    def _apply(self, response: Response, view: TypeView) -> bool:
        resources = response.push.resources
        refused = any(content(resource) == BAD for resource in resources)
        # Envoy refuses assignments together, and takes the good ones of clusters and listeners.
        if refused and response.type_url not in WHOLE_STATE:
            return True
        if not self.delta and response.type_url in WHOLE_STATE:
            names = {resource.name for resource in resources}
            for name in set(view.held) - names:
                del view.held[name]
        for resource in resources:
            if content(resource) != BAD and (view.wildcard or resource.name in view.wanted):
                if response.type_url == CLUSTER:
                    self._warm(resource, view)
                elif response.type_url == ENDPOINT:
                    self.warming.discard(resource.name)
                view.held[resource.name] = content(resource)
                view.versions[resource.name] = resource.version
        for name in response.push.removed:
            view.held.pop(name, None)
            view.versions.pop(name, None)
        if response.type_url == CLUSTER:
            self.warming.intersection_update(view.held)
        return refused

    def _warm(self, resource: Resource, view: TypeView) -> None:
        if view.held.get(resource.name) != content(resource):
            self.warming.add(resource.name)

    def drain(self) -> None:
        """Move what the stream has to send to the inbox."""
        self.inbox.extend(self.stream.responses_to_send())

    def settle(self, *, rounds: int = 500) -> None:
        """Handle everything until nothing comes any more; fails when that never happens."""
        for _ in range(rounds):
            self.drain()
            if not self.inbox:
                if not self.stream.has_suspects:
                    return
                self.stream.isolate()
            self.take_one()
        raise AssertionError("the stream never falls silent")

    @staticmethod
    def _names(view: TypeView) -> tuple[str, ...]:
        return (("*",) if view.wildcard else ()) + tuple(sorted(view.wanted))

    def _request(
        self,
        type_url: str,
        view: TypeView,
        *,
        subscribe: tuple[str, ...] = (),
        unsubscribe: set[str] | None = None,
        first: bool = False,
        answer: bool = False,
        rejection: Rejection | None = None,
    ) -> None:
        if isinstance(self.stream, DeltaStream):
            self.stream.receive(
                DeltaRequest(
                    type_url,
                    subscribe,
                    tuple(sorted(unsubscribe or ())),
                    dict(view.versions) if first else {},
                    view.nonce if answer else "",
                    rejection,
                )
            )
        else:
            self.stream.receive(
                SotwRequest(type_url, self._names(view), view.version, view.nonce, rejection)
            )
