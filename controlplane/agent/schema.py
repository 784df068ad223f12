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
    """TLS to a control plane; the files are read at each connection attempt."""

    ca: str | None = None
    """CA certificates that verify the control plane, a PEM file; the system's by default."""
    cert: str | None = None
    """Client certificate of the agent, a PEM file; its names determine what it may report."""
    key: str | None = None
    """Private key of *cert*, a PEM file."""
    server_name: str | None = None
    """Name that the control plane's certificate must carry; by default the host in *address*."""

    _pair = model_validator(mode="after")(require_pair)


class ControlPlaneTarget(Settings):
    """A control plane that receives every report."""

    address: Target
    """HOST:PORT of its gRPC port."""
    tls: AgentTls | None = None
    token_file: str | None = None
    """File with a bearer token; read at each connection attempt."""


class LocalInstance(Settings):
    """An instance whose metrics the agent scrapes."""

    name: Name
    """Name of the instance in ``fleet.yaml``."""
    engine: Engine = Engine.GENERIC
    """Inference server, which determines the metric names."""
    scrape: MetricsPage
    gpus: tuple[Annotated[int, Field(ge=0, le=64)], ...] = ()
    """Indices of the GPUs that it uses; by default all of the machine's."""


class Discovery(Settings):
    """Discovery of inference servers on loopback ports."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = "{agent}-{port}"
    """Name of a discovered instance; ``{agent}``, ``{engine}`` and ``{port}`` are replaced."""
    ports: tuple[Port, ...] = ENGINE_PORTS
    """Ports to probe; by default 8000, 8080, 8002, 30000 and 3000."""
    period: PositiveDuration = 30.0
    """Interval between scans."""


class Exporter(Settings):
    """A metrics exporter of the machine."""

    kind: ExporterKind
    scrape: MetricsPage


class Machine(Settings):
    """Metrics of the machine itself."""

    gpu: bool = True
    """Read GPUs through NVIDIA's driver, if present."""
    rapl: bool = True
    """Read the processors' energy counters (RAPL), if the kernel permits it."""
    battery: bool = True
    """Read the battery, if present."""
    exporters: tuple[Exporter, ...] = ()
    idle_power: Power = 0.0
    """Constant draw that no sensor measures, such as fans, memory and disks; added to the draw of
    processors and GPUs, not to that of a battery."""


class TrainingMetric(Settings):
    """A metric of the share of the machine that training uses."""

    scrape: MetricsPage
    name: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]
    """Name of the metric."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Factor that converts the value to 0..1."""


class Training(Settings):
    """Detection of training jobs; a job may also report itself to the agent's API."""

    processes: tuple[Pattern, ...] = ()
    """Regular expressions for command lines of training jobs. A job's load is its use of an
    instance's GPUs if NVIDIA's driver reports it, else its processor time."""
    metrics: tuple[TrainingMetric, ...] = ()


class Bandwidth(Settings):
    """A bounded download that measures a path's bandwidth."""

    url: Annotated[str, AfterValidator(check_url)]
    """URL of a file to download."""
    size: Size = 1e6
    """Maximum size of a download."""
    period: PositiveDuration = 300.0
    """Interval between measurements."""


class Probe(Settings):
    """Network probe of another site."""

    site: Name
    """Site that is probed."""
    address: Target
    """HOST:PORT to probe, usually an Envoy of the site."""
    kind: ProbeKind = ProbeKind.TCP
    path: UrlPath = "/"
    """HTTP path for *kind* ``http``; any status is accepted."""
    bandwidth: Bandwidth | None = None


class Probes(Settings):
    """Network probes of other sites."""

    period: PositiveDuration = 5.0
    """Interval between probes of a target."""
    timeout: PositiveDuration = 2.0
    """Timeout of a probe."""
    samples: Annotated[int, Field(ge=1, le=10)] = 3
    """Round trips per probe; the minimum is reported, which excludes delays on this machine."""
    targets: tuple[Probe, ...] = ()


class OrcaExport(Settings):
    """Serves an instance's load over ORCA, for Envoy's client-side weighted round robin.

    Each instance needs a port of its own: Envoy queries one port per endpoint.
    """

    instance: Name
    """Name of the instance."""
    address: Target
    """HOST:PORT to listen on."""
    capacity: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum number of concurrent requests, from which utilisation is computed; by default as the
    instance reports."""


class Api(Settings):
    """HTTP API of the agent: health, state, and reports of training jobs."""

    address: Target = "127.0.0.1:18090"
    """HOST:PORT to listen on."""


class AgentConfig(Settings):
    """The whole of ``agent.yaml``."""

    version: Literal[1]
    """Version of the file format."""
    id: Name
    """Unique ID among all agents: letters, digits, '.', '_' and '-', at most 63 characters."""
    site: Name
    """Site in ``fleet.yaml`` where the agent runs."""
    control_planes: Annotated[tuple[ControlPlaneTarget, ...], Field(min_length=1)]
    """Control planes; each receives all reports."""
    period: PositiveDuration = 1.0
    """Interval between batches of reports."""
    buffer: Duration = 25.0
    """Maximum time to buffer reports while a control plane is unreachable; keep it below
    ``steering.expiry``, beyond which reports are rejected."""
    instances: tuple[LocalInstance, ...] = ()
    """Instances whose metrics the agent scrapes."""
    discover: Discovery | None = None
    machine: Machine = Machine()
    training: Training = Training()
    probes: Probes = Probes()
    orca: tuple[OrcaExport, ...] = ()
    api: Api | None = None
    reports_power: bool = True
    """Report the machine's power draw as the site's; enable it on one agent per site only."""
    training_floor: Share = 0.02
    """Share of the machine below which training load is reported as 0."""
