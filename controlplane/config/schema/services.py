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
    """Input and output modality of a service."""

    TEXT = "text"
    VISION = "vision"
    AUDIO = "audio"
    MULTIMODAL = "multimodal"


class Delay(StrEnum):
    """Delay sensitivity: whether a user waits for the response."""

    SENSITIVE = "sensitive"
    TOLERANT = "tolerant"


class Slo(Settings):
    """Latency objectives: constraints on the shares, with reported attainment."""

    ttft: PositiveDuration | None = None
    """Time to first token that 99 % of requests should meet; no objective by default. Also sets the
    default of ``first_byte``."""
    latency: PositiveDuration | None = None
    """Time to the end of the response that 99 % of requests should meet; no objective by
    default."""


class BodySize(Settings):
    """Range of request body lengths, by ``content-length``."""

    least: Size = 0.0
    """Lower bound, inclusive."""
    below: Size | None = None
    """Upper bound, exclusive; unbounded by default."""


class Match(Settings):
    """Condition on requests; all keys that are set must match."""

    host: Annotated[str, Field(max_length=255), AfterValidator(check_match_host)] | None = None
    """Host name of the request, regardless of the port; ``*.example.com`` matches all of its
    subdomains."""
    path: Annotated[UrlPath, AfterValidator(check_match_path)] | None = None
    """Exact path without the query; a trailing ``*`` makes it a prefix."""
    header: Annotated[dict[HeaderName, HeaderValue], AfterValidator(check_match_headers)] = Field(
        default_factory=dict
    )
    """Request headers and the exact values that they must have."""
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The ``model`` field of a JSON or multipart/form-data body."""
    body_size: BodySize | None = None
    """Length of the body, so that long prompts can be a service with its own shares and SLO. Never
    matches requests without a ``content-length``, such as chunked ones; add a match without
    *body_size* for those."""


class HttpRouteSource(Settings):
    """Matches taken from the HTTPRoutes that route to a pool or Service."""

    cluster: Name | None = None
    """One of ``discovery.clusters``; by default the cluster of ``discovery.api``."""
    namespace: KubernetesName | None = None
    """Namespace of the pool or Service; by default ``discovery.namespace``."""
    pool: KubernetesObjectName | None = None
    """InferencePool that is the HTTPRoutes' backend. Exactly one of *pool* and *service* is
    required."""
    service: KubernetesName | None = None
    """Kubernetes Service that is the HTTPRoutes' backend."""
    route_namespaces: (
        Annotated[tuple[NamespaceName, ...], Field(min_length=1, max_length=32)] | None
    ) = None
    """Namespaces of the HTTPRoutes, or ``["*"]`` for all; by default *namespace*."""
    hostnames: bool = True
    """Whether requests must match the HTTPRoutes' host names; set it to false for sidecars, which
    applications reach as 127.0.0.1."""


class ServiceModel(Settings):
    """A model that may serve a service."""

    name: Name
    """Name of a model in ``models``."""
    penalty: Penalty = 0.0
    """Extra delay that is acceptable in order to get a better model instead; ``never`` excludes
    this one."""


class Residency(Settings):
    """Data residency: where requests may be served. Sites without a region never qualify."""

    allow: Annotated[tuple[str, ...], Field(min_length=1)]
    """Regions whose sites may serve the requests."""


def _check_balance(factor: float) -> float:
    if 0 < factor < 1:
        raise ValueError("must be 1 or more, or 0 for no bound: 1 is an instance's very share")
    return factor


class Affinity(Settings):
    """Session affinity by a weighted hash of the session key."""

    header: HeaderName | None = None
    """Request header with the session key. Exactly one of *header* and *cookie* is required."""
    cookie: HeaderName | None = None
    """Cookie with the session key; Envoy sets it on the first response if the client sends none."""
    timeout: PositiveDuration = 600.0
    """Lifetime of the cookie. Has no effect with *header*, and is then a warning: the hash keeps no
    state, so sessions stay in place however long they pause; some move when weights change or their
    instance is removed."""
    pause: Duration = 20.0
    """Mean time between two requests of a session, used to estimate how many cached prefixes a
    change of shares would lose; 0 ignores that loss."""
    balance_factor: Annotated[
        float, Field(ge=0, le=1000, allow_inf_nan=False), AfterValidator(_check_balance)
    ] = 2.0
    """Bounded load: limit on an instance's active requests, as a multiple of its weighted share of
    the Envoy's active requests. Beyond it sessions overflow to other instances. At least 1; 0 sets
    no limit."""


