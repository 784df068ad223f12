"""A batching inference engine as arithmetic: how fast it works depends on how much it holds.

A request alone on the engine takes ``base + crowding``; with *n* running each takes
``base + crowding * n``, up to ``slots`` at once, and the rest wait in order of arrival.
When *n* changes, requests already running speed up or slow down with it: what is left of each
is measured in work, and one clock of work done per request (virtual time) serves all of them,
so that an event costs O(log n) and nothing is simulated in between.

No clock and no sockets here: `now` comes in, marks (a first token, a piece, the end) come out.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

LATENCY_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
    120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
"""Upper bounds in seconds that vLLM uses for whole requests and for time in the queue."""
TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
"""Upper bounds in seconds that vLLM uses for the time to the first token."""

NOMINAL_TOKENS = 100.0
"""Output tokens of a request of work 1, the one that the curve speaks of."""
PROMPT_TOKEN_WORK = 0.02
"""Work of a prompt token beside an output token: a prompt is read in parallel."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How long a request of work 1 takes, by how many run at once."""

    base: float
    """Seconds."""
    crowding: float
    """Seconds added by each request in the batch, itself included."""
    slots: int
    """Requests in the batch at most; the rest wait."""

    def latency(self, running: int) -> float:
        """Return the seconds a request of work 1 takes while *running* are in the batch."""
        return self.base + self.crowding * running

    @property
    def capacity(self) -> float:
        """Return the requests of work 1 a second that it finishes when full."""
        return self.slots / self.latency(self.slots)


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request asks of the engine."""

    prompt_tokens: int
    output_tokens: int
    pieces: int = 1
    """Parts that the answer is notified of in; more than one when it is streamed."""
    factor: float = 1.0
    """Work beyond what the tokens say, for images and the like."""

    @property
    def prefill(self) -> float:
        """Return the work up to and including the first token."""
        return self.factor * (self.prompt_tokens * PROMPT_TOKEN_WORK + 1) / NOMINAL_TOKENS

    @property
    def work(self) -> float:
        """Return the whole work; 1 is the request that the curve speaks of."""
        decode = max(0, self.output_tokens - 1)
        return self.prefill + self.factor * decode / NOMINAL_TOKENS


@dataclass(frozen=True, slots=True)
class Mark:
    """A request passed a point on its way: piece 0 is its first token."""

    ticket: int
    piece: int
    tokens: int
    """Output tokens produced so far."""
    at: float
    last: bool


@dataclass(slots=True)
class Histogram:
    """Counts of seconds by bucket, cumulative only when read."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> Sequence[int]:
        """Return the counts at or below each bound, then of everything."""
        return tuple(accumulate(self.counts))


@dataclass(slots=True)
class _Request:
    ticket: int
    demand: Demand
    arrived_at: float
    start: float = 0.0
    """Reading of the work clock when it entered the batch."""
    piece: int = 0
    produced: int = 0


