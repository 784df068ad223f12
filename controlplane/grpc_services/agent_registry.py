"""Which agents are connected, and what each has reported.

Texts are bounded where a record is made: an agent names itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class AgentRecord:
    """What came from one agent since it connected. Times are monotonic seconds."""

    id: str
    site: str
    version: str
    peer: str
    connected_at: float
    last_at: float
    batches: int = 0
    accepted: int = 0
    refused: int = 0
    lost: int = 0
    """Batches missing in the sequence."""
    unknown_signals: int = 0
    last_refusal: str = ""
    clock_offset: float = 0.0
    """Seconds that the agent's wall clock is ahead of ours; harmless, and worth fixing."""


class AgentRegistry:
    """The connected agents. For one event loop."""

    def __init__(self) -> None:
        self._agents: dict[int, AgentRecord] = {}

    @property
    def agents(self) -> tuple[AgentRecord, ...]:
        """Return the connected agents in the order they came."""
        return tuple(self._agents.values())

    def get(self, stream: int) -> AgentRecord | None:
        """Return the agent of a stream; None until it has said who it is."""
        return self._agents.get(stream)

    def connect(self, stream: int, record: AgentRecord) -> None:
        """Record that *stream* is of the agent *record*."""
        self._agents[stream] = record

    def disconnect(self, stream: int) -> AgentRecord | None:
        """Remove the agent of a stream; return it, None if it never said who it is."""
        return self._agents.pop(stream, None)
