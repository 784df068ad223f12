"""The configuration as values: what ``fleet.yaml`` says, in SI units, frozen.

Each class is one mapping of the document and each field one key, with the sentence that the
JSON Schema and the reference show an operator.
Durations are seconds, sizes bytes, rates bytes a second, powers watts, shares 0 to 1:
the unit strings of the file are read by `controlplane.config.units`.
Rules that look at one value live here; rules that compare several live in
`controlplane.config.rules`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from controlplane.config.dialects import Telemetry
from controlplane.config.schema.discovery import Discovery
from controlplane.config.schema.envoy import Envoy
from controlplane.config.schema.instances import Instance
from controlplane.config.schema.models import Model
from controlplane.config.schema.network import Network
from controlplane.config.schema.server import Server
from controlplane.config.schema.services import Service
from controlplane.config.schema.sites import Site
from controlplane.config.schema.steering import Override, Steering
from controlplane.config.schema.values import Settings


class Config(Settings):
    """The whole of ``fleet.yaml``."""

    version: Literal[1]
    """Version of the file format."""
    sites: Annotated[tuple[Site, ...], Field(min_length=1)]
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    services: Annotated[tuple[Service, ...], Field(min_length=1)]
    instances: tuple[Instance, ...] = ()
    discovery: Discovery | None = None
    telemetry: Telemetry = Telemetry()
    network: Network = Network()
    steering: Steering = Steering()
    overrides: tuple[Override, ...] = ()
    envoy: Envoy = Envoy()
    server: Server = Server()
