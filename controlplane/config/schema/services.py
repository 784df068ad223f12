"""``services``: what clients ask for, what was promised for it and how it is steered."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from controlplane.config.matches import check_match_headers, check_match_host, check_match_path
from controlplane.config.schema.models import Protocol
from controlplane.config.schema.prices import RequestPrice, RequestTokens
from controlplane.config.schema.values import (
    HeaderName,
    HeaderValue,
    KubernetesName,
    KubernetesObjectName,
    Name,
    NamespaceName,
    Settings,
    UrlPath,
)
from controlplane.config.units import Duration, Penalty, PositiveDuration, Size


class Task(StrEnum):
    """Kind of input and output of a service."""

    TEXT = "text"
    VISION = "vision"
    AUDIO = "audio"
    MULTIMODAL = "multimodal"


class Delay(StrEnum):
    """Whether a user waits for the answer."""

    SENSITIVE = "sensitive"
    TOLERANT = "tolerant"


class Slo(Settings):
    """What the operator promised: a constraint on the shares, whose attainment is reported."""

    ttft: PositiveDuration | None = None
    """Time to first token that 99 of 100 requests keep; shares are chosen so that they do, and an
    answer's beginning is waited for no longer than ``first_byte``, which follows from it."""
    latency: PositiveDuration | None = None
    """Time to the end of the answer that 99 of 100 requests keep; shares are chosen so that they
    do."""


class BodySize(Settings):
    """A class of requests by the length of their bodies, as ``content-length`` says it."""

    least: Size = 0.0
    """Smallest body in the class."""
    below: Size | None = None
    """Bodies of this size and larger are not in the class; by default there is no upper bound."""


class Match(Settings):
    """Requests that belong to a service; every field given must hold."""

    host: Annotated[str, Field(max_length=255), AfterValidator(check_match_host)] | None = None
    """Host name of the request, whatever the port; ``*.example.com`` is any name below it."""
    path: Annotated[UrlPath, AfterValidator(check_match_path)] | None = None
    """The exact path, without the query; a final '*' makes it a prefix."""
    header: Annotated[dict[HeaderName, HeaderValue], AfterValidator(check_match_headers)] = Field(
        default_factory=dict
    )
    """Headers and the exact values they must have."""
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The ``model`` member of a JSON body."""
    body_size: BodySize | None = None
    """Length of the body: long prompts become a service with its own shares and promises.
    Requests that do not state their length, as chunked ones, are in no class; leave them a match
    without one."""


class HttpRouteSource(Settings):
    """HTTPRoutes that lead to a pool or a Service: what they match belongs to a service."""

    cluster: Name | None = None
    """One of ``discovery.clusters``; by default the cluster of ``discovery.api``."""
    namespace: KubernetesName | None = None
    """Of the pool or the Service; by default that of ``discovery``."""
    pool: KubernetesObjectName | None = None
    """The InferencePool that they lead to. One of *pool* and *service* is needed."""
    service: KubernetesName | None = None
    """The Kubernetes Service that they lead to."""
    route_namespaces: (
        Annotated[tuple[NamespaceName, ...], Field(min_length=1, max_length=32)] | None
    ) = None
    """Where the HTTPRoutes are, or ``["*"]`` for all namespaces; by default *namespace*."""
    hostnames: bool = True
    """Whether a request must ask for one of the HTTPRoute's host names; false for sidecars, which
    applications reach as 127.0.0.1."""


class ServiceModel(Settings):
    """A model that may serve a service."""

    name: Name
    penalty: Penalty = 0.0
    """Wait an operator would accept to get a better model instead; ``never`` excludes it."""


class Residency(Settings):
    """Where requests of a service may be served; a site without a region never qualifies."""

    allow: Annotated[tuple[str, ...], Field(min_length=1)]
    """Regions whose sites may serve the requests."""


def _check_balance(factor: float) -> float:
    if 0 < factor < 1:
        raise ValueError("must be 1 or more, or 0 for no bound: 1 is an instance's very share")
    return factor


class Affinity(Settings):
    """Keeps the requests of a session on one instance, by a weighted hash of the session's name."""

    header: HeaderName | None = None
    """The request header in which clients name their session."""
    cookie: HeaderName | None = None
    """Instead of a header: the cookie that names the session; Envoy sets it where a client that
    keeps cookies sends none."""
    timeout: PositiveDuration = 600.0
    """How long clients keep that cookie. With a header it decides nothing, and is a warning: a hash
    needs no memory, so sessions keep their place however long they pause; they move when their
    instance goes, and some when weights change."""
    pause: Duration = 20.0
    """Mean time between two requests of a session, by which the cached prefixes are counted that a
    change of shares would lose; 0 weighs nothing against a change."""
    balance_factor: Annotated[
        float, Field(ge=0, le=1000, allow_inf_nan=False), AfterValidator(_check_balance)
    ] = 2.0
    """Requests in progress at an instance, over its share of those of the Envoy, at which further
    ones go to the next instance, so that one hot session does not fill its own; 0 is no bound."""


