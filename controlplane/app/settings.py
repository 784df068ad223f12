"""What the command line of ``cats serve`` decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from controlplane.controller.control_plane import ControlPlane
from controlplane.runtime.addresses import Address

Extension = Callable[[ControlPlane], Iterable[web.RouteDef]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line decides."""

    config_file: Path
    xds: Address = ("127.0.0.1", 18000)
    admin: Address = ("127.0.0.1", 18080)
    state_dir: Path | None = None
    record: Path | None = None
    """Directory that every report is written to."""
    settle: float | None = None
    """Seconds that first reports get before the first plan; by default one period, at most 1 s."""
    extend: Extension | None = None
    """Adds routes to the admin port; for conformance tests."""
    max_connections: int = 20_000
    """Of the gRPC port; fewer where the system allows fewer files, logged if less than half."""
