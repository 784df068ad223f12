"""Arrivals and what they ask for, drawn before the run; knows nothing of where they go.

Every stream is a renewal process of unit rate that is bent by the integral of its rate: a gap of
exponential length gives Poisson arrivals, a gamma one arrivals of another variability, and
whatever the rate does over time (a day's rhythm, a ramp, a flash crowd, a two-state burst) sits in
that integral alone.
Traces replace the drawn times by real ones and bring their own token lengths.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TRACES = ("azure-conversation", "azure-code", "mooncake-conversation")
"""Names of the excerpts that come with the package; see ``sim/traces/README.md``."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one request asks of an engine."""

    mean: float = 0.5
    """Seconds alone at speed 1."""
    sigma: float = 0.6
    """Of the log-normal spread; 0 is constant."""
    distribution: Literal["lognormal", "exponential"] = "lognormal"
    prompt: float = 1155.0
    """Mean prompt tokens, for engines that count tokens."""
    output: float = 211.0
    """Mean output tokens."""


@dataclass(frozen=True, slots=True)
class Burst:
    """A two-state modulation of the rate (a Markov-modulated Poisson process)."""

    ratio: float = 5.0
    """Rate in the high state over the rate in the low one."""
    share: float = 0.2
    """Part of the time spent in the high state."""
    length: float = 5.0
    """Mean seconds of one stay in the high state."""


@dataclass(frozen=True, slots=True)
class Surge:
    """The rate multiplied for a while: a flash crowd."""

    start: float
    end: float
    factor: float


@dataclass(frozen=True, slots=True)
class Sessions:
    """Requests that belong together: each turn of a session repeats the prompt of those before."""

    turns: float = 8.0
    """Mean number of turns; geometric."""
    pause: float = 20.0
    """Mean seconds from one turn to the next; exponential."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The requests for one service from one client site."""

    site: str
    service: str
    rate: float
    """Mean requests a second."""
    work: Work = Work()
    cv: float = 1.0
    """Coefficient of variation of the gaps; 1 is Poisson."""
    burst: Burst | None = None
    day: float = 0.0
    """Seconds of a simulated day; 0 has no rhythm."""
    swing: float = 0.6
    """The day's peak above its mean, as a part of the mean."""
    phase: float = 0.0
    """Where in the day the run begins, 0 to 1."""
    ramp: tuple[tuple[float, float], ...] = ()
    """(time, factor) points between which the rate is interpolated."""
    trace: str = ""
    """Name of a trace whose times and lengths replace the drawn ones."""
    independent: bool = False
    """Whether only the lengths are the trace's, those of a request drawn together, and the times
    are drawn."""
    source: int | None = None
    """Number of the random source, by default the stream's own; streams of one source draw the
    same requests, of which each has those with its `lengths`."""
    lengths: tuple[float, float] = (0.0, np.inf)
    """Tokens of the prompts that are its, of those drawn: the first belongs to it, the last not.
    The rate is that of all drawn."""
    surges: tuple[Surge, ...] = field(default=())
    sessions: Sessions | None = None
    """What the requests belong to; Poisson arrivals of sessions then replace those of requests,
    and the stream has no rhythm."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Every request of a run, in the order of time; all arrays are equally long."""

    times: Floats
    stream: NDArray[np.int64]
    """Index of the stream."""
    work: Floats
    prompt: Floats
    output: Floats
    session: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Number of the session of each request, -1 for none; empty where no request has one."""


def draw_arrivals(streams: Sequence[Stream], *, duration: float, seed: int) -> Arrivals:
    """Draw all requests of a run.

    Each stream has its own random source, so that a change to one leaves the others as they are,
    unless streams are the classes of one.
    """
    times, works, prompts, outputs, owners = [], [], [], [], []
    members: list[NDArray[np.int64]] = []
    drawn = 0
    for index, stream in enumerate(streams):
        rng = np.random.default_rng((seed, index if stream.source is None else stream.source, 1))
        owned = None
        if stream.trace:
            replay = _sample if stream.independent else _replay
            moments, prompt, output = replay(stream, duration, rng)
        else:
            if stream.sessions is None:
                moments = _draw_times(stream, duration, rng)
            else:
                moments, owned = _draw_turns(stream.rate, stream.sessions, duration, rng)
            prompt = _lengths(rng, stream.work.prompt, len(moments))
            output = _lengths(rng, stream.work.output, len(moments))
        work = _draw_work(stream.work, len(moments), rng)
        least, below = stream.lengths
        own = np.flatnonzero((prompt >= least) & (prompt < below))
        times.append(moments[own])
        works.append(work[own])
        prompts.append(prompt[own])
        outputs.append(output[own])
        owners.append(np.full(len(own), index))
        members.append(np.full(len(own), -1) if owned is None else owned[own] + drawn)
        drawn += 0 if owned is None else int(owned.max(initial=-1)) + 1
    when = np.concatenate(times) if times else np.empty(0)
    order = np.argsort(when, kind="stable")
    return Arrivals(
        when[order],
        np.concatenate(owners)[order] if owners else np.empty(0, dtype=np.int64),
        np.concatenate(works)[order] if works else np.empty(0),
        np.concatenate(prompts)[order] if prompts else np.empty(0),
        np.concatenate(outputs)[order] if outputs else np.empty(0),
        np.concatenate(members)[order] if drawn else np.empty(0, dtype=np.int64),
    )


def _draw_turns(
    rate: float, sessions: Sessions, duration: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Draw the times of turns, in order, and the session of each, as if all had begun long ago."""
    before = 5 * sessions.turns * sessions.pause
    count = int(rng.poisson(rate / sessions.turns * (duration + before)))
    begun = rng.uniform(-before, duration, count)
    turns = rng.geometric(1 / sessions.turns, count)
    session = np.repeat(np.arange(count, dtype=np.int64), turns)
    gaps = rng.exponential(sessions.pause, len(session))
    first = np.cumsum(turns) - turns
    gaps[first] = 0.0
    since = np.cumsum(gaps)
    times = begun[session] + since - since[first][session]
    kept = np.flatnonzero((times >= 0) & (times < duration))
    order = kept[np.argsort(times[kept], kind="stable")]
    return times[order], session[order]


