"""What replicas send each other where no broker does, as JSON: questions to the leader, answers.

A question carries a follower's reports and the version of the plan that it has; the answer has the
others' reports and, if it is another one, the plan; that to a follower which joins also has what
the leader learned.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from controlplane.errors import ControlPlaneError


class PeerError(ControlPlaneError):
    """The leader did not answer, or not as a leader."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a follower asks."""

    to: str
    sender: str
    count: int
    have: str
    """Version of the plan that it has; empty if it has none."""
    since: int
    """Number of the last report that it heard from this leader; -1 if none."""
    message: str
    """Its own reports and clients, as `controlplane.bus.codec` writes them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the leader says."""

    version: str
    plan: str
    """Base 64 of the deflated plan; empty if the follower has it."""
    until: int
    """Number of the last report in *message*."""
    message: str
    memory: str = ""
    """Base 64 of the deflated estimates, for a follower that joins; empty if there are none."""


_T = TypeVar("_T", Question, Answer)
_READERS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Question, Answer)}


def encode_peer_message(what: Question | Answer) -> bytes:
    """Write a question or an answer as JSON."""
    document = {name: getattr(what, name) for name in what.__slots__}
    return json.dumps(document, separators=(",", ":")).encode()


def decode_peer_message(kind: type[_T], content: bytes) -> _T:
    """Read a question or an answer; raise `PeerError` if it is none.

    What a replica of an earlier version does not say has its default.
    """
    try:
        message: _T = _READERS[kind].validate_json(content, strict=True)
    except ValidationError as error:
        raise PeerError(f"no message of a replica: {error}"[:200]) from error
    return message
