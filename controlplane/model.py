"""Frozen values that pass between the stages: what was reported, by whom, and when.

Times are seconds on one monotonic clock, the control plane's; anyone who takes a report in from the
outside translates the sender's time first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Source(StrEnum):
    """Where a value comes from, best first."""

    ENVOY = "envoy"
    """Observed by Envoys on real requests."""
    AGENT = "agent"
    SCRAPE = "scrape"
    ORCA = "orca"
    FEED = "feed"
    """A page of energy prices, see ``steering.tariffs``."""
    CONFIG = "config"
    """Written by the operator."""
    DEFAULT = "default"
    """Assumed; shown as such."""


class Signal(StrEnum):
    """A raw (L0) quantity of one instance; gauges first, then counters that only grow."""

    RUNNING = "running"
    """Requests being worked on."""
    WAITING = "waiting"
    """Requests queued inside the instance."""
    KV_USE = "kv_use"
    """Share of the key-value cache in use, 0 to 1."""
    SLOTS = "slots"
    """Requests the engine says it can work on at once."""
    UTILISATION = "utilisation"
    """Busy share of the accelerator or processor, 0 to 1."""
    MEMORY = "memory"
    """Share of the memory in use, of the accelerators or else of the machine, 0 to 1."""
    PRESSURE = "pressure"
    """Share of time that some task waited for a processor, 0 to 1."""
    TRAINING = "training"
    """Share of the machine that a training job takes, 0 to 1."""
    POWER = "power"
    """Draw in watts."""
    THROUGHPUT = "throughput"
    """Requests a second, where only a rate is reported."""
    COMPLETED = "completed"
    """Counter: requests answered."""
    FAILED = "failed"
    """Counter: requests failed."""
    LATENCY_SUM = "latency_sum"
    """Counter: seconds from arrival to end of answer, over all completed requests."""
    LATENCY_COUNT = "latency_count"
    TTFT_SUM = "ttft_sum"
    """Counter: seconds to the first token."""
    TTFT_COUNT = "ttft_count"
    QUEUE_SUM = "queue_sum"
    """Counter: seconds spent queued inside the instance."""
    QUEUE_COUNT = "queue_count"
    PROMPT_TOKENS = "prompt_tokens"
    OUTPUT_TOKENS = "output_tokens"
    PREFIX_QUERIES = "prefix_queries"
    """Counter: prompt tokens looked up in the cache of prefixes."""
    PREFIX_HITS = "prefix_hits"
    """Counter: of these, the tokens that were found there and not computed again."""


COUNTERS = frozenset(
    {
        Signal.COMPLETED,
        Signal.FAILED,
        Signal.LATENCY_SUM,
        Signal.LATENCY_COUNT,
        Signal.TTFT_SUM,
        Signal.TTFT_COUNT,
        Signal.QUEUE_SUM,
        Signal.QUEUE_COUNT,
        Signal.PROMPT_TOKENS,
        Signal.OUTPUT_TOKENS,
        Signal.PREFIX_QUERIES,
        Signal.PREFIX_HITS,
    }
)
"""Signals whose difference over time is meant, not their value."""


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """What one instance said of itself at one instant."""

    instance: str
    source: Source
    at: float
    """When it was measured."""
    signals: Mapping[Signal, float]
    ready: bool = True
    """False when the engine itself says that it must get no requests."""
    missing: tuple[Signal, ...] = ()
    """Signals that this engine should have and did not give."""
    refused: tuple[str, ...] = ()
    """Values that cannot be (NaN, negative, sentinels), one line each; their signals are absent."""
    aliases: tuple[str, ...] = ()
    """Outdated metric names that matched, and when they were current: says an old engine."""
    not_ready_reason: str = ""
    """Why the engine must get no requests, in words."""
    ignored: tuple[str, ...] = ()
    """What was read and left out, and why, one line each: series that contradict each other, rows
    of health checks, samples older than the others. Their signals may well be there."""
    empty: bool = False
    """The page held nothing at all: an engine before its first request."""
    loaded: tuple[str, ...] = ()
    """Models that the engine says it holds, by its own names."""
    max_loaded: float | None = None
    """Models that it says it holds at most."""
    reporter: str = ""
    """The agent that measured it; empty where we read it ourselves. Says the devices of one class
    apart."""


@dataclass(frozen=True, slots=True)
class ScrapeFailure:
    """An instance that could not be read; says nothing of its load, only that it is silent."""

    instance: str
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class WakeReport:
    """An instance that was asked to start, by its webhook."""

    instance: str
    at: float
    error: str = ""
    """Why the call came to nothing; empty if it was taken."""


@dataclass(frozen=True, slots=True)
class PathReport:
    """A measurement of the network from one site to another."""

    from_site: str
    to_site: str
    source: Source
    at: float
    rtt: float | None = None
    """Seconds."""
    bandwidth: float | None = None
    """Bytes a second."""


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What is true of a whole site."""

    site: str
    source: Source
    at: float
    power: float | None = None
    """Draw in watts."""
    battery: float | None = None
    """Charge, 0 to 1; None when on mains."""
    reporter: str = ""
    """Agent that reports; of a class of devices, which one."""