class BatchingEngine:
    """Requests in a batch that share the engine, and a queue behind it.

    Attributes:
        prompt_tokens, output_tokens, completed: counters that only grow.
        latency, ttft, queueing: histograms in seconds.
    """

    def __init__(self, curve: Curve, *, kv_tokens: int = 200_000, now: float) -> None:
        self.curve = curve
        self.training = 0.0
        self.frozen = False
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.completed = 0
        self.latency = Histogram(LATENCY_BUCKETS)
        self.ttft = Histogram(TTFT_BUCKETS)
        self.queueing = Histogram(LATENCY_BUCKETS)
        self._kv_tokens = kv_tokens
        self._kv_used = 0
        self._clock = 0.0
        self._read_at = now
        self._tickets = 0
        self._running: dict[int, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._due: list[tuple[float, int]] = []
        """Heap of (work clock at the next mark, ticket); entries of cancelled ones stay."""

    @property
    def running(self) -> int:
        """Return the requests in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Return the requests that wait for a place in the batch."""
        return len(self._waiting)

    @property
    def kv_use(self) -> float:
        """Return the share of the key-value cache in use, 0 to 1."""
        return min(1.0, self._kv_used / self._kv_tokens)

    def submit(self, demand: Demand, *, now: float) -> int:
        """Admit a request and return its ticket; call `advance` up to *now* before."""
        self._sync(now)
        self._tickets += 1
        self._waiting.append(_Request(self._tickets, demand, arrived_at=now))
        self._admit(now)
        return self._tickets

    def cancel(self, ticket: int, *, now: float) -> None:
        """Forget a request whose client has gone; unknown tickets are ignored."""
        self._sync(now)
        gone = self._running.pop(ticket, None)
        if gone is not None:
            self._kv_used -= gone.demand.prompt_tokens + gone.demand.output_tokens
            self._admit(now)
            return
        self._waiting = deque(each for each in self._waiting if each.ticket != ticket)

    def train(self, share: float, *, now: float) -> None:
        """Let a training job use *share* (0 to below 1) of the machine; 0 ends it."""
        if not 0.0 <= share < 1.0:
            raise ValueError(f"a training job takes a share from 0 to below 1, not {share}")
        self._sync(now)
        self.training = share

    def freeze(self, frozen: bool, *, now: float) -> None:
        """Stop all work, or go on with it."""
        self._sync(now)
        self.frozen = frozen

    def next_at(self) -> float | None:
        """Return the instant of the next mark if nothing else happens; none without any."""
        self._drop_cancelled()
        if not self._due or self.frozen:
            return None
        return self._read_at + max(0.0, self._due[0][0] - self._clock) * self._pace()

    def advance(self, *, now: float) -> list[Mark]:
        """Work up to *now*, and return the marks that were passed, in order."""
        marks: list[Mark] = []
        while (at := self.next_at()) is not None and at <= now:
            reading, ticket = heapq.heappop(self._due)
            self._clock, self._read_at = max(reading, self._clock), max(at, self._read_at)
            marks.append(self._pass(self._running[ticket], at))
        self._sync(now)
        return marks

    def _pace(self) -> float:
        """Return the seconds that one unit of work takes now."""
        return self.curve.latency(len(self._running)) / (1.0 - self.training)

    def _sync(self, now: float) -> None:
        if now <= self._read_at:
            return
        if self._running and not self.frozen:
            self._clock += (now - self._read_at) / self._pace()
        self._read_at = now

    def _drop_cancelled(self) -> None:
        while self._due and self._due[0][1] not in self._running:
            heapq.heappop(self._due)

    def _admit(self, now: float) -> None:
        while self._waiting and len(self._running) < self.curve.slots:
            request = self._waiting.popleft()
            request.start = self._clock
            self.queueing.observe(now - request.arrived_at)
            self._kv_used += request.demand.prompt_tokens + request.demand.output_tokens
            self._running[request.ticket] = request
            heapq.heappush(self._due, (request.start + request.demand.prefill, request.ticket))

    def _pass(self, request: _Request, at: float) -> Mark:
        demand, piece = request.demand, request.piece
        if piece == 0:
            self.ttft.observe(at - request.arrived_at)
            self.prompt_tokens += demand.prompt_tokens
            produced = min(1, demand.output_tokens)
        else:
            produced = 1 + round((demand.output_tokens - 1) * piece / demand.pieces)
        self.output_tokens += produced - request.produced
        request.produced = produced
        last = piece == demand.pieces or demand.output_tokens <= 1
        if last:
            del self._running[request.ticket]
            self._kv_used -= demand.prompt_tokens + demand.output_tokens
            self.completed += 1
            self.latency.observe(at - request.arrived_at)
            self._admit(at)
        else:
            request.piece += 1
            decode = demand.work - demand.prefill
            due = request.start + demand.prefill + decode * request.piece / demand.pieces
            heapq.heappush(self._due, (due, request.ticket))
        return Mark(request.ticket, piece, produced, at, last)
