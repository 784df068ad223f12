"""The plan: what share of each service's requests each instance gets, from each client site.

And beside every share, why: one `Term` per reason, so that the API, the command line and the
dashboard explain from the very value that decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controlplane.config import PolicyName
from controlplane.model import FailureClass
from controlplane.steering.scaling_group import ScalingGroup


@dataclass(frozen=True, slots=True)
class Why:
    """Why one instance gets its share from one client site; times in seconds."""

    rtt: float
    transfer: float
    penalty: float
    energy: float
    """Price of the energy a request costs, as seconds of the service's delay."""
    carbon: float
    """Price of the carbon that this energy causes, likewise."""
    price: float
    """What is charged for the request and its tokens, likewise."""
    loading: float
    """What loading its model there is expected to cost a request."""
    failure: float
    """What failures are expected to cost: their probability times what one costs the service."""
    promise: float
    """What being late is expected to be charged, where a promise binds."""
    service: float
    """Time an idle instance takes."""
    queueing: float
    """Time added by the load that the plan puts on the instance."""
    crowding: float
    """What one more request would add to everyone else's, and to the tail: marginal cost less own
    latency."""
    predicted_latency: float
    """rtt + transfer + service + queueing."""
    arrival_rate: float
    """Requests a second the plan puts on the instance, from all client sites and services."""
    capacity: float
    """Requests a second it is believed to sustain."""
    confidence: float
    """How far the estimate of the instance rests on what was measured, 0 for a default to 1, times
    how fresh its reports are."""
    previous_share: float
    prefix_loss: float = 0.0
    """What a session that moves there loses once: its prompt is read again. 0 where no prefix is
    known to be cached, or the service has no affinity."""
    least_gain: float = 0.0
    """What each request had to gain for sessions to move there."""
    ages: Mapping[str, float | None] = field(default_factory=dict)
    """Input -> seconds since it was measured; None if it never was."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Input -> where it comes from."""
    limits: tuple[str, ...] = ()
    """Limits that bound the share, in words: slow start, drain, max_share, residency ..."""

    @property
    def marginal_cost(self) -> float:
        """Return what the optimum equalises over the instances in use."""
        money = self.energy + self.carbon + self.price
        beside = self.penalty + self.loading + money + self.failure + self.promise
        return self.predicted_latency + beside + self.crowding


@dataclass(frozen=True, slots=True)
class Allocation:
    """One instance's part in an assignment."""

    instance: str
    site: str
    share: float
    """0 to 1 within its priority."""
    weight: int
    """At least 1; what Envoy gets."""
    priority: int = 0
    """0 first; Envoy falls to the next by itself when the former has no healthy endpoint."""
    reason: Why | Callable[[], Why] | None = field(default=None, compare=False, repr=False)
    """The terms, or what makes them when someone asks: few plans are ever asked."""

    @property
    def why(self) -> Why | None:
        """Return the terms behind the share; None where the plan does not carry them."""
        return self.reason() if callable(self.reason) else self.reason


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An instance that could serve and gets nothing, and why."""

    instance: str
    site: str
    reason: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where the requests of one service go, from one client site."""

    service: str
    client_site: str
    policy: PolicyName
    """The policy that decided, which a fallback may have changed."""
    allocations: tuple[Allocation, ...]
    """By priority, then instance name."""
    left_out: tuple[Exclusion, ...] | Callable[[], tuple[Exclusion, ...]] = field(
        default=(), compare=False, repr=False
    )
    """The exclusions, or what makes them when someone asks."""
    demand: float = 0.0
    """Requests a second that were assumed."""
    note: str = ""
    """A fallback, a freeze or an overload, in words; empty in the normal case."""
    standing: PolicyName | None = None
    """With a canary here, the policy that decides at the other client sites; otherwise none."""
    drop: float = 0.0
    """Part of the requests that Envoys refuse, 0 to 1; the allocations split the rest."""
    predicted_latency: float | None = field(default=None, compare=False)
    """Mean seconds of a request that is not refused, network included; None where a plan of
    another process does not say."""

    @property
    def excluded(self) -> tuple[Exclusion, ...]:
        """Return the instances that get nothing, each with its reason."""
        return self.left_out() if callable(self.left_out) else self.left_out


@dataclass(frozen=True, slots=True)
class PromiseOutlook:
    """What is foreseen of a promise at the shares of a plan."""

    limit: float
    """Seconds promised to 99 of 100 requests."""
    predicted: float | None
    """Seconds in which they will be had; None without requests."""
    attainment: float
    """Part of the requests that will keep it, 0 to 1."""
    charge: float
    """What a late answer is charged, weighted seconds; 0 if the promise does not bind."""

    @property
    def binds(self) -> bool:
        """Return whether shares would be others without the promise."""
        return self.charge > 0

    @property
    def missed_by(self) -> float:
        """Return how many seconds the plan is above what is promised; 0 if it keeps it."""
        return max(0.0, (self.predicted or 0.0) - self.limit)


