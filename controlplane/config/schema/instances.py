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
    """Where a page of metrics is, and how it is read."""

    url: Annotated[str, AfterValidator(check_url)]
    """URL of the metrics page."""
    period: PositiveDuration = 1.0
    """Time between two scrapes."""
    timeout: PositiveDuration = 1.0
    """Longest wait for a page."""
    ca: str | None = None
    """CA certificates for the server, a PEM file; https only."""
    cert: str | None = None
    """Client certificate for servers that require one, a PEM file; https only."""
    key: str | None = None
    """File of the key to *cert*; both are read again when they change."""
    token_file: str | None = None
    """File that holds a bearer token; read at every scrape."""
    labels: dict[str, str] = Field(default_factory=dict, max_length=8)
    """Label to value, with ``*`` for anything, of the series that count where one page holds those
    of several instances (Ray Serve: ``ReplicaId``), machines or GPUs (DCGM: ``Hostname``, ``gpu``).
    """

    _pair = model_validator(mode="after")(require_pair)


class Scrape(MetricsPage):
    """Where the control plane reads an instance's metrics itself."""

    models_url: Annotated[str, AfterValidator(check_url)] | None = None
    """Of the list of models that it holds, where its metrics do not say: ``/v1/models``, Ollama's
    ``/api/ps``. Read every 15 seconds, with the same trust and token; at first, a model is at home
    where it is loaded."""


class Orca(Settings):
    """Where an instance reports its load out of band, in the form that gRPC and Envoy share.

    The service is ``xds.service.orca.v3.OpenRcaService``, in clear text.
    """

    port: Port | None = None
    """Port on the instance's own host."""
    address: Annotated[str, AfterValidator(check_endpoint)] | None = None
    """IP:PORT, where it is another host; wins over *port*."""
    period: PositiveDuration = 1.0
    """Time between two reports."""

    def target(self, host: str) -> str:
        """Return HOST:PORT for an instance at *host*."""
        if self.address is not None:
            return self.address
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class InstancePower(Settings):
    """Power draw of an instance, from which the energy of a request follows."""

    idle: Power = 0.0
    """Power drawn without any request."""
    busy: Power = 0.0
    """Power drawn at full load."""


class InstanceModel(Settings):
    """A model that an instance serves beside others."""

    name: Name
    served_as: ServedName | None = None
    """Name by which this instance serves it; by default ``models[].served_as``."""


class Instance(Settings):
    """A contact instance that requests can be sent to (CATS: CSCI-ID)."""

    name: Name
    site: Name
    address: Annotated[str, AfterValidator(check_instance_address)]
    """IP:PORT, IPv6 in brackets; or NAME:PORT, whose name the control plane resolves again
    when its answer's TTL has passed. The last good answer stays."""
    model: Annotated[Name, Field(json_schema_extra=without_default)] = ""
    """What it runs, if it is one model."""
    served_as: ServedName | None = None
    """Name by which it serves its one model; by default ``models[].served_as``."""
    models: tuple[Name | InstanceModel, ...] = ()
    """What it runs, if there are several at one address: adapters, or an engine that loads what
    is asked for. They share its capacity. A service gets the one it prefers (least penalty)."""
    max_loaded: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Models with a ``load_time`` that it holds at once: vLLM's ``--max-loras``, Ollama's
    ``OLLAMA_MAX_LOADED_MODELS``; by default what its metrics page says."""
    engine: EngineName = Engine.GENERIC
    """The inference server, or the name of one of ``telemetry.dialects``."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Prior for the requests it works on at once; learned when it reports."""
    service_time: PositiveDuration | None = None
    """Prior for the time one request takes when it is alone here."""
    scrape: Scrape | None = None
    orca: Orca | None = None
    power: InstancePower = InstancePower()
    price: RequestPrice | None = None
    """What is charged for a request here, weighed against delay by ``steering.energy_value``."""
    rate_limit: RateLimit | None = None
    """Rate limit over all client sites; shares stay below nine tenths of it."""
    wake: Wake | None = None
    """Lets the instance sleep, and starts it when that pays."""
    tls: bool = True
    """Whether it speaks TLS where ``envoy.instance_tls`` is set; else none does."""
    https: Https | None = None
    """With it, Envoys speak HTTPS to it whatever ``envoy.instance_tls`` says."""
    gateway: BehindGateway | None = None
    """Host and path of its requests, where a gateway at its address serves several instances."""

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
