"""``steering`` and ``overrides``: how decisions are made, and what operators impose."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from controlplane.config.schema.prices import TARIFF_EXPIRY, Tariffs
from controlplane.config.schema.services import Canary, PolicyName
from controlplane.config.schema.values import Name, Settings
from controlplane.config.units import Duration, PositiveDuration, Share


class Mode(StrEnum):
    """Whether decided weights are pushed to Envoys."""

    STEER = "steer"
    OBSERVE = "observe"


class Steering(Settings):
    """Policy, timing and prices of steering decisions."""

    policy: PolicyName = PolicyName.OPTIMAL
    canary: Canary | None = None
    """Policy at one client site, for services without a policy or canary of their own."""
    mode: Mode = Mode.STEER
    """``steer`` pushes the decided weights; ``observe`` computes and explains them, but pushes
    static weights."""
    period: PositiveDuration = 1.0
    """Interval between decisions."""
    expiry: PositiveDuration = 30.0
    """Age at which an instance's reports expire. Without fresh reports it gets no requests, while
    others of its service have them."""
    probe_share: Annotated[Share, Field(le=0.5)] = 0.01
    """Maximum share of a client site's requests that probe instances which were slow or failing, to
    detect recovery; 0 disables probing."""
    min_gain: Share = 0.04
    """Predicted improvement, relative to the cost that shares can change, below which weights are
    not changed."""
    shed_tolerant: bool = True
    """Shed a fraction of the requests of delay-tolerant services (503) while demand exceeds
    capacity, so that the others are still served in time."""
    slow_start: Duration = 10.0
    """Time over which a new instance ramps up to its full share; 0 disables slow start."""
    weight_sum: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Sum of the weights of a service at a client site."""
    energy_value: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds of delay that one currency unit of energy, carbon or request price is worth; 0
    ignores prices. It is the same for all services, so that a service with a ``delay_weight`` of
    0.1 accepts ten times the delay for the same saving."""
    carbon_price: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Price of a kilogram of CO2, in the operator's currency; needs ``energy_value``."""
    tariffs: Tariffs | None = None
    """Feed of energy prices and carbon intensities. ``sites[].power`` applies until the first read
    and to sites that are not in the feed."""

    @property
    def tariff_expiry(self) -> float:
        """Return the seconds for which a tariff that was read stays in force."""
        return TARIFF_EXPIRY if self.tariffs is None else self.tariffs.expiry


class Override(Settings):
    """Manual override for one service, or all, at an instance or site."""

    service: Name | None = None
    """Service that it applies to; all services by default."""
    instance: Name | None = None
    """Instance that it applies to. *instance* or *site* is required."""
    site: Name | None = None
    """Site that it applies to, with all of its instances."""
    drain: bool = False
    """Send no requests there."""
    pin: bool = False
    """Send all requests there."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Fixed weight relative to other instances; only with the policy ``static`` or with *pin*."""
    max_share: Share | None = None
    """Maximum share of each client site's requests."""
    min_share: Share | None = None
    """Minimum share of each client site's requests."""
    reason: str = ""
    """Free text, shown by the API and the dashboard."""