def rate_over_time(stream: Stream, grid: Floats, rng: np.random.Generator) -> Floats:
    """Return the stream's rate at each point of *grid*, requests a second."""
    rate = np.full(len(grid), stream.rate)
    if stream.day > 0:
        rate *= 1 + stream.swing * np.sin(2 * np.pi * (grid / stream.day + stream.phase))
    if stream.ramp:
        at, factor = zip(*stream.ramp, strict=True)
        rate *= np.interp(grid, at, factor)
    for surge in stream.surges:
        rate[(grid >= surge.start) & (grid < surge.end)] *= surge.factor
    if stream.burst is not None:
        rate *= _modulation(stream.burst, grid, rng)
    floor: Floats = np.maximum(rate, 0.0)
    return floor


def _modulation(burst: Burst, grid: Floats, rng: np.random.Generator) -> Floats:
    """Return the factor of a two-state process with mean 1."""
    low = 1 / (1 - burst.share + burst.share * burst.ratio)
    quiet = burst.length * (1 - burst.share) / burst.share
    edges, state = [0.0], bool(rng.random() < burst.share)
    first = state
    while edges[-1] < grid[-1]:
        edges.append(edges[-1] + rng.exponential(burst.length if state else quiet))
        state = not state
    turns = np.searchsorted(np.array(edges[1:]), grid, side="right")
    high = (turns % 2 == 0) if first else (turns % 2 == 1)
    factor: Floats = np.where(high, low * burst.ratio, low)
    return factor


def _draw_times(stream: Stream, duration: float, rng: np.random.Generator) -> Floats:
    grid = np.linspace(0.0, duration, max(2, int(duration * 20) + 1))
    rate = rate_over_time(stream, grid, rng)
    steps = np.diff(grid) * (rate[1:] + rate[:-1]) / 2
    integral = np.concatenate([[0.0], np.cumsum(steps)])
    total = float(integral[-1])
    if total <= 0:
        return np.empty(0)
    shape = 1 / max(stream.cv, 1e-3) ** 2
    count = int(total + 6 * np.sqrt(total) * max(stream.cv, 1.0) + 20)
    gaps = rng.exponential(1.0, count) if stream.cv == 1 else rng.gamma(shape, 1 / shape, count)
    # A renewal process that began long ago: its first gap is cut at a random point.
    gaps[0] *= rng.random() if stream.cv != 1 else 1.0
    moments = np.cumsum(gaps)
    times: Floats = np.interp(moments[moments < total], integral, grid)
    return times


def _draw_work(work: Work, count: int, rng: np.random.Generator) -> Floats:
    if work.distribution == "exponential":
        return rng.exponential(work.mean, count)
    centre = np.log(work.mean) - work.sigma**2 / 2
    return rng.lognormal(centre, work.sigma, count)


def _lengths(rng: np.random.Generator, mean: float, count: int) -> Floats:
    """Draw token counts: log-normal with the spread that public chat traces show."""
    sigma = 1.0
    return np.ceil(rng.lognormal(np.log(max(mean, 1.0)) - sigma**2 / 2, sigma, count))


def _replay(
    stream: Stream, duration: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Stretch a trace to the stream's rate, begin anywhere in it, repeat it as often as needed."""
    trace = read_trace(stream.trace)
    at, prompt, output = trace["at"], trace["prompt"], trace["output"]
    length = float(at[-1]) * len(at) / max(len(at) - 1, 1)
    stretch = (len(at) / length) / max(stream.rate, 1e-9)
    shifted = (at - at[0] + rng.random() * length) % length
    order = np.argsort(shifted, kind="stable")
    once = shifted[order] * stretch
    laps = int(duration / (length * stretch)) + 1
    times = np.concatenate([once + lap * length * stretch for lap in range(laps)])
    kept = times < duration
    return times[kept], np.tile(prompt[order], laps)[kept], np.tile(output[order], laps)[kept]


def _sample(
    stream: Stream, duration: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Draw times, and the lengths of each request from those of a trace."""
    trace = read_trace(stream.trace)
    times = _draw_times(stream, duration, rng)
    rows = rng.integers(0, len(trace["at"]), len(times))
    return times, trace["prompt"][rows], trace["output"][rows]


def read_trace(name: str) -> Mapping[str, Floats]:
    """Read an excerpt: seconds from its start, prompt tokens, output tokens.

    Raises:
        ValueError: when there is none of that name.
    """
    if name not in TRACES:
        msg = f"there is no trace '{name}'; there are {', '.join(TRACES)}"
        raise ValueError(msg)
    packed = resources.files("controlplane.sim").joinpath("traces", f"{name}.csv.gz").read_bytes()
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))
    return {key: np.array([float(row[key]) for row in rows]) for key in ("at", "prompt", "output")}
