"""``envoy``: what the clients' Envoys are configured to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from controlplane.config.addresses import check_ip, is_ip
from controlplane.config.schema.values import EnvoyFile, Port, Settings, UrlPath, require_pair
from controlplane.config.units import Duration, PositiveDuration, Share, Size


class HealthCheck(Settings):
    """Envoy's active health checks of instances; ``health_check: null`` disables them."""

    path: UrlPath | None = None
    """HTTP path that must answer 200; by default a TCP connect is checked."""
    interval: PositiveDuration = 2.0
    """Interval between two checks of an instance."""
    timeout: PositiveDuration = 1.0
    """Timeout of a check."""
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    """Consecutive failures until an instance is unhealthy."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 1
    """Consecutive successes until it is healthy again."""


class OutlierDetection(Settings):
    """Envoy's ejection of failing instances; ``outlier_detection: null`` disables it."""

    consecutive_errors: Annotated[int, Field(ge=1, le=1000)] = 3
    """Consecutive failed requests (5xx, or no response) until an instance is ejected."""
    interval: PositiveDuration = 1.0
    """Interval between two evaluations."""
    ejection_time: PositiveDuration = 5.0
    """Duration of the first ejection; it grows by as much with each further one."""
    max_ejection_time: PositiveDuration = 10.0
    """Maximum duration of an ejection, at least *ejection_time*; bounds the delay until a recovered
    instance is used again."""
    max_ejected: Share = 0.5
    """Maximum share of a service's instances that are ejected at once."""


class CircuitBreakers(Settings):
    """Circuit breakers of each Envoy, per service."""

    max_connections: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Maximum number of connections."""
    max_pending: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Maximum number of requests waiting for a connection."""
    max_requests: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Maximum number of active requests."""
    max_retries: Annotated[int, Field(ge=0, le=2**31)] = 100
    """Maximum number of active retries."""


class Retries(Settings):
    """When and how often Envoys retry at another instance."""

    attempts: Annotated[int, Field(ge=0, le=10)] = 2
    """Maximum number of retries per request, each at another instance; 0 disables retries."""
    on: str = (
        "gateway-error,connect-failure,refused-stream,reset-before-request,retriable-status-codes"
    )
    """Retry conditions of Envoy, comma-separated; ``gateway-error`` covers 502, 504 and the
    ``first_byte`` timeout."""
    status_codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = (
        *(400, 401, 404),
        *(429, 500, 503, 529),
    )
    """Status codes that are retried; by default 400, 401, 404, 429, 500, 503 and 529. 400, 401 and
    404 usually are client errors, but one instance alone may return them, and such a retry is
    cheap."""
    retry_after: Duration = 1.0
    """Longest ``Retry-After`` that Envoy honours; after a longer one it retries at another instance
    without that wait. 0 ignores the header."""


def _check_name_pattern(pattern: str) -> str:
    if "*" in pattern and is_ip(pattern.replace("*", "1")):
        raise ValueError("an IP address stands alone in a certificate; write it out")
    return pattern


class InstanceTls(Settings):
    """TLS from Envoys to instances.

    The files are on each Envoy's machine, read by Envoy alone and reloaded when they are replaced.
    The control plane sends Envoys the paths and never has a key.
    """

    ca: EnvoyFile
    """CA certificates that verify instances, a PEM file."""
    names: Annotated[
        tuple[
            Annotated[
                str, Field(min_length=1, max_length=2048), AfterValidator(_check_name_pattern)
            ],
            ...,
        ],
        Field(min_length=1, max_length=100),
    ]
    """Subject alternative names (SPIFFE ID, DNS name or IP address) of which an instance's
    certificate must have one; ``*`` matches anything but a slash. Without it, any certificate of
    *ca*, such as a sidecar's, could impersonate an instance."""
    cert: EnvoyFile | None = None
    """Client certificate for instances that require one, a PEM file."""
    key: EnvoyFile | None = None
    """Private key of *cert*, a PEM file."""
    secrets: EnvoyFile = "/etc/cats/envoy"
    """Directory with the SDS files that ``cats bootstrap --secrets`` writes, which refer to the
    files above."""

    _pair = model_validator(mode="after")(require_pair)


class Envoy(Settings):
    """Settings of the Envoys, sidecars and gateways, that the control plane configures."""

    address: Annotated[str, AfterValidator(check_ip)] = "0.0.0.0"  # noqa: S104 -- a gateway listens on all; a sidecar sets 127.0.0.1
    """IP address of the ``inference`` listener; 127.0.0.1 for sidecars."""
    port: Port = 10_000
    """Port of the ``inference`` listener."""
    response_headers: bool = True
    """Add ``x-cats-instance``, ``x-cats-site`` and ``x-cats-model`` to responses."""
    list_models: bool = True
    """Answer ``GET /v1/models`` with the models available at the client's site, unless a service
    matches exactly that path."""
    rewrite_models: bool = True
    """Replace the ``model`` of JSON and multipart/form-data bodies by the name under which the
    chosen instance serves it, where names differ; those bodies are buffered in full."""
    connect_timeout: PositiveDuration = 1.0
    """Timeout of TCP connects to instances."""
    max_body: Size = 32e6
    """Maximum size of a request body that is buffered, to read its ``model`` or to retry it."""
    max_heap: Annotated[Size, Field(ge=64e6)] = 384e6
    """Heap limit of an Envoy; set it to three quarters of its container's memory limit. Above 80 %
    of it Envoy resets the HTTP/2 streams that buffer most, and above 85 % it rejects new requests
    with 503."""
    access_log: EnvoyFile | None = None
    """File on the Envoy's machine, or ``/dev/stdout``, for an access log with one JSON line per
    request: service, instance, model and times, as ``cats explain --request`` uses them. No log by
    default."""
    load_period: PositiveDuration = 1.0
    """Interval of Envoys' load reports."""
    orca_headers: bool = False
    """Whether instances report load in response headers (ORCA); Envoys average it and report it
    every ten seconds."""
    health_check: HealthCheck | None = HealthCheck()
    outlier_detection: OutlierDetection | None = OutlierDetection()
    circuit_breakers: CircuitBreakers = CircuitBreakers()
    retries: Retries = Retries()
    instance_tls: InstanceTls | None = None
    """TLS to all instances except those with ``tls: false``; by default without TLS."""
