"""``sites``: where instances and clients are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from controlplane.config.addresses import check_ip
from controlplane.config.schema.values import Name, Port, Settings
from controlplane.config.units import Duration, Power, Share


class SiteKind(StrEnum):
    """Kind of a site; ``device`` stands for a class of devices, each with its own Envoy."""

    CLOUD = "cloud"
    EDGE = "edge"
    DEVICE = "device"


class SitePower(Settings):
    """Energy price, carbon intensity and power budget of a site."""

    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Price of a kilowatt-hour, in the operator's currency."""
    carbon: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Carbon intensity, in grams of CO2 per kilowatt-hour."""
    budget: Power | None = None
    """Limit on the combined power draw of the site's instances; no limit by default."""


class SiteListener(Settings):
    """Listener address and port of one site's Envoys, where they differ from ``envoy``.

    A sidecar listens on loopback and a gateway on all addresses; Envoys that share a machine need
    different ports.
    """

    address: Annotated[str, AfterValidator(check_ip)] | None = None
    """IP address that the site's Envoys listen on; by default ``envoy.address``."""
    port: Port | None = None
    """Port that the site's Envoys listen on; by default ``envoy.port``."""


class DeviceBattery(Settings):
    """How steering spares the batteries of a class of devices."""

    floor: Share = 0.2
    """State of charge below which a device on battery uses its own model only as a last resort,
    when no other instance answers."""
    penalty: Duration = 0.1
    """Extra delay to accept elsewhere before a request uses the model of a device on battery."""


Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class Site(Settings):
    """A location with instances, clients or both (CATS: service site)."""

    name: Name
    """Unique name: letters, digits, '.', '_' and '-', at most 63 characters."""
    kind: SiteKind
    region: str = ""
    """Region, for ``services[].residency`` and in the locality of the site's Envoys and
    endpoints."""
    zone: str = ""
    """Zone in the locality of the site's Envoys and endpoints."""
    zones: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Additional zones of the site: Envoys and instances in them belong to it."""
    coordinates: tuple[Latitude, Longitude] | None = None
    """Latitude and longitude in degrees, north and east positive: the site's place on the
    dashboard's map. Does not affect steering."""
    power: SitePower = SitePower()
    battery: DeviceBattery = DeviceBattery()
    listener: SiteListener = SiteListener()
