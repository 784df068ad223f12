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
    """Whether decisions are pushed to Envoys."""

    STEER = "steer"
    OBSERVE = "observe"


class Steering(Settings):
    """How shares are decided, and how often."""

    policy: PolicyName = PolicyName.OPTIMAL
    canary: Canary | None = None
    """Overrides ``steering.policy`` at one client site, for services that have neither a policy
    nor a canary of their own."""
    mode: Mode = Mode.STEER
    """``observe`` decides and explains, but pushes the static split."""
    period: PositiveDuration = 1.0
    """Time between decisions."""
    expiry: PositiveDuration = 30.0
    """Age at which reports of an instance expire."""
    probe_share: Annotated[Share, Field(le=0.5)] = 0.01
    """Largest part of a client site's requests for instances that were slow once, to see whether
    they have recovered; 0 never asks again."""
    min_gain: Share = 0.04
    """Predicted gain, as a part of the cost that shares can change, below which weights stay as
    they are."""
    shed_tolerant: bool = True
    """Refuse a part of the requests of delay-tolerant services (503) while instances are full and
    demand exceeds capacity, so that others are still served in time."""
    slow_start: Duration = 10.0
    """Time over which a new instance rises to its full share."""
    weight_sum: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Sum of the weights of one service at one client site."""
    energy_value: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds of delay that one currency unit is worth: of energy, of carbon and of requests with a
    price. It is worth as much whichever service spends it, so one whose delay costs a tenth waits
    ten times as long to save it. 0 ignores prices."""
    carbon_price: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Price of a kilogram of CO2, in the operator's currency; needs ``energy_value``."""
    tariffs: Tariffs | None = None
    """Where prices of energy and its carbon are read while running; until then, and for sites that
    it does not name, ``sites[].power`` counts."""

    @property
    def tariff_expiry(self) -> float:
        """Return the seconds for which a tariff that was read stays in force."""
        return TARIFF_EXPIRY if self.tariffs is None else self.tariffs.expiry


class Override(Settings):
    """An operator's override for a service (or all) at an instance or a site."""

    service: Name | None = None
    """Service that it applies to; all if it is left out."""
    instance: Name | None = None
    """Instance that it applies to."""
    site: Name | None = None
    """Site that it applies to: all its instances together."""
    drain: bool = False
    """Sends no requests there."""
    pin: bool = False
    """Sends all requests there."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Fixed weight under the policy ``static``, beside the others' weights."""
    max_share: Share | None = None
    """Largest share of each client site's requests that goes there."""
    min_share: Share | None = None
    """Least share of each client site's requests that goes there."""
    reason: str = ""
    """Reason, shown by the API and the dashboard."""
