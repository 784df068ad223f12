"""``SCENARIO.yaml`` as values: a fleet, who asks, what happens, how well the control plane hears.

Units are those of ``fleet.yaml`` (``250ms``, ``30%``).
A scenario holds no random choice: together with a seed it gives one world.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from controlplane.config import PolicyName
from controlplane.config.parse import read_values
from controlplane.config.schema.values import Name, Settings
from controlplane.config.source import parse_source
from controlplane.config.units import Duration, PositiveDuration, Power, Share
from controlplane.errors import ConfigError
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.happenings import Happening, What
from controlplane.sim.loop import VARIANTS
from controlplane.sim.policies import BASELINES
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.workload import TRACES, Burst, Sessions, Stream, Work

Factor = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class FleetKind(StrEnum):
    """Fleets that come with the simulator, and `custom`."""

    QUEUE = "queue"
    """Twelve unequal edges and a cloud whose engines queue."""
    BATCHING = "batching"
    """The same with engines that batch."""
    EQUAL = "equal"
    """Sixteen equal servers of one slot, twenty sidecars, no network."""
    UNEQUAL = "unequal"
    """Ten servers of one slot and speeds 4 to 0.5, twenty sidecars, no network."""
    RAMP = "ramp"
    """The queue-like edges with a sensitive and a tolerant service, load rising in eight steps."""
    NEAR = "near"
    """A near site that a tolerant service fills half-way through, beside a sensitive one."""
    CUSTOM = "custom"
    """The fleet of a ``fleet.yaml``, with `engines` and `clients` given here."""


class EngineSettings(Settings):
    """What an instance truly is."""

    kind: Literal["work", "tokens"] = "work"
    """``work`` takes seconds, ``tokens`` reads prompts and decodes token by token."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 8
    speed: Annotated[float, Field(gt=0, le=1000)] = 1.0
    slowdown: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Time that each further request in service adds, as a part of the lone time."""
    prefill_rate: Annotated[float, Field(gt=0)] = 8000.0
    """Prompt tokens read a second."""
    step_time: PositiveDuration = 0.02
    """Time of one decoding step with one sequence."""
    kv_tokens: Annotated[float, Field(gt=0)] = 200_000.0
    idle_power: Power = 0.0
    busy_power: Power = 0.0
    cached_sessions: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Sessions whose prompts it remembers; 0 for none."""
    cache_saves: Share = 0.6
    """Part of a remembered prompt that need not be read again."""
    prompt_part: Share = 0.5
    """Part of a request's work that is reading its prompt (kind work)."""

    def spec(self) -> EngineSpec:
        """Return the engine's value."""
        return EngineSpec(**self.model_dump())


class BurstSettings(Settings):
    """A rate that jumps between a low and a high state."""

    ratio: Annotated[float, Field(ge=1, le=1000)] = 5.0
    share: Annotated[Share, Field(gt=0, lt=1)] = 0.2
    """Part of the time in the high state."""
    length: PositiveDuration = 5.0
    """Mean stay in the high state."""


class WorkloadSettings(Settings):
    """How requests arrive and what they ask for; for generated fleets it shapes all streams."""

    cv: Annotated[float, Field(gt=0, le=20)] = 1.0
    """Variability of the gaps between requests; 1 is Poisson."""
    burst: BurstSettings | None = None
    day: Duration = 0.0
    """Length of a simulated day; 0 has no rhythm."""
    swing: Share = 0.6
    trace: str = ""
    """Replay of a trace's times and lengths."""

    @model_validator(mode="after")
    def _known_trace(self) -> WorkloadSettings:
        if self.trace and self.trace not in TRACES:
            raise PydanticCustomError(
                "trace_unknown",
                "'{trace}' is no trace; there are {known}",
                {"trace": self.trace, "known": ", ".join(TRACES)},
            )
        return self

    def shape(self, stream: Stream) -> Stream:
        """Apply the settings to a stream."""
        burst = self.burst
        return replace(
            stream,
            cv=self.cv,
            burst=None if burst is None else Burst(burst.ratio, burst.share, burst.length),
            day=self.day,
            swing=self.swing,
            trace=self.trace,
        )


class SessionSettings(Settings):
    """Requests that belong together: each turn repeats the prompt of those before."""

    turns: Annotated[float, Field(ge=1, le=10_000)] = 8.0
    """Mean number of turns of a session."""
    pause: PositiveDuration = 20.0
    """Mean time from one turn to the next."""


