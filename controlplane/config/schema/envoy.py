"""``envoy``: what the clients' Envoys are configured to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from controlplane.config.addresses import check_ip, is_ip
from controlplane.config.schema.values import EnvoyFile, Port, Settings, UrlPath, require_pair
from controlplane.config.units import Duration, PositiveDuration, Share, Size


class HealthCheck(Settings):
    """Envoy's active health checks of instances."""

    path: UrlPath | None = None
    """HTTP path that answers 200; none checks that the port accepts connections."""
    interval: PositiveDuration = 2.0
    """Time between two checks of an instance."""
    timeout: PositiveDuration = 1.0
    """Longest wait for an answer."""
    unhealthy_after: Annotated[int, Field(ge=1, le=100)] = 2
    """Consecutive failed checks after which an instance gets no requests."""
    healthy_after: Annotated[int, Field(ge=1, le=100)] = 1
    """Consecutive passed checks after which it gets requests again."""


class OutlierDetection(Settings):
    """Envoy's ejection of instances that fail requests."""

    consecutive_errors: Annotated[int, Field(ge=1, le=1000)] = 3
    """Consecutive failed requests after which an instance is ejected."""
    interval: PositiveDuration = 1.0
    """Time between two evaluations."""
    ejection_time: PositiveDuration = 5.0
    """Duration of the first ejection; each further one is longer by as much."""
    max_ejection_time: PositiveDuration = 10.0
    """Longest ejection, so that an instance that has recovered is soon back in full use."""
    max_ejected: Share = 0.5
    """Largest share of a service's instances that may be ejected at once."""


class CircuitBreakers(Settings):
    """Limits on what one Envoy has open to one service."""

    max_connections: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Most connections."""
    max_pending: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Most requests that wait for a connection."""
    max_requests: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """Most requests in progress."""
    max_retries: Annotated[int, Field(ge=0, le=2**31)] = 100
    """Most retries in progress."""


class Retries(Settings):
    """When Envoy retries at another instance."""

    attempts: Annotated[int, Field(ge=0, le=10)] = 2
    """Retries of one request, each at another instance."""
    on: str = (
        "gateway-error,connect-failure,refused-stream,reset-before-request,retriable-status-codes"
    )
    """Conditions by Envoy's names; ``gateway-error`` is 502, 504 and answers that do not begin."""
    status_codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = (
        *(400, 401, 404),
        *(429, 500, 503, 529),
    )
    """Answers that another instance is asked about: those of the first three classes are the
    client's fault unless one instance alone gives them, and cost little to ask again."""
    retry_after: Duration = 1.0
    """Longest ``Retry-After`` that is waited for; on a longer one another instance is asked at
    once. 0 waits for none."""


def _check_name_pattern(pattern: str) -> str:
    if "*" in pattern and is_ip(pattern.replace("*", "1")):
        raise ValueError("an IP address stands alone in a certificate; write it out")
    return pattern


class InstanceTls(Settings):
    """TLS from Envoys to instances.

    The files are on each Envoy's machine and only Envoy reads them; replaced ones are taken
    without a restart. The control plane sends Envoys these paths and no key.
    """

    ca: EnvoyFile
    """CA certificates for the instances."""
    names: Annotated[
        tuple[
            Annotated[
                str, Field(min_length=1, max_length=2048), AfterValidator(_check_name_pattern)
            ],
            ...,
        ],
        Field(min_length=1, max_length=100),
    ]
    """Subject alternative names (SPIFFE id, DNS name, IP address) one of which an instance's
    certificate must carry; ``*`` is anything without a slash. Without this, anyone who has any
    certificate of *ca*, a sidecar say, could pose as an instance."""
    cert: EnvoyFile | None = None
    """Client certificate, for instances that require one."""
    key: EnvoyFile | None = None
    """The key to *cert*."""
    secrets: EnvoyFile = "/etc/cats/envoy"
    """Directory with what ``cats bootstrap --secrets`` writes: files that name the above."""

    _pair = model_validator(mode="after")(require_pair)


class Envoy(Settings):
    """Settings of the sidecars and gateways that the control plane configures."""

    address: Annotated[str, AfterValidator(check_ip)] = "0.0.0.0"  # noqa: S104 -- a gateway listens on all; a sidecar sets 127.0.0.1
    """IP address of the listener ``inference``."""
    port: Port = 10_000
    """Port of the listener ``inference``."""
    response_headers: bool = True
    """Add ``x-cats-instance``, ``x-cats-site`` and ``x-cats-model`` to responses."""
    list_models: bool = True
    """Answer ``GET /v1/models`` with the models that can be asked for where the client is, unless
    a service matches that very path."""
    rewrite_models: bool = True
    """Replace the ``model`` of JSON bodies and forms by the name that the chosen instance serves
    it under, where names differ; such bodies are held as a whole."""
    connect_timeout: PositiveDuration = 1.0
    """Timeout of connections to instances."""
    max_body: Size = 32e6
    """Largest request body that is read for its ``model``, or kept for a retry."""
    max_heap: Annotated[Size, Field(ge=64e6)] = 384e6
    """Memory that an Envoy may hold; three quarters of its container's limit. From four fifths of
    it Envoy resets the HTTP/2 streams that hold most, and a little later new requests get 503."""
    access_log: EnvoyFile | None = None
    """File on Envoys' machines to which each request is one line of JSON, such as ``/dev/stdout``:
    service, instance, model and times, by which ``cats explain --request`` says why."""
    load_period: PositiveDuration = 1.0
    """How often Envoys report their load."""
    orca_headers: bool = False
    """Instances say their load in the headers of their answers (ORCA); Envoys average it and
    report it every ten seconds."""
    health_check: HealthCheck | None = HealthCheck()
    outlier_detection: OutlierDetection | None = OutlierDetection()
    circuit_breakers: CircuitBreakers = CircuitBreakers()
    retries: Retries = Retries()
    instance_tls: InstanceTls | None = None
    """With it, Envoys speak TLS to every instance that does not say ``tls: false``."""
