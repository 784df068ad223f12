"""``sites``: where instances and clients are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from controlplane.config.addresses import check_ip
from controlplane.config.schema.values import Name, Port, Settings
from controlplane.config.units import Duration, Power, Share


class SiteKind(StrEnum):
    """Kind of a site."""

    CLOUD = "cloud"
    EDGE = "edge"
    DEVICE = "device"


class SitePower(Settings):
    """Price, carbon intensity and budget of energy at a site."""

    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Price of a kilowatt-hour, in the operator's currency."""
    carbon: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Grams of CO2 per kilowatt-hour."""
    budget: Power | None = None
    """Most power the site's instances may draw together; none means no limit."""


class SiteListener(Settings):
    """Address and port on which the Envoys of one site listen, where they differ from `envoy`'s.

    A sidecar listens on loopback and a gateway on all addresses; Envoys that share a machine need
    a port each.
    """

    address: Annotated[str, AfterValidator(check_ip)] | None = None
    """IP address that its Envoys listen on; ``envoy.address`` if it is left out."""
    port: Port | None = None
    """Port that its Envoys listen on; ``envoy.port`` if it is left out."""


class DeviceBattery(Settings):
    """How far the batteries of a class of devices are preserved."""

    floor: Share = 0.2
    """Charge below which a device that is not on mains keeps its own model for requests that
    nothing else answers."""
    penalty: Duration = 0.1
    """Extra wait that is accepted to preserve the battery of a device that is not on mains."""


Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class Site(Settings):
    """A place that holds instances, clients or both (CATS: service site)."""

    name: Name
    kind: SiteKind
    region: str = ""
    """For residency and for the locality of its Envoys and endpoints."""
    zone: str = ""
    """Zone in the locality of its Envoys and endpoints."""
    zones: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Further zones that belong to it: Envoys and instances there are at this site."""
    coordinates: tuple[Latitude, Longitude] | None = None
    """Latitude and longitude in degrees, north and east positive: its place on the dashboard's map.
    Nothing is decided by it."""
    power: SitePower = SitePower()
    battery: DeviceBattery = DeviceBattery()
    listener: SiteListener = SiteListener()
