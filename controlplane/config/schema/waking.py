"""``instances[].wake``: how an instance that is scaled to zero is started, and when it pays."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from controlplane.config.addresses import check_url, is_loopback
from controlplane.config.schema.values import Settings, require_pair
from controlplane.config.units import PositiveDuration


class Wake(Settings):
    """An instance that may be asleep: scaled to zero, or switched off until it is needed.

    While nothing answers at its address it gets no requests. It is started when the waiting that
    it is expected to save exceeds *price*, or when nothing else can serve what clients ask for.
    """

    start_up: PositiveDuration
    """Time from the call until it serves requests."""
    use: PositiveDuration = 600.0
    """Time that it is expected to run once it is started: what scales it down waits so long."""
    price: PositiveDuration | None = None
    """Waiting that one start has to save over *use*, summed over all requests; by default as much
    as *use*: a second of waiting saved for each second that it runs."""
    url: Annotated[str, AfterValidator(check_url)] | None = None
    """URL to POST to in order to start it. Without it nothing is called: KEDA's scaler and
    metrics say that it is wanted."""
    timeout: PositiveDuration = 5.0
    """Longest wait for the answer of a call."""
    token_file: str | None = None
    """File that holds a bearer token; read at every call. The URL has to be https then, or on this
    machine."""
    ca: str | None = None
    """CA certificates for the server, a PEM file; https only."""
    cert: str | None = None
    """Client certificate for servers that require one, a PEM file; https only."""
    key: str | None = None
    """File of the key to *cert*; both are read again at every call."""

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