@dataclass(frozen=True, slots=True)
class Spending:
    """What a service's requests cost on average besides time, as predicted."""

    money: float
    """Currency for a request: its energy, its carbon at ``steering.carbon_price``, its price."""
    carbon: float
    """Grams of CO2 for a request."""
    rate: float
    """Requests a second that the plan assumes."""


@dataclass(frozen=True, slots=True)
class Failing:
    """An instance that fails requests of a service which its other instances answer."""

    instance: str
    service: str
    probability: float
    """Part of its requests that it fails beyond what the others fail, 0 to 1."""
    kind: FailureClass
    """How it failed most of them lately."""
    since: float
    """When that was first seen."""

    @property
    def awaited(self) -> str:
        """Return what ends it, for people."""
        return "good answers; it is asked about once in 12 s"


@dataclass(frozen=True, slots=True)
class StartWish:
    """What the start of an instance that is asleep would win, and whether it is wanted."""

    instance: str
    site: str
    model: str
    start_up: float
    """Seconds from the call until it answers."""
    use: float
    """Seconds that it is expected to run."""
    gain_least: float
    """Seconds of waiting that it would save each second now, at least."""
    gain_most: float
    saves: float
    """Seconds that it is expected to save while it runs, by the gain of the last minute."""
    price: float
    """Seconds that it has to save."""
    unserved: tuple[str, ...] = ()
    """Services that clients ask for and nothing serves, for which it is the soonest."""
    pending: bool = False
    """Whether a start is under way."""
    wanted: bool = False
    """Whether it is to be started now."""

    def __str__(self) -> str:
        if self.unserved:
            return f"a start is wanted, since nothing serves {', '.join(self.unserved)}"
        if self.pending:
            return "a start is under way"
        return (
            f"a start would save {self.gain_least:.2f} s of waiting each second,"
            f" {self.saves:.0f} s in all by the last minute, and has to save {self.price:.0f} s"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """All assignments at one instant."""

    version: str
    """Hash of what goes to Envoys: equal weights, equal version."""
    at: float
    assignments: Mapping[tuple[str, str], Assignment]
    """(service, client site) -> assignment: what Envoys get."""
    proposed: Mapping[tuple[str, str], Assignment] = field(default_factory=dict)
    """With ``mode: observe``, what would be pushed instead; otherwise empty."""
    standing: Mapping[tuple[str, str], Assignment] = field(default_factory=dict)
    """For each canary, what the service's standing policy would push in its place."""
    probes: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    """(service, client site) -> instance -> the part of its share that only asks how it is, so that
    what goes on from this plan knows it."""
    promises: Mapping[tuple[str, str], PromiseOutlook] = field(default_factory=dict)
    """(service, ``ttft`` or ``latency``) -> what is foreseen of the promise."""
    spending: Mapping[str, Spending] = field(default_factory=dict)
    """Service -> what its requests cost besides time; empty in a plan of another process."""
    predicted_cost: float = 0.0
    """The objective, in weighted seconds of delay per second."""
    gap: float = 0.0
    """Most that any other shares could still gain, over every pair that may be used, as a part of
    the cost: how far from the optimum the decided shares can be at most."""
    held: bool = False
    """True when a better plan was known and its gain was too small to push."""
    gain: float = 0.0
    """What these shares are predicted to gain over those in use before, as a part of the cost that
    shares can change; 0 where those stay."""
    predicted_latency: float | None = None
    """Mean over all requests, seconds, network included."""
    prediction_error: float | None = None
    """Smoothed absolute error of earlier predictions, as a part of the observed latency (MAPE)."""
    prediction_miss: float | None = None
    """The newest of these errors; None where nothing was observed."""
    reversals: int = 0
    """Pushes so far that undid the one before."""
    oscillating: bool = False
    """True while pushes undo each other; moves are then halved."""
    failing: tuple[Failing, ...] = ()
    """Instances that fail requests which others answer; empty in a plan of another process."""
    cold_starts: Mapping[str, StartWish] = field(default_factory=dict)
    """Instance that is asleep -> what its start would win; empty in a plan of another process."""
    find_scaling: Callable[[], tuple[ScalingGroup, ...]] = field(
        default=tuple, compare=False, repr=False
    )
    """Makes `scaling`, when someone asks."""

    @property
    def scaling(self) -> tuple[ScalingGroup, ...]:
        """Return what an autoscaler needs to know; empty in a plan of another process."""
        return self.find_scaling()
