"""What one agent measures and to whom it reports: values in SI units, frozen.

What each field means to an operator is said where ``agent.yaml`` is read
(`controlplane.agent.parse`), which fills these; the two hold the same fields.
Nothing is checked here, and pydantic is not needed: the agent's memory counts at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from controlplane.config.engine import Engine

ENGINE_PORTS = (8000, 8080, 8002, 30000, 3000)
"""Where engines serve metrics by default: vLLM and trtllm-serve, llama.cpp, Triton,
SGLang, TGI in its container."""


class ExporterKind(StrEnum):
    """Exporter of a machine's metrics: NVIDIA's DCGM exporter or Prometheus's node exporter."""

    DCGM = "dcgm"
    NODE = "node"


class ProbeKind(StrEnum):
    """How a round trip is measured."""

    TCP = "tcp"
    """Time to connect: one round trip, answered by the other machine's kernel."""
    HTTP = "http"
    """Time to the first byte of an answer on an open connection: sees through relays."""


@dataclass(frozen=True, slots=True)
class AgentTls:
    """How the agent trusts a control plane, and shows who it is."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class ControlPlaneTarget:
    """A control plane that receives every report."""

    address: str
    tls: AgentTls | None = None
    token_file: str | None = None


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """A page of metrics."""

    url: str
    period: float = 1.0
    timeout: float = 1.0
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def models_url(self) -> None:
        """Return none: an agent's report does not carry which models are loaded."""


@dataclass(frozen=True, slots=True)
class LocalInstance:
    """An instance beside the agent."""

    name: str
    scrape: MetricsPage
    engine: Engine = Engine.GENERIC
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Discovery:
    """Looks for engines on ports of loopback."""

    name: str = "{agent}-{port}"
    ports: tuple[int, ...] = ENGINE_PORTS
    period: float = 30.0


@dataclass(frozen=True, slots=True)
class Exporter:
    """An exporter that already runs on the machine."""

    kind: ExporterKind
    scrape: MetricsPage


@dataclass(frozen=True, slots=True)
class Machine:
    """What is read of the machine itself."""

    gpu: bool = True
    rapl: bool = True
    battery: bool = True
    exporters: tuple[Exporter, ...] = ()
    idle_power: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingMetric:
    """A metric that says the share of the machine that training takes."""

    scrape: MetricsPage
    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """How a training job on the machine is noticed."""

    processes: tuple[str, ...] = ()
    metrics: tuple[TrainingMetric, ...] = ()


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A bounded download that measures a path's bandwidth."""

    url: str
    size: float = 1e6
    period: float = 300.0


@dataclass(frozen=True, slots=True)
class Probe:
    """Another site that the network is measured to."""

    site: str
    address: str
    kind: ProbeKind = ProbeKind.TCP
    path: str = "/"
    bandwidth: Bandwidth | None = None


@dataclass(frozen=True, slots=True)
class Probes:
    """The network to other sites."""

    period: float = 5.0
    timeout: float = 2.0
    samples: int = 3
    targets: tuple[Probe, ...] = ()


@dataclass(frozen=True, slots=True)
class OrcaExport:
    """Serves what is known of one instance as ORCA."""

    instance: str
    address: str
    capacity: float | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """The agent's own HTTP port."""

    address: str = "127.0.0.1:18090"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """A whole ``agent.yaml``."""

    id: str
    site: str
    control_planes: tuple[ControlPlaneTarget, ...]
    version: Literal[1] = 1
    period: float = 1.0
    buffer: float = 25.0
    instances: tuple[LocalInstance, ...] = ()
    discover: Discovery | None = None
    machine: Machine = field(default_factory=Machine)
    training: Training = field(default_factory=Training)
    probes: Probes = field(default_factory=Probes)
    orca: tuple[OrcaExport, ...] = ()
    api: Api | None = None
    reports_power: bool = True
    training_floor: float = 0.02
