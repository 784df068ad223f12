"""What an instance is worth now, and what that is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.config import Config, Model, SiteKind
from controlplane.fleet import trust
from controlplane.fleet.view import ColdStart, Phase
from controlplane.model import Signal


@dataclass(frozen=True, slots=True)
class Seen:
    """What Envoys say of an instance."""

    answered_at: float = -math.inf
    """When it last answered well."""
    observation: trust.Observation | None = None
    """None when Envoys have been silent about it for long."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an instance is worth now."""

    phase: Phase
    confidence: float
    ramp: float
    reason: str
    silent: bool
    """It once reported and no longer does."""
    dropped: frozenset[Signal] = frozenset()
    """Signals that are not believed."""
    awaited: str = ""
    """What ends a phase other than `Phase.LIVE`, in words."""
    trial: bool = False
    cold_start: ColdStart | None = None


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """What the states of all instances take from the configuration; made once for all of them."""

    expiry: float
    slow_start: float
    period: float
    models: Mapping[str, Model]
    device_sites: frozenset[str]

    @classmethod
    def of(cls, config: Config) -> InstanceSettings:
        """Return those of *config*."""
        return cls(
            expiry=config.steering.expiry,
            slow_start=config.steering.slow_start,
            period=config.steering.period,
            models={model.name: model for model in config.models},
            device_sites=frozenset(
                site.name for site in config.sites if site.kind is SiteKind.DEVICE
            ),
        )
