"""Simulated inference engines: requests go in, answers come out later, signals can be read.

An engine knows its own work and clock only: nothing of clients, networks or steering.
All of them share one representation.
A request in service needs some work (seconds alone at speed 1, or tokens); everything in service
advances at one common rate, so the engine keeps its own virtual time, the work that each request
in service has received since the beginning, and a heap of the virtual times at which they end.
A change of rate (another request, a slowdown) then costs one multiplication however many run.

* Queue-like: the rate does not depend on the number in service: c slots, first come first served.
* Batching: with n in service the rate is speed / (1 + slowdown * (n - 1)), so a request's latency
  is L = a + b * n with b = slowdown * work / speed, a = work / speed - b.
* Token-level: the prompt is read first and alone (prefill), while decoding of all others stands
  still; then tokens come at one per step, and a step takes longer the more sequences it serves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

from controlplane.model import Signal
from controlplane.sim.kernel import Kernel

_TINY = 1e-9
"""Work below which a request counts as done: rounding of the virtual time."""


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

    __slots__ = ("arrived", "deadline", "model", "output", "prompt", "session", "work")

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


class SimEngine:
    """One engine under way; *finish* is notified of every answer, *lapse* of every one given up."""

    __slots__ = (
        "_cached",
        "_due",
        "_first",
        "_held",
        "_rate",
        "_since",
        "_spec",
        "_token",
        "_virtual",
        "alive",
        "completed",
        "factor",
        "failed",
        "finish",
        "index",
        "kernel",
        "lapse",
        "latency_sum",
        "load",
        "loadings",
        "output_tokens",
        "prefix_hits",
        "prefix_queries",
        "prompt_tokens",
        "queue_sum",
        "recent_latency",
        "running",
        "started",
        "training",
        "ttft_sum",
        "waiting",
    )

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
        self.index = index
        self._spec = spec
        self.kernel = kernel
        self.load = load
        self.finish = finish
        self.lapse = lapse
        self.alive = True
        self.factor = 1.0
        """Part of its speed that is left (slowdown, power cap)."""
        self.training = 0.0
        """Part of the machine that a training job takes."""
        self.running: list[tuple[float, int]] = []
        """Heap of (virtual time of the end, request)."""
        self.waiting: deque[int] = deque()
        self._virtual = 0.0
        self._since = 0.0
        self._rate = spec.speed
        self._due = float("inf")
        self._token = 0
        self.started = 0
        self.completed = 0
        self.failed = 0
        self.latency_sum = 0.0
        self.queue_sum = 0.0
        self.ttft_sum = 0.0
        self.loadings = 0
        """Models that had to be loaded."""
        self._held: dict[int, bool] = {}
        """The models that are loaded, the least recently used one first."""
        self.prompt_tokens = 0.0
        self.output_tokens = 0.0
        self._cached: dict[int, None] = {}
        """The sessions whose prompts are remembered, the least recently used one first."""
        self._first: dict[int, tuple[float, float]] = {}
        """Request in service -> when that began, and the part of it until the first token."""
        self.prefix_queries = 0.0
        """Tokens of prompts that were looked up, and those of them that were known."""
        self.prefix_hits = 0.0
        self.recent_latency = 0.0
        """Exponential mean over about the last ten answers, seconds."""

    @property
    def spec(self) -> EngineSpec:
        """Return what the engine is."""
        return self._spec

    @property
    def speed(self) -> float:
        """Return the speed as it is now."""
        return self._spec.speed * self.factor * (1.0 - self.training)

    @property
    def present(self) -> int:
        """Return the number of requests inside."""
        return len(self.running) + len(self.waiting)

    @property
    def unread(self) -> int:
        """Return the number of prompts that are admitted and not read yet."""
        return 0

    def utilisation(self) -> float:
        """Return the part of the slots in use, 0 to 1."""
        return len(self.running) / self._spec.slots

    def power(self) -> float:
        """Return the draw in watts."""
        spec = self._spec
        return spec.idle_power + (spec.busy_power - spec.idle_power) * self.utilisation()

    def arrive(self, now: float, request: int) -> None:
        """Receive a request in."""
        self.load.arrived[request] = now
        if not self.alive:
            self.failed += 1
            self.lapse(now, request)
        elif len(self.running) < self._spec.slots:
            self._advance(now)
            self._start(now, request)
            self._plan(now)
        else:
            self.waiting.append(request)

    def change(
        self, now: float, *, factor: float | None = None, training: float | None = None
    ) -> None:
        """Change the speed from now on, also of what is in service."""
        self._advance(now)
        self.factor = self.factor if factor is None else factor
        self.training = self.training if training is None else training
        self._plan(now)

    def die(self, now: float) -> None:
        """Fail everything inside, and all that comes until `revive`."""
        self._advance(now)
        self.alive = False
        lost = [request for _, request in self.running] + list(self.waiting)
        self.running.clear()
        self.waiting.clear()
        self._first.clear()
        self._token += 1
        self._due = float("inf")
        self.failed += len(lost)
        for request in lost:
            self.lapse(now, request)

    def revive(self, now: float) -> None:
        """Come back empty; counters start again at 0, as a restarted engine's do."""
        self.alive = True
        self._since = now
        self.started = self.completed = self.failed = 0
        self.latency_sum = self.queue_sum = self.ttft_sum = 0.0
        self.prompt_tokens = self.output_tokens = 0.0
        self.prefix_queries = self.prefix_hits = 0.0
        self._cached.clear()

    def signals(self, now: float) -> dict[Signal, float]:
        """Read everything that an engine of this kind can say of itself."""
        self._drop_lapsed(now)
        spec = self._spec
        values = {
            Signal.RUNNING: float(len(self.running)),
            Signal.WAITING: float(len(self.waiting)),
            Signal.SLOTS: float(spec.slots),
            Signal.UTILISATION: self.utilisation(),
            Signal.TRAINING: self.training,
            Signal.COMPLETED: float(self.completed),
            Signal.FAILED: float(self.failed),
            Signal.LATENCY_SUM: self.latency_sum,
            Signal.LATENCY_COUNT: float(self.completed),
            Signal.QUEUE_SUM: self.queue_sum,
            Signal.QUEUE_COUNT: float(self.started),
            Signal.TTFT_SUM: self.ttft_sum,
            Signal.TTFT_COUNT: float(self.completed),
        }
        if spec.busy_power:
            values[Signal.POWER] = self.power()
        if spec.cached_sessions:
            values[Signal.PREFIX_QUERIES] = self.prefix_queries
            values[Signal.PREFIX_HITS] = self.prefix_hits
        return values

    def _current_rate(self) -> float:
        """Return the work a second that each request in service gets now."""
        slowdown = self._spec.slowdown
        if slowdown:
            return self.speed / (1 + slowdown * max(len(self.running) - 1, 0))
        return self.speed

    def _advance(self, now: float) -> None:
        """Bring the virtual time to *now*."""
        self._virtual += self._rate * (now - self._since)
        self._since = now

    def _start(self, now: float, request: int) -> None:
        self.started += 1
        self.queue_sum += now - self.load.arrived[request]
        work = self.load.work[request]
        if self._spec.max_loaded:
            work += self._hold(self.load.model[request])
        if self._spec.cached_sessions:
            work = self._read(now, request, work)
        heappush(self.running, (self._virtual + work, request))

    def _hold(self, model: int) -> float:
        """Have *model* loaded, and return the work of that."""
        held = self._held
        known = held.pop(model, False)
        held[model] = True
        if known:
            return 0.0
        self.loadings += 1
        if len(held) > self._spec.max_loaded:
            del held[next(iter(held))]
        return self._spec.load_time

    def _read(self, now: float, request: int, work: float) -> float:
        """Return the work that is left of *work* where a part of the prompt is known.

        Prompts are read in the batch, as engines do that read them in pieces: the first token
        comes after the same part of the time as of the work.
        """
        prompt = self._spec.prompt_part * work * (1.0 - self._recall(request))
        left = prompt + (1.0 - self._spec.prompt_part) * work
        self._first[request] = now, prompt / left
        return left

    def _recall(self, request: int) -> float:
        """Remember the session of *request*; return the part of its prompt that was known."""
        spec, load = self._spec, self.load
        if not spec.cached_sessions or not load.session or load.session[request] < 0:
            return 0.0
        session, cached = load.session[request], self._cached
        known = session in cached
        cached.pop(session, None)
        cached[session] = None
        if len(cached) > spec.cached_sessions:
            del cached[next(iter(cached))]
        found = spec.cache_saves if known else 0.0
        self.prefix_queries += load.prompt[request]
        self.prefix_hits += found * load.prompt[request]
        return found

    def _plan(self, now: float) -> None:
        """Renew the rate and see that something wakes the engine when the next one ends.

        A wake-up that comes too early finds nothing to do and plans the next one, so a growing
        batch, which only delays ends, schedules nothing.
        """
        rate = self._rate = self._current_rate()
        if not self.running or rate <= 0:
            return
        due = now + (self.running[0][0] - self._virtual) / rate
        if due < self._due:
            self._due = due
            self._token += 1
            kernel = self.kernel
            heappush(kernel.heap, (max(due, now), next(kernel.order), self._wake, self._token))

    def _wake(self, now: float, token: int) -> None:
        if token != self._token:
            return
        self._due = float("inf")
        virtual = self._virtual = self._virtual + self._rate * (now - self._since)
        self._since = now
        running = self.running
        while running and running[0][0] <= virtual + _TINY:
            self._complete(now, heappop(running)[1])
        if self.waiting:
            self._admit(now)
        self._plan(now)

    def _complete(self, now: float, request: int) -> None:
        latency = now - self.load.arrived[request]
        self.completed += 1
        self.latency_sum += latency
        if self._first:
            started, part = self._first.pop(request)
            latency_to_first = started - self.load.arrived[request] + part * (now - started)
            self.ttft_sum += latency_to_first
        else:
            self.ttft_sum += latency
        self.recent_latency += 0.1 * (latency - self.recent_latency)
        self.finish(now, request)

    def _admit(self, now: float) -> None:
        waiting, slots, deadline = self.waiting, self._spec.slots, self.load.deadline
        while waiting and len(self.running) < slots:
            request = waiting.popleft()
            if deadline[request] <= now:
                self._give_up(now, request)
            else:
                self._start(now, request)

    def _drop_lapsed(self, now: float) -> None:
        """Forget waiting requests whose client has given up; its reset would have removed them."""
        deadline = self.load.deadline
        while self.waiting and deadline[self.waiting[0]] <= now:
            self._give_up(now, self.waiting.popleft())

    def _give_up(self, now: float, request: int) -> None:
        self.failed += 1
        self.lapse(now, request)


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
        values[Signal.OUTPUT_TOKENS] = self.output_tokens
        return values

    def arrive(self, now: float, request: int) -> None:
        """Receive a request in."""
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
            self._prefill_left = max(prompt * (1.0 - self._recall(self._reading)), 1.0)
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
        if request >= 0 and self._prefill_left <= _TINY * self._spec.prefill_rate:
            self._reading = -1
            self._first_tokens += 1
            self.ttft_sum += now - self.load.arrived[request]
            self.prompt_tokens += self.load.prompt[request]
            heappush(self.running, (self._virtual + self.load.output[request], request))
        while self.running and self.running[0][0] <= self._virtual + 1e-6:
            self._complete(now, heappop(self.running)[1])
        self._admit(now)
        self._plan(now)

    def _complete(self, now: float, request: int) -> None:
        latency = now - self.load.arrived[request]
        self.completed += 1
        self.latency_sum += latency
        self.output_tokens += self.load.output[request]
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
