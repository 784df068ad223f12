"""What a simulated engine truly is, and the requests that it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

TINY = 1e-9
"""Work below which a request counts as done: rounding of the virtual time."""

LONE_TOKENS = 50.0
"""Output tokens that a request of an engine that batches makes in a second of its work: it counts
them as it makes them, step by step, as vLLM does."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine truly is; steering must find out."""

    slots: int
    """Requests in service at once; the others wait in order."""
    speed: float = 1.0
    """Work a second that a lone request gets."""
    slowdown: float = 0.0
    """Time that each further request in service adds, as a part of the lone time; 0 is queue-like.
    """
    kind: Literal["work", "tokens"] = "work"
    prefill_rate: float = 8000.0
    """Prompt tokens read a second at speed 1 (kind tokens)."""
    step_time: float = 0.02
    """Seconds of a decoding step with one sequence at speed 1 (kind tokens)."""
    kv_tokens: float = 200_000.0
    """Tokens that fit into the key-value cache (kind tokens)."""
    idle_power: float = 0.0
    """Watts."""
    busy_power: float = 0.0
    """Watts with all slots in use."""
    max_loaded: int = 0
    """Models that it holds at once, the least recently used one giving way; 0 holds all."""
    prompt_part: float = 0.5
    """Part of a request's work that is reading its prompt (kind work, where any is remembered)."""
    cached_sessions: int = 0
    """Sessions whose prompts it remembers, the least recently used one giving way; 0 for none."""
    cache_saves: float = 0.6
    """Part of a prompt that need not be read again where its session is remembered."""
    load_time: float = 0.0
    """Seconds alone at speed 1 that loading a model adds to the request that asks for it."""

    def capacity(self, work: float, prompt: float = 0.0, output: float = 0.0) -> float:
        """Return the requests a second that it sustains.

        Each takes *work* seconds alone at speed 1; for kind tokens *prompt* and *output* tokens
        count instead, and the key-value cache bounds how many decode at once.
        """
        if self.kind == "work":
            return self.slots * self.speed / (work * (1 + self.slowdown * (self.slots - 1)))
        batch = max(1.0, min(float(self.slots), self.kv_tokens / max(prompt + output, 1.0)))
        step = self.step_time * (1 + self.slowdown * (batch - 1))
        return self.speed / (prompt / self.prefill_rate + output * step / batch)

    def alone(self, work: float, prompt: float = 0.0, output: float = 0.0) -> float:
        """Return the seconds that a request takes with nothing else inside."""
        if self.kind == "work":
            return work / self.speed
        return (prompt / self.prefill_rate + output * self.step_time) / self.speed


class EngineLoad:
    """The requests of one run, by index, as every engine reads them."""

    __slots__ = ("arrived", "deadline", "first", "model", "output", "prompt", "session", "work")

    def __init__(
        self,
        work: Sequence[float],
        prompt: Sequence[float],
        output: Sequence[float],
        deadline: Sequence[float],
        model: Sequence[int] = (),
        *,
        session: Sequence[int] = (),
    ) -> None:
        self.work = work
        """Seconds alone at speed 1."""
        self.prompt = prompt
        self.output = output
        self.deadline = deadline
        """Instant at which the client gives up; infinite if never."""
        self.model = model
        """What each asks for, by number; read by engines that do not hold all."""
        self.session = session
        """What each belongs to, by number, -1 for nothing; empty where no request has any."""
        self.arrived = [0.0] * len(work)
        """Instant at which the request reached its engine."""
        self.first = [nan] * len(work)
        """Instant of its first token, where its engine counts tokens; not a number until then."""
