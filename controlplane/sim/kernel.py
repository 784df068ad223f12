"""The simulation's clock and its heap of things to come; knows nothing of fleets.

Arrivals are drawn before the run and lie in a sorted list, so that they never enter the heap:
the loop merges the list with the heap.
Things at the same instant happen in the order in which they were scheduled, so one seed gives
one run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count

Action = Callable[[float, int], None]
"""Called with the time and the number it was scheduled with."""


class Kernel:
    """An event heap with its own clock, in seconds from 0."""

    __slots__ = ("heap", "now", "order")

    def __init__(self) -> None:
        self.now = 0.0
        self.heap: list[tuple[float, int, Action, int]] = []
        self.order = count()
        """Breaks ties in the heap; anyone who pushes into the heap directly draws from it."""

    def at(self, when: float, action: Action, argument: int = 0) -> None:
        """Schedule *action* at *when* (not before now)."""
        heappush(self.heap, (max(when, self.now), next(self.order), action, argument))

    def every(self, period: float, action: Callable[[float], None], *, start: float) -> None:
        """Call *action* at *start* and each *period* after it."""

        def tick(now: float, turn: int) -> None:
            action(now)
            self.at(start + (turn + 1) * period, tick, turn + 1)

        self.at(start, tick, 0)

    def run(self, until: float, times: Sequence[float], arrive: Action) -> None:
        """Run to *until*: *arrive* gets each index into *times* at its time."""
        heap = self.heap
        for index, time in enumerate(times):
            if time > until:
                break
            while heap and heap[0][0] <= time:
                when, _, action, argument = heappop(heap)
                self.now = when
                action(when, argument)
            self.now = time
            arrive(time, index)
        while heap and heap[0][0] <= until:
            when, _, action, argument = heappop(heap)
            self.now = when
            action(when, argument)
        self.now = until
