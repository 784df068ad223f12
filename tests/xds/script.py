"""A stream of either mode, driven in short words: what is fed, and what must then be sent."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from controlplane.xds.delta import DeltaStream
from controlplane.xds.snapshot import Snapshot
from controlplane.xds.sotw import SotwStream
from controlplane.xds.types import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    DeltaRequest,
    Event,
    Rejection,
    SotwRequest,
)
from testbed.fakes.xds import make_snapshot

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
