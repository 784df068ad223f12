"""``instances``: who serves what, and where its metrics are."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from controlplane.config.addresses import check_endpoint, check_instance_address, check_url, is_ip
from controlplane.config.dialects import EngineName
from controlplane.config.engine import Engine
from controlplane.config.schema.gateways import BehindGateway
from controlplane.config.schema.https import Https
from controlplane.config.schema.models import ServedName
from controlplane.config.schema.prices import RateLimit, RequestPrice
from controlplane.config.schema.values import Name, Port, Settings, require_pair, without_default
from controlplane.config.schema.waking import Wake
from controlplane.config.units import PositiveDuration, Power


class MetricsPage(Settings):
    """HTTP endpoint of Prometheus metrics and how it is scraped."""

    url: Annotated[str, AfterValidator(check_url)]
    """URL of the metrics endpoint."""
    period: PositiveDuration = 1.0
    """Scrape interval."""
    timeout: PositiveDuration = 1.0
    """Scrape timeout."""
    ca: str | None = None
    """CA certificates that verify the server, a PEM file; https only, the system's by default."""
    cert: str | None = None
    """Client certificate for servers that require one, a PEM file; https only."""
    key: str | None = None
    """Private key of *cert*, a PEM file; both are read again when they change."""
    token_file: str | None = None
    """File with a bearer token; read at every scrape."""
    labels: dict[str, str] = Field(default_factory=dict, max_length=8)
    """Labels and values that select series, ``*`` as a wildcard, where one page covers several
    instances (Ray Serve: ``ReplicaId``), machines or GPUs (DCGM: ``Hostname``, ``gpu``)."""

    _pair = model_validator(mode="after")(require_pair)


class Scrape(MetricsPage):
    """Metrics endpoint of an instance that the control plane itself scrapes."""

    models_url: Annotated[str, AfterValidator(check_url)] | None = None
    """URL that lists the loaded models, for engines whose metrics do not: ``/v1/models``, or
    Ollama's ``/api/ps``. Read every 15 seconds with the TLS settings and the token of the scrape;
    after a start, models are first assigned to the instances that already hold them."""


class Orca(Settings):
    """Out-of-band load reports of an instance (ORCA), as gRPC and Envoy use them.

    The service is ``xds.service.orca.v3.OpenRcaService``, without TLS.
    """

    port: Port | None = None
    """Port on the instance's host. *port* or *address* is required."""
    address: Annotated[str, AfterValidator(check_endpoint)] | None = None
    """IP:PORT on another host; takes precedence over *port*."""
    period: PositiveDuration = 1.0
    """Requested interval between reports."""

    def target(self, host: str) -> str:
        """Return HOST:PORT for an instance at *host*."""
        if self.address is not None:
            return self.address
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class InstancePower(Settings):
    """Power draw of an instance, from which the energy per request is derived."""

    idle: Power = 0.0
    """Power draw without load."""
    busy: Power = 0.0
    """Power draw at full load."""


class InstanceModel(Settings):
    """One of several models that an instance serves."""

    name: Name
    """Name of a model in ``models``."""
    served_as: ServedName | None = None
    """Model name that this instance expects in requests; by default ``models[].served_as``."""


class Instance(Settings):
    """An endpoint that serves one or more models (CATS: CSCI-ID)."""

    name: Name
    """Unique name: letters, digits, '.', '_' and '-', at most 63 characters."""
    site: Name
    """Site where it runs."""
    address: Annotated[str, AfterValidator(check_instance_address)]
    """IP:PORT, with IPv6 in brackets, or NAME:PORT. The control plane resolves a name again when
    its TTL expires, and keeps the last good answer while resolution fails."""
    model: Annotated[Name, Field(json_schema_extra=without_default)] = ""
    """Model that it serves. Exactly one of *model* and *models* is required."""
    served_as: ServedName | None = None
    """Model name that it expects in requests; by default ``models[].served_as``. Only with
    *model*."""
    models: tuple[Name | InstanceModel, ...] = ()
    """Models that it serves at one address: adapters, or an engine that loads models on demand.
    They share its capacity. A service uses the one with the lowest penalty."""
    max_loaded: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Number of models with a ``load_time`` that it keeps loaded at once: vLLM's ``--max-loras``,
    Ollama's ``OLLAMA_MAX_LOADED_MODELS``; by default as its metrics report."""
    engine: EngineName = Engine.GENERIC
    """Inference server, or the name of a dialect in ``telemetry.dialects``."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Prior for the number of requests that it processes concurrently; learned once it reports."""
    service_time: PositiveDuration | None = None
    """Prior for the time of one request without concurrent ones; by default derived from the
    services' ``service_time``."""
    scrape: Scrape | None = None
    orca: Orca | None = None
    power: InstancePower = InstancePower()
    price: RequestPrice | None = None
    """Price of its requests, weighed against delay by ``steering.energy_value``; by default the
    service's."""
    rate_limit: RateLimit | None = None
    """Rate limit over all client sites; steering uses at most 90 % of it."""
    wake: Wake | None = None
    """Allows the instance to sleep, and starts it when it is worthwhile."""
    tls: bool = True
    """Whether it serves TLS when ``envoy.instance_tls`` is set; without that it has no effect."""
    https: Https | None = None
    """HTTPS with a certificate that is not the fleet's; takes precedence over
    ``envoy.instance_tls``."""
    gateway: BehindGateway | None = None
    """Host and path of its requests, where a shared gateway at its address routes by them."""

    @model_validator(mode="after")
    def _name_first(self) -> Instance:
        # Whatever asks for one model of an instance of several gets the first.
        if not self.model and self.models:
            object.__setattr__(self, "model", self.model_names[0])
        return self

    @model_validator(mode="after")
    def _name_https(self) -> Instance:
        if self.https is None or self.https.name:
            return self
        if is_ip(self.host):
            raise ValueError("https needs a name where the address has none; add https.name")
        # Kept when the address is resolved.
        object.__setattr__(self, "https", self.https.model_copy(update={"name": self.host}))
        return self

    @model_validator(mode="after")
    def _one_host(self) -> Instance:
        if self.https is not None and self.gateway is not None:
            raise ValueError("https has a name and a path of its own; remove gateway")
        return self

    @property
    def model_names(self) -> tuple[str, ...]:
        """Return the names of its models."""
        if not self.models:
            return (self.model,)
        return tuple(each if isinstance(each, str) else each.name for each in self.models)

    @property
    def serves(self) -> tuple[InstanceModel, ...]:
        """Return its models, with the names it serves them under."""
        if not self.models:
            return (InstanceModel(name=self.model, served_as=self.served_as),)
        return tuple(
            InstanceModel(name=each) if isinstance(each, str) else each for each in self.models
        )

    @property
    def host(self) -> str:
        """Return the address without the port and without brackets."""
        return self.address.rsplit(":", 1)[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port of the address."""
        return int(self.address.rsplit(":", 1)[1])
