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
    """Price of a request."""
    input_tokens: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Price of a million prompt tokens."""
    output_tokens: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Price of a million output tokens."""


class RequestTokens(Settings):
    """Mean tokens of a service's requests."""

    input: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Tokens of a prompt."""
    output: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """Tokens of an answer."""


class RateLimit(Settings):
    """Rate beyond which a provider rejects requests with 429."""

    requests_per_minute: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    """Requests a minute."""
    tokens_per_minute: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)] | None = None
    """Tokens a minute, of prompts and answers; needs ``services[].tokens``, or instances that
    report theirs."""

    def requests(self, tokens: float) -> float:
        """Return the requests a second that it allows, of *tokens* each; infinite if all."""
        limits = [math.inf]
        if self.requests_per_minute is not None:
            limits.append(self.requests_per_minute / 60)
        if self.tokens_per_minute is not None and tokens > 0:
            limits.append(self.tokens_per_minute / 60 / tokens)
        return min(limits)


class Tariffs(Settings):
    """A feed of what energy costs: YAML or JSON with ``sites: {NAME: {price, carbon}}``.

    What is wrong in it is logged and changes nothing: the last good values stay.
    """

    url: Annotated[str, AfterValidator(check_url)] | None = None
    """URL of the feed."""
    file: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """File to read instead of *url*."""
    period: PositiveDuration = 300.0
    """Time between two reads."""
    timeout: PositiveDuration = 10.0
    """Longest wait for an answer."""
    expiry: PositiveDuration = TARIFF_EXPIRY
    """Age at which what was read no longer counts, and the configured values do."""
    ca: str | None = None
    """CA certificates for the server, a PEM file; https only."""
    cert: str | None = None
    """Client certificate for servers that require one, a PEM file; https only."""
    key: str | None = None
    """File of the key to *cert*."""
    token_file: str | None = None
    """File that holds a bearer token; read each time."""

    @model_validator(mode="after")
    def _one_origin(self) -> Tariffs:
        if (self.url is None) == (self.file is None):
            raise ValueError("needs either url or file")
        return require_pair(self)

    @property
    def origin(self) -> str:
        """Return the URL or the file."""
        return self.url or self.file or ""
