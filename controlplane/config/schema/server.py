"""``server``: how the control plane serves, and who may ask what of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from controlplane.config.addresses import check_ip, check_url
from controlplane.config.schema.discovery import KubernetesApi
from controlplane.config.schema.values import KubernetesName, Name, Port, Settings
from controlplane.config.units import Share


class Tls(Settings):
    """Certificates of the control plane's own ports; reloaded when the files change."""

    cert: str
    """Certificate, a PEM file."""
    key: str
    """Private key of the certificate, a PEM file."""
    client_ca: str | None = None
    """CA certificates, a PEM file; with it, clients must present a certificate that one of
    these signed."""


class Role(StrEnum):
    """Role of a client of the gRPC port."""

    ENVOY = "envoy"
    """Get the view of its site and report what it observes there."""
    AGENT = "agent"
    """Report on the instances, the machine and the network of its site."""
    OBSERVER = "observer"
    """Ask who has what (CSDS), of all sites."""


def _check_san(pattern: str) -> str:
    rest = pattern.replace("{site}", "", 1).replace("{id}", "", 1)
    if "{" in rest or "}" in rest:
        raise ValueError("knows the places {site} and {id}, each at most once")
    return pattern


class Identity(Settings):
    """Which role and sites a client has, by the names in its certificate.

    Used where ``server.tls.client_ca`` is set.
    """

    san: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_check_san)]
    """A subject alternative name (SPIFFE id, DNS name); ``*`` is anything without a slash,
    ``{site}`` and ``{id}`` must equal the site and the id that the client claims."""
    role: Role = Role.ENVOY
    """Role of a client with this certificate."""
    sites: tuple[Name, ...] = ()
    """Sites that it may claim, beside one that stands in *san*; an observer claims none."""

    @model_validator(mode="after")
    def _name_a_site(self) -> Identity:
        if self.role is not Role.OBSERVER and not self.sites and "{site}" not in self.san:
            raise ValueError("admits no client; set sites, or write {site} in san")
        return self


class Admin(Settings):
    """Who may use the HTTP port; one of the two is needed where other machines can reach it."""

    token_file: str | None = None
    """File of bearer tokens, one a line, read again when it changes; a browser gives one of them
    as password."""
    tls: Tls | None = None
    """Serves HTTPS; with its ``client_ca``, a certificate that it signed is as good as a token."""


class AgentRights(Settings):
    """An agent that may report, and what it may report on; all others are refused."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The agent's ``id``."""
    token_hash_file: str | None = None
    """File that holds the SHA-256 of its bearer token, in hexadecimal; read again as it changes."""
    sites: tuple[Name, ...] = ()
    """Sites whose instances, paths and power it may report on."""
    instances: tuple[Name, ...] = ()
    """Instances that it may report on, whatever their site."""
    batches_rate: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """Most batches a second."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Most reports in one batch."""


class BusTls(Settings):
    """How a replica verifies NATS servers and authenticates to them."""

    ca: str | None = None
    """CA certificates for the servers; by default the system's."""
    cert: str | None = None
    """Client certificate, a PEM file."""
    key: str | None = None
    """Private key of the certificate, a PEM file."""


class Replicas(Settings):
    """How the replicas of one Deployment share state: by a Lease, and by asking its holder.

    A pod says its own address by the environment variable ``POD_IP``.
    """

    lease: KubernetesName = "cats"
    """Name of the Lease, which says who decides."""
    namespace: KubernetesName | None = None
    """Where the Lease is; by default the pod's own namespace."""
    api: KubernetesApi = KubernetesApi()
    """The cluster's API; by default that of the pod's own cluster."""
    port: Port = 18090
    """Where the leader answers the other replicas."""
    key_file: str
    """File of a key that the replicas share, of 16 characters or more; signs what they send each
    other. The admin tokens' file will do."""


class Tracing(Settings):
    """Where traces of cycles are sent; needs ``pip install 'cats-controlplane[tracing]'``."""

    endpoint: Annotated[str, AfterValidator(check_url)]
    """OTLP over HTTP, such as ``http://127.0.0.1:4318/v1/traces``."""
    sample: Share = 1.0
    """Share of the cycles that is traced."""


class Transport(StrEnum):
    """Implementation of gRPC's transport."""

    H2 = "h2"
    GRPCIO = "grpcio"


class Webhook(Settings):
    """An admission webhook: the Kubernetes API server has fleets checked before it stores them."""

    address: Annotated[str, AfterValidator(check_ip)] = "0.0.0.0"  # noqa: S104 -- the API server's
    """IP address that it listens on."""
    port: Port = 18443
    """Port that it listens on."""
    cert: str
    """Certificate, a PEM file; reloaded when it changes."""
    key: str
    """Private key of the certificate, a PEM file."""


class Server(Settings):
    """The control plane's own ports and bus."""

    tls: Tls | None = None
    identities: tuple[Identity, ...] = (
        Identity(san="spiffe://*/site/{site}/envoy/{id}"),
        Identity(san="spiffe://*/site/{site}/agent/{id}", role=Role.AGENT),
    )
    """Replaces the two that are there by default."""
    admin: Admin = Admin()
    agents: tuple[AgentRights, ...] = ()
    """Agents that may report; none given means that every agent may report for everything."""
    bus: Annotated[
        str, Field(pattern=r"^(local|kubernetes|(nats|tls)://[^\s,]+(,(nats|tls)://[^\s,]+)*)$")
    ] = "local"
    """``local`` for one process; ``kubernetes`` for the replicas of one Deployment, which a Lease
    and `replicas` join; else the NATS servers that join several, with commas between."""
    replicas: Replicas | None = None
    """How replicas join with ``bus: kubernetes``."""
    bus_tls: BusTls | None = None
    transport: Transport = Transport.H2
    """What carries gRPC: ``h2``, or ``grpcio`` for gRPC's own C core, whose limits are its own."""
    max_connections_per_address: Annotated[int, Field(ge=0)] = 0
    """Connections that one client address may have open on the gRPC port; 0 sets no bound."""
    tracing: Tracing | None = None
    webhook: Webhook | None = None

    @model_validator(mode="after")
    def _joined(self) -> Server:
        if (self.bus == "kubernetes") != (self.replicas is not None):
            raise ValueError("bus: kubernetes and replicas go together; set both or neither")
        return self
