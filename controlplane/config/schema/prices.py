"""What energy and requests cost: the mappings that several sections of ``fleet.yaml`` hold."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from controlplane.config.addresses import check_url
from controlplane.config.schema.values import Settings, require_pair
from controlplane.config.units import PositiveDuration

TARIFF_EXPIRY = 86400.0
"""Seconds for which a tariff stays in force by default: feeds of a day's prices come daily."""


class RequestPrice(Settings):
    """Price of requests, in the operator's currency."""

    request: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 0.0
    """Price per request."""
    input_tokens: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Price per million prompt tokens."""
    output_tokens: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Price per million output tokens."""


class RequestTokens(Settings):
    """Mean token counts of a service's requests."""

    input: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Mean prompt tokens per request."""
    output: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Mean output tokens per request."""


class RateLimit(Settings):
    """Rate above which a provider rejects requests with 429."""

    requests_per_minute: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    """Requests per minute; unlimited by default."""
    tokens_per_minute: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)] | None = None
    """Prompt and output tokens per minute; unlimited by default. Needs ``services[].tokens``, or
    instances that report token counts."""

    def requests(self, tokens: float) -> float:
        """Return the requests a second that it allows, of *tokens* each; infinite if all."""
        limits = [math.inf]
        if self.requests_per_minute is not None:
            limits.append(self.requests_per_minute / 60)
        if self.tokens_per_minute is not None and tokens > 0:
            limits.append(self.tokens_per_minute / 60 / tokens)
        return min(limits)


class Tariffs(Settings):
    """Feed of energy prices: YAML or JSON with ``sites: {NAME: {price, carbon}}``.

    Errors in the feed are logged, and the last valid values stay in force until *expiry*.
    """

    url: Annotated[str, AfterValidator(check_url)] | None = None
    """URL of the feed. Exactly one of *url* and *file* is required."""
    file: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Path of a file to read instead of *url*."""
    period: PositiveDuration = 300.0
    """Interval between reads."""
    timeout: PositiveDuration = 10.0
    """Timeout of a request."""
    expiry: PositiveDuration = TARIFF_EXPIRY
    """Age at which values expire; the configured ``sites[].power`` then applies."""
    ca: str | None = None
    """CA certificates that verify the server, a PEM file; https only, the system's by default."""
    cert: str | None = None
    """Client certificate for servers that require one, a PEM file; https only."""
    key: str | None = None
    """Private key of *cert*, a PEM file."""
    token_file: str | None = None
    """File with a bearer token; read at each request."""

    @model_validator(mode="after")
    def _one_origin(self) -> Tariffs:
        if (self.url is None) == (self.file is None):
            raise ValueError("needs either url or file")
        return require_pair(self)

    @property
    def origin(self) -> str:
        """Return the URL or the file."""
        return self.url or self.file or ""