class PolicyName(StrEnum):
    """How shares are computed."""

    OPTIMAL = "optimal"
    WATERFALL = "waterfall"
    SPRAY = "spray"
    HEADROOM = "headroom"
    CAPACITY = "capacity"
    NEAREST = "nearest"
    STATIC = "static"


class Canary(Settings):
    """A policy that is tried on one client site before it is rolled out."""

    client_site: Name
    policy: PolicyName
    """What decides at that client site."""


_PATIENCE = 10.0
"""How many times what ``slo`` states, which is kept in 99 of 100 requests, an answer may take."""

_SILENCE = 0.2
"""Part of ``idle_timeout`` after which an answer that has not begun is asked for elsewhere as well,
where ``slo`` states nothing: some attempts have room before the timeout ends them all."""


class Service(Settings):
    """What clients ask for: one kind of request behind one API (CATS: CS-ID)."""

    name: Name
    task: Task = Task.TEXT
    """Kind of input and output of the service, shown in the API and on the dashboard.
    Nothing is decided by it; what a request takes is learned, or said by ``service_time``."""
    delay: Delay = Delay.SENSITIVE
    slo: Slo = Slo()
    match: Annotated[tuple[Match, ...], Field(min_length=1)] = ()
    """Which requests belong to it. At least one of *match* and *http_routes* is required."""
    http_routes: Annotated[tuple[HttpRouteSource, ...], Field(min_length=1, max_length=8)] = ()
    """Takes further matches from HTTPRoutes of the Gateway API."""
    models: Annotated[tuple[ServiceModel, ...], Field(min_length=1)]
    residency: Residency | None = None
    affinity: Affinity | None = None
    protocol: Protocol = Protocol.AUTO
    """Protocol of its instances; by default ``models[].protocol``."""
    policy: PolicyName | None = None
    """Overrides ``steering.policy`` for this service."""
    canary: Canary | None = None
    """Overrides the policy for the requests of one client site."""
    delay_weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """Weight of a second of delay; by default 1 if delay-sensitive, 0.1 if tolerant."""
    request_size: Size = 0.0
    """Mean size of a request, for the time its transfer takes."""
    response_size: Size = 0.0
    """Mean size of a response."""
    service_time: PositiveDuration | None = None
    """Prior for the mean time an idle instance takes; learned when instances report."""
    price: RequestPrice | None = None
    """What is charged for its requests at instances without a price of their own, weighed against
    delay by ``steering.energy_value``."""
    tokens: RequestTokens | None = None
    """Tokens of its requests, for prices per token; by default what instances report."""
    timeout: Duration = 0.0
    """Longest duration of a whole answer; 0 is no limit, which streaming answers need."""
    idle_timeout: Duration = 300.0
    """Longest silence within an answer; 0 is no limit."""
    failure_cost: Duration = 10.0
    """Cost of a failed answer, as a delay that would be as bad; it moves requests away from
    instances that fail more than others."""
    first_byte: Duration | None = None
    """Longest wait for the beginning of an answer, after which the request goes to another
    instance; never cuts an answer that has begun. 0 is no limit. By default ten times
    ``slo.ttft`` and at least twice ``slo.latency``, since an answer that is not streamed begins
    when it is complete. Without ``slo.ttft`` no attempt is given up: after ten times
    ``slo.latency``, or else a fifth of ``idle_timeout``, another instance is asked as well, and
    the first to answer serves the client."""

    @property
    def longest_first_byte(self) -> float | None:
        """Return the longest wait for the beginning of an answer in seconds; None if unlimited."""
        if self.first_byte is not None:
            return self.first_byte or None
        if self.slo.ttft is not None:
            return max(_PATIENCE * self.slo.ttft, 2 * (self.slo.latency or 0.0))
        if self.slo.latency is not None:
            return _PATIENCE * self.slo.latency
        return _SILENCE * self.idle_timeout or None

    @property
    def waits_on(self) -> bool:
        """Return whether an attempt that outlasts that wait goes on beside the next one.

        Nothing says then how long an answer may take; one that takes long must still arrive.
        """
        return self.first_byte is None and self.slo.ttft is None

    @property
    def cost_of_delay(self) -> float:
        """Return the weight of a second of this service's delay in the fleet's cost."""
        if self.delay_weight is not None:
            return self.delay_weight
        return 1.0 if self.delay is Delay.SENSITIVE else 0.1
