"""``instances[].wake``: how an instance that is scaled to zero is started, and when it pays."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from controlplane.config.addresses import check_url, is_loopback
from controlplane.config.schema.values import Settings, require_pair
from controlplane.config.units import PositiveDuration


class Wake(Settings):
    """Wake-up of an instance that is scaled to zero or switched off while idle.

    It gets no requests while its address does not respond. It is started when the delay that it is
    expected to save exceeds *price*, or when no other instance can serve the requests.
    """

    start_up: PositiveDuration
    """Time from the start request until it serves requests."""
    use: PositiveDuration = 600.0
    """Expected running time once started; set it to the idle time after which it is scaled down.
    Longer than *start_up*."""
    price: PositiveDuration | None = None
    """Total delay, summed over all requests, that a start has to save during *use*; by default
    *use* itself: one second of delay saved per second of running time."""
    url: Annotated[str, AfterValidator(check_url)] | None = None
    """URL of the POST request that starts it. Without it the control plane starts nothing, and only
    reports the demand to KEDA's scaler and in metrics."""
    timeout: PositiveDuration = 5.0
    """Timeout of that request."""
    token_file: str | None = None
    """File with a bearer token; read at every request. Requires an https URL, unless it is on
    loopback."""
    ca: str | None = None
    """CA certificates that verify the server, a PEM file; https only, the system's by default."""
    cert: str | None = None
    """Client certificate for servers that require one, a PEM file; https only."""
    key: str | None = None
    """Private key of *cert*, a PEM file; both are read again at every request."""

    @property
    def least_saved(self) -> float:
        """Return the seconds of waiting that a start has to save."""
        return self.use if self.price is None else self.price

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.start_up >= self.use:
            raise ValueError("start_up is not shorter than use; it would never have paid")
        require_pair(self)
        parts = urlsplit(self.url or "")
        if self.token_file and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("token_file needs an https URL, so that no one reads the token")
        return self
