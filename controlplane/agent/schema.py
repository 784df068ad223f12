"""What ``agent.yaml`` may say; `controlplane.agent.parse` reads it into values.

The same rules as for ``fleet.yaml`` hold: unknown keys are faults, quantities carry units, and
every fault is reported at once with its place.
Only the reading needs this module, and pydantic with it; a running agent has the values alone.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from controlplane.agent.settings import ENGINE_PORTS, ExporterKind, ProbeKind
from controlplane.config import Engine, MetricsPage
from controlplane.config.addresses import check_url
from controlplane.config.schema.values import Name, Port, Settings, UrlPath, require_pair
from controlplane.config.units import Duration, PositiveDuration, Power, Share, Size

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,252}))")


def check_target(text: str) -> str:
    """Pass ``HOST:PORT`` on; the host may be a name, since an agent resolves names itself.

    Raises:
        PydanticCustomError: it is none.
    """
    host, _, port = text.rpartition(":")
    good = _HOST.fullmatch(host) and port.isascii() and port.isdecimal() and len(port) <= 5
    if not (good and 1 <= int(port) <= 65535):
        raise PydanticCustomError(
            "target",
            "'{text}' is not HOST:PORT; write one such as cp.example.net:18000",
            {"text": text},
        )
    return text


def check_pattern(text: str) -> str:
    """Pass a regular expression on.

    Raises:
        PydanticCustomError: it is none.
    """
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError(
            "pattern",
            "'{text}' is not a regular expression: {why}",
            {"text": text, "why": str(error)},
        ) from None
    return text


Target = Annotated[str, AfterValidator(check_target)]
Pattern = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(check_pattern)]


class AgentTls(Settings):
    """How the agent trusts a control plane, and shows who it is; files are read at each dial."""

    ca: str | None = None
    """File of certificates that may sign the control plane's; the system's by default."""
    cert: str | None = None
    """File of the agent's own certificate; its names decide what it may report for."""
    key: str | None = None
    """File of the certificate's key, in PEM."""
    server_name: str | None = None
    """Name in the control plane's certificate, if not its host."""

    _pair = model_validator(mode="after")(require_pair)


class ControlPlaneTarget(Settings):
    """A control plane that receives every report."""

    address: Target
    """Its gRPC port."""
    tls: AgentTls | None = None
    token_file: str | None = None
    """File that holds a bearer token; read at each dial."""


class LocalInstance(Settings):
    """An instance beside the agent."""

    name: Name
    """As in the control plane's configuration."""
    engine: Engine = Engine.GENERIC
    """Which inference server it is."""
    scrape: MetricsPage
    gpus: tuple[Annotated[int, Field(ge=0, le=64)], ...] = ()
    """Indices of the GPUs that it uses; none means all that the machine has."""


class Discovery(Settings):
    """Looks for engines on ports of loopback and reports what answers."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = "{agent}-{port}"
    """What a found instance is called; ``{agent}``, ``{engine}`` and ``{port}`` are filled in."""
    ports: tuple[Port, ...] = ENGINE_PORTS
    """Ports of this machine that are tried."""
    period: PositiveDuration = 30.0
    """Between two looks."""


class Exporter(Settings):
    """An exporter that already runs on the machine."""

    kind: ExporterKind
    scrape: MetricsPage


class Machine(Settings):
    """What is read of the machine itself."""

    gpu: bool = True
    """Ask NVIDIA's driver, where there is one."""
    rapl: bool = True
    """Count the processors' energy, where the kernel lets us."""
    battery: bool = True
    """Whether the battery is read."""
    exporters: tuple[Exporter, ...] = ()
    idle_power: Power = 0.0
    """Draw that no sensor sees: fans, memory, disks; added to a measured draw."""


class TrainingMetric(Settings):
    """A metric that says the share of the machine that training takes."""

    scrape: MetricsPage
    name: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]
    """Of the metric."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Factor to 0..1."""


class Training(Settings):
    """How a training job on the machine is noticed; jobs may also push to the agent's own API."""

    processes: tuple[Pattern, ...] = ()
    """Regular expressions that a command line of a training job matches. Such a job counts by what
    it takes of an instance's GPUs where NVIDIA's driver says so, else by its processor time."""
    metrics: tuple[TrainingMetric, ...] = ()


class Bandwidth(Settings):
    """A bounded download that measures a path's bandwidth."""

    url: Annotated[str, AfterValidator(check_url)]
    """Of a file that is fetched to measure."""
    size: Size = 1e6
    """Most bytes of one download."""
    period: PositiveDuration = 300.0
    """Between two measurements."""


class Probe(Settings):
    """Another site that the network is measured to."""

    site: Name
    address: Target
    """Usually an Envoy of the site."""
    kind: ProbeKind = ProbeKind.TCP
    path: UrlPath = "/"
    """What is asked for with ``http``; any answer will do."""
    bandwidth: Bandwidth | None = None


class Probes(Settings):
    """The network to other sites."""

    period: PositiveDuration = 5.0
    """Between two probes of a target."""
    timeout: PositiveDuration = 2.0
    """Longest wait for an answer."""
    samples: Annotated[int, Field(ge=1, le=10)] = 3
    """Round trips of one probe, of which the shortest counts: the rest is this machine's delay."""
    targets: tuple[Probe, ...] = ()


class OrcaExport(Settings):
    """Serves what is known of the instances as ORCA, for Envoy's own weighted round robin.

    Each instance gets a port: Envoy asks one port of each endpoint.
    """

    instance: Name
    """Whose load it is."""
    address: Target
    """Where the reports are served."""
    capacity: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Requests it works on at once, for its utilisation; what it says itself by default."""


class Api(Settings):
    """The agent's own HTTP port: health, its state, and training jobs' pushes."""

    address: Target = "127.0.0.1:18090"
    """Where it listens."""


class AgentConfig(Settings):
    """A whole ``agent.yaml``."""

    version: Literal[1]
    """Of this format."""
    id: Name
    """Unique among all agents."""
    site: Name
    """Where it runs; a site of ``fleet.yaml``."""
    control_planes: Annotated[tuple[ControlPlaneTarget, ...], Field(min_length=1)]
    """Whom it reports to, every one of them."""
    period: PositiveDuration = 1.0
    """Time between two batches."""
    buffer: Duration = 25.0
    """Longest time that reports are kept while a control plane is unreachable; less than its
    ``steering.expiry``, beyond which it refuses them."""
    instances: tuple[LocalInstance, ...] = ()
    """What it reads at this site."""
    discover: Discovery | None = None
    machine: Machine = Machine()
    training: Training = Training()
    probes: Probes = Probes()
    orca: tuple[OrcaExport, ...] = ()
    api: Api | None = None
    reports_power: bool = True
    """Report the machine's draw as the site's: leave it to one agent where a site has several."""
    training_floor: Share = 0.02
    """Share of the machine below which a training job is not worth reporting."""
