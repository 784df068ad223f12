"""A simulated language model server: prefill first, then all sequences decode in step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from controlplane.model import Signal
from controlplane.sim.engine_spec import TINY, EngineLoad, EngineSpec
from controlplane.sim.instances import SimEngine
from controlplane.sim.kernel import Kernel


class TokenEngine(SimEngine):
    """A language model server: prefill first, then all sequences decode in step.

    Work is counted in output tokens; the virtual time stands still while a prompt is read.
    """

    __slots__ = ("_first_tokens", "_kv", "_pending", "_prefill_left", "_reading")

    def __init__(
        self,
        index: int,
        spec: EngineSpec,
        kernel: Kernel,
        load: EngineLoad,
        *,
        finish: Callable[[float, int], None],
        lapse: Callable[[float, int], None],
    ) -> None:
        super().__init__(index, spec, kernel, load, finish=finish, lapse=lapse)
        self._pending: deque[int] = deque()
        self._reading = -1
        self._prefill_left = 0.0
        self._kv = 0.0
        self._first_tokens = 0

    @property
    def present(self) -> int:
        """Return the number of requests inside."""
        return len(self.running) + len(self.waiting) + self._admitted()

    @property
    def unread(self) -> int:
        """Return the number of prompts that are admitted and not read yet."""
        return self._admitted()

    def seconds_to_first(self, now: float, _work: float, prompt: float) -> float:
        """Return the seconds from now to the first token of a *prompt* that came now.

        About right while the batch stays as large as it is; the cache of keys and values has room.
        """
        load, spec = self.load, self._spec
        ahead = [*self._pending, *self.waiting]
        unread = prompt + sum(load.prompt[request] for request in ahead)
        if self._reading >= 0:
            ahead.append(self._reading)
            read = (now - self._since) * spec.prefill_rate * self.speed
            unread += max(self._prefill_left - read, 0.0)
        seconds = unread / (spec.prefill_rate * self.speed)
        ending = len(self.running) + len(ahead) + 1 - spec.slots
        if ending <= 0:
            return seconds
        # It waits for a slot: for so many of those inside to end, of which each leaves some tokens.
        virtual = self._virtual + self._rate * (now - self._since)
        tokens = [end - virtual for end, _ in self.running]
        tokens += [load.output[request] for request in ahead]
        batch = 1 + spec.slowdown * (min(spec.slots, len(tokens)) - 1)
        return seconds + sorted(tokens)[ending - 1] * spec.step_time * batch / self.speed

    def _admitted(self) -> int:
        return len(self._pending) + (self._reading >= 0)

    def utilisation(self) -> float:
        """Return the part of the slots in use, 0 to 1."""
        return (len(self.running) + self._admitted()) / self._spec.slots

    def signals(self, now: float) -> dict[Signal, float]:
        """Read what a language model server says; prompts being read count as running."""
        values = super().signals(now)
        values[Signal.RUNNING] = float(len(self.running) + self._admitted())
        values[Signal.KV_USE] = min(1.0, self._kv / self._spec.kv_tokens)
        values[Signal.TTFT_SUM] = self.ttft_sum
        values[Signal.TTFT_COUNT] = float(self._first_tokens)
        values[Signal.PROMPT_TOKENS] = self.prompt_tokens
        values[Signal.OUTPUT_TOKENS] = self.done(now)
        return values

    def arrive(self, now: float, request: int) -> None:
        """Admit a request."""
        self.load.arrived[request] = now
        if not self.alive:
            self.failed += 1
            self.lapse(now, request)
            return
        self.waiting.append(request)
        self._advance(now)
        self._admit(now)
        self._plan(now)

    def die(self, now: float) -> None:
        """Fail everything inside, and all that comes until `revive`."""
        self.waiting.extend(self._pending)
        self._pending.clear()
        if self._reading >= 0:
            self.waiting.append(self._reading)
        self._reading, self._kv = -1, 0.0
        super().die(now)

    def revive(self, now: float) -> None:
        """Come back empty; counters start again at 0, as a restarted engine's do."""
        super().revive(now)
        self._first_tokens = 0

    def _current_rate(self) -> float:
        if self._reading >= 0:
            return 0.0
        slowdown = self._spec.slowdown
        batch = max(len(self.running) - 1, 0)
        return self.speed / (self._spec.step_time * (1 + slowdown * batch))

    def _advance(self, now: float) -> None:
        if self._reading >= 0:
            self._prefill_left -= (now - self._since) * self._spec.prefill_rate * self.speed
        super()._advance(now)

    def _plan(self, now: float) -> None:
        if self._reading < 0 and self._pending:
            self._reading = self._pending.popleft()
            prompt = self.load.prompt[self._reading]
            self._prefill_left = max(prompt * (1.0 - self.memory.recall(self._reading)), 1.0)
        self._rate = self._current_rate()
        speed = self.speed
        if speed <= 0:
            return
        if self._reading >= 0:
            due = now + max(self._prefill_left, 0.0) / (self._spec.prefill_rate * speed)
        elif self.running:
            due = now + (self.running[0][0] - self._virtual) / self._rate
        else:
            return
        if due < self._due:
            self._due = due
            self._token += 1
            self.kernel.at(due, self._wake, self._token)

    def _wake(self, now: float, token: int) -> None:
        if token != self._token:
            return
        self._due = float("inf")
        self._advance(now)
        request = self._reading
        if request >= 0 and self._prefill_left <= TINY * self._spec.prefill_rate:
            self._reading = -1
            self._first_tokens += 1
            self.load.first[request] = now
            self.ttft_sum += now - self.load.arrived[request]
            self.prompt_tokens += self.load.prompt[request]
            self._begun += self.load.output[request]
            heappush(self.running, (self._virtual + self.load.output[request], request))
        while self.running and self.running[0][0] <= self._virtual + 1e-6:
            self._complete(now, heappop(self.running)[1])
        self._admit(now)
        self._plan(now)

    def _complete(self, now: float, request: int) -> None:
        latency = now - self.load.arrived[request]
        self.completed += 1
        self.latency_sum += latency
        self._kv -= self.load.prompt[request] + self.load.output[request]
        self.recent_latency += 0.1 * (latency - self.recent_latency)
        self.finish(now, request)

    def _admit(self, now: float) -> None:
        spec, load = self._spec, self.load
        while self.waiting and len(self.running) + self._admitted() < spec.slots:
            request = self.waiting[0]
            if load.deadline[request] <= now:
                self._give_up(now, self.waiting.popleft())
                continue
            size = load.prompt[request] + load.output[request]
            if self._kv + size > spec.kv_tokens and self._kv > 0:
                break
            self._kv += size
            self.started += 1
            self.queue_sum += now - load.arrived[request]
            self._pending.append(self.waiting.popleft())


def build_engine(
    index: int,
    spec: EngineSpec,
    kernel: Kernel,
    load: EngineLoad,
    *,
    finish: Callable[[float, int], None],
    lapse: Callable[[float, int], None],
) -> SimEngine:
    """Make the engine that *spec* describes."""
    kind = TokenEngine if spec.kind == "tokens" else SimEngine
    return kind(index, spec, kernel, load, finish=finish, lapse=lapse)
