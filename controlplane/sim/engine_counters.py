"""What every simulated engine counts."""

from __future__ import annotations

from controlplane.model import Signal


class EngineCounters:
    """Counters since the engine was started.

    Attributes:
        recent_latency: exponential mean over about the last ten answers, seconds; kept by `reset`.
    """

    __slots__ = (
        *("completed", "failed", "latency_sum", "prompt_tokens"),
        *("queue_sum", "recent_latency", "started", "ttft_sum"),
    )

    def __init__(self) -> None:
        self.recent_latency = 0.0
        self.reset()

    def reset(self) -> None:
        """Start again at 0."""
        self.started = self.completed = self.failed = 0
        self.latency_sum = self.queue_sum = self.ttft_sum = self.prompt_tokens = 0.0

    def counted(self) -> dict[Signal, float]:
        """Return the counters of requests as an engine exports them."""
        return {
            Signal.COMPLETED: float(self.completed),
            Signal.FAILED: float(self.failed),
            Signal.LATENCY_SUM: self.latency_sum,
            Signal.LATENCY_COUNT: float(self.completed),
            Signal.QUEUE_SUM: self.queue_sum,
            Signal.QUEUE_COUNT: float(self.started),
            Signal.TTFT_SUM: self.ttft_sum,
            Signal.TTFT_COUNT: float(self.completed),
        }
