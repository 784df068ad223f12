"""A yardstick that knows how long every request is, and all that engines still have to do."""

from __future__ import annotations

from collections import deque

from controlplane.sim.policy import Policy
from controlplane.sim.sidecars import Sidecar


class LengthOracle(Policy):
    """Every request to where its first token comes first, with perfect and instant knowledge.

    Where engines do not count tokens that is the answer. It knows the lengths of all requests and
    how far engines have come with them, and the prompts on the way, but not what comes later.
    No real system has that knowledge.
    """

    name = "length_oracle"

    def start(self) -> None:
        """Replace the picker."""
        self._coming: list[deque[tuple[float, float]]] = [deque() for _ in self.world.engines]
        """By instance: (instant of arrival, tokens) of the prompts on the way to it."""
        for sidecar in self.world.sidecars:

            def pick(now: float, sidecar: Sidecar = sidecar) -> int:
                return self._pick(now, sidecar)

            sidecar.pick = pick

    def _pick(self, now: float, sidecar: Sidecar) -> int:
        world = self.world
        prompt, work = (each[world.dispatched] for each in (world.load.prompt, world.load.work))
        best, least = -1, float("inf")
        for index in sidecar.usable:
            engine, coming = world.engines[index], self._coming[index]
            while coming and coming[0][0] <= now:
                coming.popleft()
            before = prompt + sum(tokens for _, tokens in coming)
            way = sidecar.out[index] + sidecar.back[index]
            first = way + engine.seconds_to_first(now, work, before)
            if first < least:
                best, least = index, first
        if best >= 0:
            self._coming[best].append((now + sidecar.out[best], prompt))
        return best
