"""What is published of the effective configuration: its status, and what changed."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.config import Config, MergedConfig, RejectedInstance
from controlplane.controller.overrides import ActiveOverride
from controlplane.errors import Fault


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """Which configuration is in force, and what came of the last attempt to replace it."""

    file: str
    version: str
    """Hash of the values in force."""
    loaded_at: float
    """When it came into force, on the monotonic clock."""
    faults: tuple[Fault, ...] = ()
    """Why the newest text was rejected; empty when it is the one in force."""
    refused_at: float | None = None


@dataclass(frozen=True, slots=True)
class PendingConfig:
    """A configuration that waits for the next cycle."""

    config: Config
    quiet: bool
    """Whether only discovery changed it, which has reported that already."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A configuration that is to be put in force, or has been."""

    config: Config
    version: str
    quiet: bool
    """Whether only discovery changed it, which has reported that already."""


@dataclass(frozen=True, slots=True)
class DiscoveryChange:
    """What discovery came to, before and now."""

    before: MergedConfig
    now: MergedConfig
    refused_before: tuple[RejectedInstance, ...]
    refused_now: tuple[RejectedInstance, ...]


@dataclass(frozen=True, slots=True)
class OverrideChange:
    """An override that was added, removed or has expired."""

    event: str
    override: ActiveOverride
    removed_by: str = ""
