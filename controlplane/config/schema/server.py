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
    """TLS certificates of a server port; reloaded when the files change."""

    cert: str
    """Certificate, a PEM file."""
    key: str
    """Private key of the certificate, a PEM file."""
    client_ca: str | None = None
    """CA certificates of clients, a PEM file. If set, clients must present a certificate that one
    of them signed."""


class Role(StrEnum):
    """Role on the gRPC port; an ``observer`` reads the state of all clients (CSDS)."""

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
    """Role and sites of a client, by a name in its certificate.

    Only with ``server.tls.client_ca``.
    """

    san: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_check_san)]
    """Subject alternative name (SPIFFE ID or DNS name); ``*`` matches anything but a slash, and
    ``{site}`` and ``{id}`` must equal the site and ID that the client reports."""
    role: Role = Role.ENVOY
    """Role of clients with such a certificate."""
    sites: tuple[Name, ...] = ()
    """Sites that the client may report, in addition to ``{site}`` in *san*; an observer needs
    none."""

    @model_validator(mode="after")
    def _name_a_site(self) -> Identity:
        if self.role is not Role.OBSERVER and not self.sites and "{site}" not in self.san:
            raise ValueError("admits no client; set sites, or write {site} in san")
        return self


class Admin(Settings):
    """Access to the HTTP port; beyond loopback, tokens or client certificates are required."""

    token_file: str | None = None
    """File with bearer tokens, one per line; read again when it changes. Browsers send a token as
    the password."""
    tls: Tls | None = None
    """HTTPS certificate. A client certificate signed by its ``client_ca`` is accepted instead of a
    token."""


class AgentRights(Settings):
    """Agent that may report, and the scope of its reports."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """``id`` of the agent."""
    token_hash_file: str | None = None
    """File with the SHA-256 of its bearer token, in hexadecimal; read again when it changes.
    Required without ``server.tls.client_ca``."""
    sites: tuple[Name, ...] = ()
    """Sites on whose instances, paths and power it may report."""
    instances: tuple[Name, ...] = ()
    """Instances on which it may report, at any site."""
    batches_rate: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """Maximum number of batches per second."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Maximum number of reports per batch."""


class BusTls(Settings):
    """TLS from replicas to NATS servers."""

    ca: str | None = None
    """CA certificates that verify the servers, a PEM file; the system's by default."""
    cert: str | None = None
    """Client certificate for servers that require one, a PEM file."""
    key: str | None = None
    """Private key of *cert*, a PEM file."""


class Replicas(Settings):
    """Leader election by a Kubernetes Lease; the other replicas sync state from the leader.

    Each pod needs its own IP address in the environment variable ``POD_IP``.
    """

    lease: KubernetesName = "cats"
    """Name of the Lease that elects the leader."""
    namespace: KubernetesName | None = None
    """Namespace of the Lease; by default the pod's own."""
    api: KubernetesApi = KubernetesApi()
    """Kubernetes API server; by default that of the pod's own cluster."""
    port: Port = 18090
    """Port on which the leader serves the other replicas."""
    key_file: str
    """File with a shared secret of at least 16 characters, which signs messages between replicas.
    The file of the admin tokens may be used."""


class Tracing(Settings):
    """Export of traces of decision cycles; needs ``pip install 'cats-controlplane[tracing]'``."""

    endpoint: Annotated[str, AfterValidator(check_url)]
    """OTLP/HTTP endpoint, such as ``http://127.0.0.1:4318/v1/traces``."""
    sample: Share = 1.0
    """Share of cycles that are traced."""


class Transport(StrEnum):
    """Implementation of the gRPC transport."""

    H2 = "h2"
    GRPCIO = "grpcio"


class Webhook(Settings):
    """Validating admission webhook, which lets Kubernetes reject invalid configurations."""

    address: Annotated[str, AfterValidator(check_ip)] = "0.0.0.0"  # noqa: S104 -- the API server's
    """IP address to listen on."""
    port: Port = 18443
    """Port to listen on."""
    cert: str
    """Certificate, a PEM file; reloaded when it changes."""
    key: str
    """Private key of the certificate, a PEM file."""


class Server(Settings):
    """Ports, access control and replication of the control plane."""

    tls: Tls | None = None
    """TLS of the gRPC port; by default without TLS."""
    identities: tuple[Identity, ...] = (
        Identity(san="spiffe://*/site/{site}/envoy/{id}"),
        Identity(san="spiffe://*/site/{site}/agent/{id}", role=Role.AGENT),
    )
    """Roles and sites of clients by their certificates. By default Envoys have
    ``spiffe://*/site/{site}/envoy/{id}`` and agents ``spiffe://*/site/{site}/agent/{id}``."""
    admin: Admin = Admin()
    agents: tuple[AgentRights, ...] = ()
    """Agents that may report; all others are then rejected. By default any agent may report: on its
    certificate's site with ``tls.client_ca``, else on everything."""
    bus: Annotated[
        str, Field(pattern=r"^(local|kubernetes|(nats|tls)://[^\s,]+(,(nats|tls)://[^\s,]+)*)$")
    ] = "local"
    """How replicas share state: ``local`` for a single replica, ``kubernetes`` for the replicas of
    one Deployment (needs *replicas*), or a comma-separated list of NATS servers."""
    replicas: Replicas | None = None
    """Leader election for ``bus: kubernetes``."""
    bus_tls: BusTls | None = None
    transport: Transport = Transport.H2
    """gRPC implementation: ``h2``, or ``grpcio`` for gRPC's C core, which has limits of its own."""
    max_connections_per_address: Annotated[int, Field(ge=0)] = 0
    """Maximum number of connections from one client address to the gRPC port; 0 sets no limit."""
    tracing: Tracing | None = None
    webhook: Webhook | None = None

    @model_validator(mode="after")
    def _joined(self) -> Server:
        if (self.bus == "kubernetes") != (self.replicas is not None):
            raise ValueError("bus: kubernetes and replicas go together; set both or neither")
        return self
