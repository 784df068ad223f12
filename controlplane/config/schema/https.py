"""HTTPS of instances that are not the fleet's own, and the credentials they ask for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import (
    EnvoyFile,
    HeaderName,
    HeaderValue,
    HostName,
    PathPrefix,
    Settings,
    without_default,
)


class Credential(Settings):
    """Credential that Envoys add to requests for one instance, read from a local file.

    The control plane sends Envoys only the path, and never has the credential itself.
    """

    file: EnvoyFile
    """File on the Envoy's machine that contains the credential alone, such as an API key; reloaded
    when it is replaced."""
    header: HeaderName = "authorization"
    """Request header for the credential; a value from the client is removed."""
    prefix: HeaderValue = "Bearer "
    """Prefix of the header value."""
    secrets: EnvoyFile = "/etc/cats/envoy"
    """Directory with the SDS files that ``cats bootstrap --secrets`` writes, which refer to
    *file*."""


class Https(Settings):
    """HTTPS to an instance outside the fleet's own PKI, such as a provider's API.

    Envoys do not actively health-check it; only its responses count.
    """

    name: Annotated[HostName, Field(json_schema_extra=without_default)] = ""
    """Host name for SNI, certificate verification and the request's Host header; by default the DNS
    name in ``address``, and required if that is an IP address."""
    ca: EnvoyFile = "/etc/ssl/certs/ca-certificates.crt"
    """CA certificates that verify the instance, a PEM file on the Envoy's machine."""
    path: Annotated[PathPrefix, Field(json_schema_extra=without_default)] = ""
    """Path prefix to add, such as ``/openai`` for an API below that path."""
    credential: Credential | None = None
