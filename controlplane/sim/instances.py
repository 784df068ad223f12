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
from collections.abc import Callable
from heapq import heappop, heappush

from controlplane.model import Signal
from controlplane.sim.engine_counters import EngineCounters
from controlplane.sim.engine_memory import EngineMemory
from controlplane.sim.engine_spec import LONE_TOKENS, TINY, EngineLoad, EngineSpec
from controlplane.sim.kernel import Kernel


class SimEngine(EngineCounters):
    """One engine under way; *finish* is notified of every answer, *lapse* of every one given up."""

    __slots__ = (
        "_begun",
        "_due",
        "_first",
        "_rate",
        "_since",
        "_spec",
        "_token",
        "_virtual",
        "alive",
        "factor",
        "finish",
        "index",
        "kernel",
        "lapse",
        "load",
        "memory",
        "running",
        "training",
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
        super().__init__()
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
        self.memory = EngineMemory(spec, load)
        self._begun = 0.0
        """Work of all requests that were ever in service."""
        self._first: dict[int, tuple[float, float]] = {}
        """Request in service -> when that began, and the part of it until the first token."""

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

    def seconds_to_first(self, now: float, work: float, _prompt: float) -> float:
        """Return the seconds from now to the answer of a request of *work* that came now.

        About right while the batch stays as large as it is.
        """
        load, slots = self.load, self._spec.slots
        batch = min(self.present + 1, slots)
        rate = self.speed / (1 + self._spec.slowdown * (batch - 1))
        ending = self.present + 1 - slots
        if ending <= 0:
            return work / rate
        virtual = self._virtual + self._rate * (now - self._since)
        left = [end - virtual for end, _ in self.running]
        left += [load.work[request] for request in self.waiting]
        return (sorted(left)[ending - 1] + work) / rate

    def utilisation(self) -> float:
        """Return the part of the slots in use, 0 to 1."""
        return len(self.running) / self._spec.slots

    def power(self) -> float:
        """Return the draw in watts."""
        spec = self._spec
        return spec.idle_power + (spec.busy_power - spec.idle_power) * self.utilisation()

    def arrive(self, now: float, request: int) -> None:
        """Admit a request."""
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
        self.reset()
        self._begun = 0.0
        self.memory.restart()

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
            **self.counted(),
        }
        if spec.busy_power:
            values[Signal.POWER] = self.power()
        if spec.slowdown:
            values[Signal.OUTPUT_TOKENS] = LONE_TOKENS * self.done(now)
        if spec.cached_sessions:
            values[Signal.PREFIX_QUERIES] = self.memory.prefix_queries
            values[Signal.PREFIX_HITS] = self.memory.prefix_hits
        return values

    def done(self, now: float) -> float:
        """Return the work that was ever done, that of requests still in service included."""
        virtual = self._virtual + self._rate * (now - self._since)
        return self._begun - sum(max(end - virtual, 0.0) for end, _ in self.running)

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
            work += self.memory.hold(self.load.model[request])
        if self._spec.cached_sessions:
            work = self._read(now, request, work)
        self._begun += work
        heappush(self.running, (self._virtual + work, request))

    def _read(self, now: float, request: int, work: float) -> float:
        """Return the work that is left of *work* where a part of the prompt is known.

        Prompts are read in the batch, as engines do that read them in pieces: the first token
        comes after the same part of the time as of the work.
        """
        prompt = self._spec.prompt_part * work * (1.0 - self.memory.recall(request))
        left = prompt + (1.0 - self._spec.prompt_part) * work
        self._first[request] = now, prompt / left
        return left

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
        while running and running[0][0] <= virtual + TINY:
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