class PolicyName(StrEnum):
    """Policy that computes shares.

    ``optimal`` minimises the predicted cost of all requests. ``waterfall`` fills the nearest region
    to 80 % of capacity, then the next nearest; ``spray`` spreads the overflow over all free
    capacity instead. ``headroom`` shares by free capacity, ``capacity`` by capacity, ``nearest``
    uses the nearest site only, and ``static`` the weights of ``overrides``.
    """

    OPTIMAL = "optimal"
    WATERFALL = "waterfall"
    SPRAY = "spray"
    HEADROOM = "headroom"
    CAPACITY = "capacity"
    NEAREST = "nearest"
    STATIC = "static"


class Canary(Settings):
    """Policy to try at one client site before it is rolled out."""

    client_site: Name
    """Site whose clients' requests the policy decides."""
    policy: PolicyName
    """Policy at that client site."""


_PATIENCE = 10.0
"""How many times what ``slo`` states, which is kept in 99 of 100 requests, an answer may take."""

_SILENCE = 0.2
"""Part of ``idle_timeout`` after which an answer that has not begun is asked for elsewhere as well,
where ``slo`` states nothing: some attempts have room before the timeout ends them all."""


class Service(Settings):
    """A kind of request that clients send to one API (CATS: CS-ID)."""

    name: Name
    """Unique name: letters, digits, '.', '_' and '-', at most 63 characters."""
    task: Task = Task.TEXT
    """Input and output modality, shown in the API and on the dashboard. Does not affect
    steering."""
    delay: Delay = Delay.SENSITIVE
    slo: Slo = Slo()
    match: Annotated[tuple[Match, ...], Field(min_length=1)] = ()
    """Requests that belong to the service: those that meet any entry. *match* or *http_routes* is
    required."""
    http_routes: Annotated[tuple[HttpRouteSource, ...], Field(min_length=1, max_length=8)] = ()
    """Sources of additional matches: HTTPRoutes of the Kubernetes Gateway API."""
    models: Annotated[tuple[ServiceModel, ...], Field(min_length=1)]
    residency: Residency | None = None
    affinity: Affinity | None = None
    protocol: Protocol = Protocol.AUTO
    """Protocol from Envoys to its instances; ``auto`` takes that of its models."""
    policy: PolicyName | None = None
    """Policy for this service; by default ``steering.policy``."""
    canary: Canary | None = None
    """Policy for this service's requests from one client site."""
    delay_weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """Cost of a second of delay relative to other services; by default 1 if *delay* is
    ``sensitive`` and 0.1 if ``tolerant``."""
    request_size: Size = 0.0
    """Mean request size, from which the transfer time is estimated."""
    response_size: Size = 0.0
    """Mean response size, from which the transfer time is estimated."""
    service_time: PositiveDuration | None = None
    """Prior for the mean response time of an idle instance; learned once instances report."""
    price: RequestPrice | None = None
    """Price of its requests at instances without their own ``price``, weighed against delay by
    ``steering.energy_value``."""
    tokens: RequestTokens | None = None
    """Token counts of its requests, for token prices and token rate limits; by default as instances
    report."""
    timeout: Duration = 0.0
    """Timeout of the entire response; 0 disables it, as long streams require."""
    idle_timeout: Duration = 300.0
    """Stream idle timeout: longest time without data in either direction; 0 disables it."""
    failure_cost: Duration = 10.0
    """Delay that is as bad as a failed request. Steers requests away from instances that fail more
    than others."""
    first_byte: Duration | None = None
    """Per-attempt timeout until the response begins, after which the request is retried at another
    instance; a response that has begun is not cut. 0 disables it. By default ten times ``slo.ttft``
    and at least twice ``slo.latency``, since a response without streaming begins when it is
    complete. Without ``slo.ttft`` no attempt is cancelled: after ten times ``slo.latency``, else a
    fifth of ``idle_timeout``, the request is hedged to another instance, and the client gets the
    first response."""

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