class ClientSettings(WorkloadSettings):
    """Requests for one service from one client site of a custom fleet."""

    site: Name
    service: Name
    rate: Rate
    """Mean requests a second."""
    work: PositiveDuration = 0.5
    """Mean time alone at speed 1 (engines of kind work)."""
    sigma: Annotated[float, Field(ge=0, le=3)] = 0.6
    """Spread of the work (log-normal)."""
    prompt: Annotated[float, Field(gt=0)] = 1155.0
    output: Annotated[float, Field(gt=0)] = 211.0
    sessions: SessionSettings | None = None
    """What requests belong to; they then have no rhythm of their own."""

    def stream(self) -> Stream:
        """Return the stream."""
        work = Work(self.work, self.sigma, "lognormal", self.prompt, self.output)
        sessions = None
        if self.sessions is not None:
            sessions = Sessions(self.sessions.turns, self.sessions.pause)
        return self.shape(Stream(self.site, self.service, self.rate, work, sessions=sessions))


class FleetSettings(Settings):
    """What exists."""

    kind: FleetKind = FleetKind.QUEUE
    utilisation: Annotated[float, Field(gt=0, le=5)] = 0.8
    """Load as a part of all capacity; generated fleets only."""
    known: bool = False
    """Report the control plane slots and service times as they truly are."""
    sidecars: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Envoys at each client site."""
    config: str = ""
    """File of a custom fleet's configuration, relative to the scenario."""
    engines: dict[Name, EngineSettings] = Field(default_factory=dict)
    """By instance, for a custom fleet; others get the defaults and their configured slots."""
    clients: tuple[ClientSettings, ...] = ()
    """For a custom fleet."""


class TelemetryModel(Settings):
    """How well the control plane is informed."""

    period: PositiveDuration = 1.0
    delay: Duration = 0.0
    loss: Share = 0.0
    noise: Share = 0.0
    """Relative spread of gauges and latencies."""
    traffic_period: PositiveDuration = 1.0
    envoy_latency: bool = True
    path_period: PositiveDuration = 5.0
    spread: bool = True
    """Whether each sender has a phase of its own; else all report just before a period ends."""

    def value(self) -> TelemetrySettings:
        """Return the simulator's value."""
        return TelemetrySettings(**self.model_dump())


class EventSettings(Settings):
    """Something that happens."""

    what: What
    at: Duration
    until: PositiveDuration | None = None
    amount: Factor = 1.0
    """Part of the speed that is left, part of the machine taken, factor on the rate, seconds of
    round trip added, factor on what is reported: see the kinds."""
    instances: tuple[Name, ...] = ()
    """None means all."""
    clients: tuple[Name, ...] = ()
    """Client sites; none means all."""
    envoys: bool = False
    """With ``silence``: the Envoys fall silent, too."""

    def value(self) -> Happening:
        """Return the simulator's value."""
        return Happening(
            self.what,
            self.at,
            math.inf if self.until is None else self.until,
            self.amount,
            self.instances,
            self.clients,
            self.envoys,
        )


class WindowSettings(Settings):
    """A named part of the run."""

    name: Name
    start: Annotated[Duration, Field(alias="from")]
    end: Annotated[Duration, Field(alias="to")]


POLICIES = (
    "controlplane",
    *(f"controlplane:{name}" for name in (*PolicyName, *VARIANTS)),
    *BASELINES,
)
"""Everything that can be asked for: the control plane as configured, under one of its policies or
without something that is configured, and the baselines."""


def check_policy(name: str) -> str:
    """Refuse an unknown policy.

    Raises:
        PydanticCustomError: with the names that there are.
    """
    if name not in POLICIES:
        raise PydanticCustomError(
            "policy_unknown",
            "'{name}' is not a policy; there are {known}",
            {"name": name, "known": ", ".join(POLICIES)},
        )
    return name


class Scenario(Settings):
    """A whole ``SCENARIO.yaml``."""

    name: str = "scenario"
    fleet: FleetSettings = FleetSettings()
    workload: WorkloadSettings = WorkloadSettings()
    """For generated fleets."""
    duration: PositiveDuration = 85.0
    windows: tuple[WindowSettings, ...] = ()
    """By default one, from 20 s (or a quarter of the run) to the end."""
    period: PositiveDuration = 1.0
    """Time between decisions, of baselines too."""
    telemetry: TelemetryModel = TelemetryModel()
    events: tuple[EventSettings, ...] = ()
    policies: Annotated[
        tuple[Annotated[str, AfterValidator(check_policy)], ...], Field(min_length=1)
    ] = ("controlplane", "capacity", "oracle")
    steering: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Overrides of the configuration's ``steering`` for generated fleets."""

    def all_windows(self) -> tuple[WindowSettings, ...]:
        """Return the windows, the default one if none are named."""
        if self.windows:
            return self.windows
        start = min(20.0, self.duration / 4)
        return (WindowSettings.model_construct(name="all", start=start, end=self.duration),)


def parse_scenario(text: str, *, file: str) -> Scenario:
    """Read a scenario; *file* is the name that faults carry.

    Raises:
        ConfigError: with every fault found.
    """
    scenario, faults = read_values(parse_source(text, file=file), Scenario)
    if scenario is None or faults:
        raise ConfigError(faults)
    return scenario