@dataclass(frozen=True, slots=True)
class TariffReport:
    """What a kilowatt-hour costs at a site from an instant on."""

    site: str
    source: Source
    at: float
    price: float | None = None
    """Of a kilowatt-hour, in the operator's currency."""
    carbon: float | None = None
    """Grams of CO2 that a kilowatt-hour causes."""


class FailureClass(StrEnum):
    """Why an attempt got no good answer, by what an operator would do about it."""

    REFUSED = "refused"
    """No connection: refused, timed out or failed in TLS."""
    CLIENT_ERROR = "client_error"
    """Status 400 to 499 but 429: the request's fault, unless other instances answer it well."""
    SERVER_ERROR = "server_error"
    """Any other status of 500 and more, and failures whose class is not known."""
    OVERLOAD = "overload"
    """Status 429, 503 or 529: the instance asks for less."""
    UNANSWERED = "unanswered"
    """Reset or cut, before the answer or within it."""
    LATE = "late"
    """No first byte within the time that the service allows for it."""


NO_FAILURES: Mapping[FailureClass, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What one Envoy saw of one service at one instance over one interval."""

    envoy: str
    """Node id."""
    site: str
    """Client site of the Envoy."""
    service: str
    instance: str
    """Empty when the Envoy could not say the instance (no healthy upstream)."""
    at: float
    """End of the interval."""
    interval: float
    """Seconds."""
    issued: float
    """Attempts sent in the interval."""
    succeeded: float = 0.0
    """Attempts answered well: a whole answer with a status below 400."""
    failed: float = 0.0
    """Attempts that failed, client errors excluded."""
    in_progress: float = 0.0
    """At the end of the interval."""
    latency_sum: float = 0.0
    """Seconds, over *latency_count* answers, as the Envoy saw them (network included)."""
    latency_count: float = 0.0
    ttft_sum: float = 0.0
    """Seconds to the first byte of the answer, over *latency_count* answers."""
    failures: Mapping[FailureClass, float] = field(default_factory=lambda: NO_FAILURES)
    """*failed* by class, as far as the Envoy knows it, and the client errors."""
    retries: float = 0.0
    """Attempts among *issued* that repeat an earlier one: load, but no demand."""
    abandoned: float = 0.0
    """Attempts that ended because their client left."""
    late: float = 0.0
    """Seconds that the report took to arrive beyond what others of its Envoy take."""

    @property
    def is_busy(self) -> bool:
        """Return whether any request was under way in the interval."""
        return bool(
            self.issued or self.in_progress or self.succeeded or self.failed or self.abandoned
            or self.failures
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """How long the answers of one service took that one Envoy got in one interval."""

    envoy: str
    site: str
    service: str
    at: float
    """End of the interval."""
    bounds: tuple[float, ...]
    """Upper bounds of the buckets, seconds, rising."""
    latency: tuple[float, ...]
    """Answers by the time to their last byte; one bucket more than bounds, for what took longer."""
    ttft: tuple[float, ...]
    """The same by the time to the first byte."""


Report = (
    InstanceReport
    | ScrapeFailure
    | WakeReport
    | PathReport
    | SiteReport
    | TariffReport
    | TrafficReport
    | LatencyReport
)
"""Everything that `controlplane.fleet.FleetState.apply` takes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A value with its provenance."""

    value: float
    source: Source
    at: float | None = None
    """When it was measured; None if it never was (configured, assumed)."""

    def age(self, now: float) -> float | None:
        """Return the seconds since it was measured."""
        return None if self.at is None else max(0.0, now - self.at)
